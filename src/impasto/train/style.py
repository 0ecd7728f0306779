"""From a painting to a style that Impasto can load: a folder with style.onnx and card.json."""

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impasto.errors import RequestError
from impasto.nets.export import export_onnx
from impasto.nets.painter import MULTIPLE_OF, Painter
from impasto.train.config import Rhythm, TrainConfig, identity_of
from impasto.train.data import open_photographs, read_painting
from impasto.train.loop import Figures, Judge, Trainer, run, write_whole
from impasto.train.losses import load_perceptual

MODEL = "style.onnx"
CARD = "card.json"


@dataclass(frozen=True, slots=True)
class About:
    """What a card says of the painting."""

    name: str
    """The style's name on the command line, such as starry_night."""
    title: str
    artist: str
    year: str
    source: str
    """One line: where the picture of the painting comes from."""
    licence: str


@dataclass(frozen=True, slots=True)
class Judges:
    """The perceptual networks, and pictures to look at on the way."""

    perceptual: tuple[Path, ...]
    """VGG-19 state dicts; see `load_perceptual` and `TrainConfig.style_layers`."""
    samples: tuple[Path, ...] = ()
    """Pictures painted every `Rhythm.sample_every` iterations into target_dir/samples."""


@dataclass(frozen=True, slots=True)
class TrainedStyle:
    """A finished style."""

    folder: Path
    figures: Figures
    skipped: dict[Path, str] = field(default_factory=dict)
    """Photographs that could not be read, and why."""


def train_style(
    painting: Path,
    content: Path,
    target_dir: Path,
    config: TrainConfig,
    *,
    about: About,
    judges: Judges,
    today: dt.date,
    start: Path | None = None,
    rhythm: Rhythm | None = None,
    report: Callable[[str], None] = print,
) -> TrainedStyle:
    """Train a painter on one painting with the photographs of a folder, and export it.

    `start` is the checkpoint of another training whose weights to begin with: a finished style of
    the same painting to change it, one of another painting to be there sooner.

    `target_dir` receives checkpoint.pt, losses.jsonl, samples/, style.onnx and card.json. Called
    again after an interruption it goes on from the checkpoint; on one kind of CPU and the same
    number of threads the result is then the same bit for bit.

    Raises RequestError for a painting, a folder or a perceptual network that cannot be used, and
    for a target folder that holds another training.
    """
    if not judges.perceptual:
        raise RequestError("no perceptual network given; give a VGG-19 state dict")
    photographs = open_photographs(content, report)
    picture = read_painting(
        painting,
        shorter_px=config.painting_px,
        inset=config.painting_inset,
        soften=config.painting_soften,
    )  # (1, 3, H, W)
    judge = Judge([load_perceptual(path) for path in judges.perceptual], picture, config)
    files = [painting, *judges.perceptual, *([start] if start else [])]
    trainer = Trainer(config, judge, photographs, identity=identity_of(config, files))
    if start:
        trainer.begin_from(start)
    target_dir.mkdir(parents=True, exist_ok=True)
    figures = run(
        trainer, target_dir, rhythm=rhythm or Rhythm(), samples=judges.samples, report=report
    )
    publish(trainer.net, target_dir, about=about, trained=_trained(trainer, figures, today))
    return TrainedStyle(target_dir, figures, photographs.skipped)


def publish(net: Painter, folder: Path, *, about: About, trained: dict[str, Any]) -> None:
    """Write style.onnx, then the card that carries its digest, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    export_onnx(net, folder / MODEL)
    model = (folder / MODEL).read_bytes()
    card = {
        **dataclasses.asdict(about),
        "network": "painter",
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "preprocessing": "RGB 0..255 float32 NCHW",
        "multiple_of": MULTIPLE_OF,
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        "trained": trained,
        "qualities": {"balanced": MODEL},
    }
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / CARD, lambda partial: partial.write_text(text, encoding="utf-8"))


def _trained(trainer: Trainer, figures: Figures, today: dt.date) -> dict[str, Any]:
    return {
        "date": today.isoformat(),
        "iterations": trainer.earlier + trainer.iteration,
        "losses": dataclasses.asdict(figures),
        "seed": trainer.config.seed,
    }
