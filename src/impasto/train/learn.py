"""From any painting to a style vector for a shipped network, which stays as it is.

The convolutions of a network that was trained on many paintings serve for others, too: to learn a
new style its scales and shifts are enough (Dumoulin et al., "A Learned Representation for Artistic
Style", arXiv:1610.07629, section 3.4).
"""

import dataclasses
import datetime as dt
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from impasto.errors import RequestError
from impasto.media.decode import FrameReader
from impasto.media.pixels import RgbReader
from impasto.media.probe import file_digest, probe
from impasto.media.still import is_still
from impasto.nets.painter import MULTIPLE_OF
from impasto.settings import Limits
from impasto.stores import Place
from impasto.styles import (
    Style,
    Vector,
    check_own_name,
    network_bytes,
    read_style,
    save_style,
    style_vectors,
)
from impasto.styles.card import CARD
from impasto.train import start as starts
from impasto.train.config import Rhythm, TrainConfig
from impasto.train.data import Photographs, read_picture
from impasto.train.journal import CURVES, PREVIEW
from impasto.train.loop import CHECKPOINT
from impasto.train.paintings import is_learned, sha256_of
from impasto.train.studio import Listener, open_studio, trained
from impasto.train.style import PREPROCESSING, TRAINING, About

LEARNING = TrainConfig(
    iterations=200,
    batch=2,
    frozen=True,
    learning_rate=3e-2,
    warm_up=10,
    stillness_begins=0.0,
    check_every=25,
    patience=4,
)
"""How a vector is learned: a few thousand numbers need a few hundred iterations."""
_FRAMES = 48
_FRAME_PX = 720
_RHYTHM = Rhythm(log_every=5, checkpoint_every=50, sample_every=25)


def learn_vector(
    painting: Path,
    photographs: Photographs,
    *,
    name: str,
    quality: str,
    user_styles: Path,
    perceptual: Path,
    today: dt.date,
    config: TrainConfig = LEARNING,
    about: About | None = None,
    listener: Listener | None = None,
) -> Style:
    """Learn one style vector and put it among the user's styles as `name`.

    Vectors of the same painting for other qualities are kept. Meanwhile the style's folder holds
    training/preview.png, which shows how far it is; interrupted, it goes on when called again with
    the same photographs. In the end preview.png and curves.png stay beside the card.

    Args:
        painting: a picture of it.
        photographs: what to paint while learning.
        name: the style's.
        quality: of the shipped network.
        user_styles: the folder of the user's own styles.
        perceptual: a VGG-19; see `load_perceptual`.
        today: for the card.
        config: all that the result depends on; its network is that of `quality` in any case.
        about: for the card.
        listener: hears how it goes.

    Raises:
        RequestError: something that can't be used, or a name that is taken.
        Interrupted: stopped by a signal, with a checkpoint.
    """
    listener = listener or Listener()
    folder = user_styles / check_own_name(name)
    if (folder / TRAINING / CHECKPOINT).exists():
        raise RequestError(
            f"style '{name}' is being trained as a network of its own; choose another name"
        )
    digest = sha256_of(painting)
    kept = _kept(name, quality, digest, user_styles)
    begin = starts.shipped(quality)
    config = dataclasses.replace(config, network=begin.config, frozen=True)
    studio = open_studio(
        config, paintings=[painting], perceptual=[perceptual], photographs=photographs,
        begun_from=[quality, hashlib.sha256(network_bytes(quality)).hexdigest()],
    )  # fmt: skip
    # Other photographs or settings are another training, and none has to be cleared away for them.
    workshop = folder / TRAINING / studio.trainer.identity[:16]
    if (workshop / CHECKPOINT).exists():
        starts.begin(studio.trainer, begin)  # its network; the checkpoint holds the vector alone
    else:
        starts.begin_mixed(studio.trainer, begin)
    studio.run(workshop, _RHYTHM, listener)
    vector = studio.trainer.styles[0].detach().cpu().numpy().astype(np.float32)
    card = Style(
        name=name,
        **dataclasses.asdict(about or About(title=painting.stem, source=painting.name)),
        network="painter",
        preprocessing=PREPROCESSING,
        multiple_of=MULTIPLE_OF,
        trained={
            **kept.trained,
            quality: {**trained(studio.trainer, today), "painting": digest},
        },
        folder=folder,
    )
    style = save_style(card, vectors={**kept.vectors, quality: vector})
    for file in (PREVIEW, CURVES):
        if (workshop / file).exists():
            (workshop / file).replace(folder / file)
    shutil.rmtree(folder / TRAINING)
    return style


def frames_of(
    source: Place, painting: Path, limits: Limits, report: Callable[[str], None]
) -> Photographs:
    """Frames of a video as pictures to paint, and the painting itself among them.

    A vector that saw one video alone loses the content of others: the painting is the one other
    picture that is always there. Frames are spread evenly and every eighth is for measuring; they
    are made smaller where their shorter side is above 720 px. A picture in place of a video stands
    for as many frames.

    Raises SourceRefused when it is no video that Impasto opens, RequestError for a bad picture.
    """
    if is_still(source):
        frames, digest = _still(source), file_digest(source)
    else:
        frames, digest = _film(source, limits)
    pictures = {Path(str(source)) / f"{place:08d}": frame for place, frame in enumerate(frames)}
    # What is held out are the last ones: they should come from everywhere in the film.
    paths = sorted(pictures, key=lambda path: (int(path.name) % 8 == 4, path))
    itself = painting / "itself"
    pictures[itself] = _still(painting)[0]
    named = {path: f"{digest} {path.name}" for path in paths} | {itself: itself.name}
    return Photographs(
        [itself] * (len(frames) // 2) + paths, report, pictures.__getitem__, named=named
    )


def _still(path: Place) -> list[Image.Image]:
    return [_at_most(read_picture(path))] * _FRAMES


def _film(path: Place, limits: Limits) -> tuple[list[Image.Image], str]:
    """Frames of a video, and the digest of its file."""
    probed = probe(path, limits)
    to_rgb = RgbReader(probed, width=probed.display_width, height=probed.display_height)
    frames = []
    with FrameReader(path, probed, limits=limits) as reader:
        # A short film is shown as often as it takes.
        for place in np.linspace(0, len(probed.ledger) - 1, _FRAMES):
            index = round(float(place))
            frame = to_rgb(next(reader.read(index, index + 1)))
            frames.append(_at_most(Image.fromarray(frame)))
    return frames, probed.digest


def _at_most(picture: Image.Image) -> Image.Image:
    scale = min(1.0, _FRAME_PX / min(picture.size))
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture if scale == 1 else picture.resize(size, Image.Resampling.LANCZOS)


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    """What a style has already, for other qualities."""

    vectors: dict[str, Vector]
    trained: dict[str, Any]


def _kept(name: str, quality: str, digest: str, user_styles: Path) -> _Kept:
    if not (user_styles / name / CARD).exists():
        return _Kept({}, {})
    style = read_style(name, user_styles=user_styles)
    if not style.networks:
        raise RequestError(f"style '{name}' has a network of its own; choose another name")
    if not all(is_learned(name, each, user_styles) for each in style.networks):
        return _Kept({}, {})  # they belonged to networks of another release
    same = {
        each
        for each, said in style.trained.items()
        if each != quality and isinstance(said, dict) and said.get("painting") == digest
    }
    vectors = style_vectors(name, user_styles=user_styles)
    return _Kept(
        {each: vectors[each] for each in vectors if each in same},
        {each: style.trained[each] for each in vectors if each in same},
    )
