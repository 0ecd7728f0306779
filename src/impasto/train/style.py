"""From a painting and photographs to a style with a network of its own."""

import dataclasses
import datetime as dt
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from impasto.errors import RequestError
from impasto.nets.export import export_onnx
from impasto.nets.painter import MULTIPLE_OF, SIZES, Painter
from impasto.styles import Style, check_own_name, save_style
from impasto.styles.vectors import bind_style
from impasto.train import start as starts
from impasto.train.config import Rhythm, TrainConfig
from impasto.train.data import open_photographs
from impasto.train.loop import CHECKPOINT
from impasto.train.studio import Listener, open_studio, trained

TRAINING = "training"
"""The folder beside a style's card with checkpoint, losses, curves and samples."""
SHIPPED, SCRATCH = "shipped", "scratch"
PREPROCESSING = "RGB 0..255 float32 NCHW"


@dataclass(frozen=True, slots=True)
class About:
    """What a card says of the painting."""

    title: str = ""
    artist: str = ""
    year: str = ""
    source: str = ""
    """One line: where the picture of the painting comes from."""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class TrainedStyle:
    """A finished style."""

    style: Style
    trained: dict[str, Any]
    """What its card says of the training."""
    skipped: Mapping[Path, str] = field(default_factory=dict)
    """Photographs that could not be read, and why."""


def train_style(
    painting: Path,
    content: Path,
    config: TrainConfig,
    *,
    name: str,
    user_styles: Path,
    perceptual: Path,
    about: About,
    today: dt.date,
    start: str = SHIPPED,
    quality: str = "balanced",
    force: bool = False,
    rhythm: Rhythm | None = None,
    listener: Listener | None = None,
) -> TrainedStyle:
    """Train a whole network for one painting, and put it among the user's styles as `name`.

    Its folder's `training` receives checkpoint.pt, losses.jsonl, curves.png, samples/ and
    preview.png. Called again after an interruption it goes on from the checkpoint; on one kind of
    CPU and with as many threads the result is then the same bit for bit.

    Args:
        painting: a picture of it.
        content: a folder of photographs.
        config: all that the result depends on; its network is that of `quality` in any case.
        name: the style's.
        user_styles: the folder of the user's own styles.
        perceptual: a VGG-19; see `load_perceptual`.
        about: for the card.
        today: for the card.
        start: "shipped", "scratch", or the path of another full training's checkpoint.
        quality: which shipped network's size, and weights.
        force: replace a style or a training of that name.
        rhythm: how often something is written.
        listener: hears how it goes.

    Raises:
        RequestError: a painting, folder, perceptual network, start or setting that can't be used;
            a name that is taken; or a checkpoint of another training.
        Interrupted: stopped by a signal, with a checkpoint.
    """
    listener = listener or Listener()
    folder = user_styles / check_own_name(name)
    _refuse_taken(name, user_styles, force=force)
    config = dataclasses.replace(config, network=SIZES[quality])
    photographs = open_photographs(content, listener.report)
    origin = start if start in {SHIPPED, SCRATCH} else Path(start)
    if isinstance(origin, Path) and not origin.is_file():
        raise RequestError(f"no checkpoint at {start}; give shipped, scratch or a checkpoint.pt")
    studio = open_studio(
        config,
        paintings=[painting],
        perceptual=[perceptual],
        photographs=photographs,
        begun_from=[origin],
    )
    workshop = folder / TRAINING
    if force and workshop.exists():
        shutil.rmtree(workshop)
    if start != SCRATCH and not (workshop / CHECKPOINT).exists():
        listener.report(f"beginning with {start} weights")
        starts.begin_mixed(
            studio.trainer,
            starts.shipped(quality)
            if start == SHIPPED
            else starts.checkpoint(Path(start), config.network),
        )
    studio.run(workshop, rhythm or Rhythm(), listener)
    said = trained(studio.trainer, today)
    style = save_style(
        Style(
            name=name,
            **dataclasses.asdict(about),
            network="painter",
            parameters=sum(each.numel() for each in studio.trainer.net.parameters()),
            preprocessing=PREPROCESSING,
            multiple_of=MULTIPLE_OF,
            trained=said,
            folder=folder,
        ),
        model=bind_style(
            network_of(studio.trainer.net), studio.trainer.styles[0].detach().cpu().numpy()
        ),
    )
    return TrainedStyle(style, said, photographs.skipped)


def network_of(net: Painter) -> bytes:
    """The ONNX file of a painter: frames and a style vector to frames."""
    size = torch.zeros(1, net.config.style_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(net, path, style=size)
        return path.read_bytes()


def _refuse_taken(name: str, user_styles: Path, *, force: bool) -> None:
    taken = (user_styles / name).exists() and not (user_styles / name / TRAINING).is_dir()
    if taken and not force:
        raise RequestError(f"style '{name}' exists; choose another name, or replace it by --force")
