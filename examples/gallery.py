"""Make the pictures of docs/styles.md: `python examples/gallery.py docs/images PICTURE …`.

Every shipped style on the two scenes of the sample film and on the given pictures, a style beside
its source, its three qualities side by side, and the way from one style to another.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

import impasto
import sample_clip
from impasto.config import load_settings
from impasto.styles import QUALITIES, list_styles

_SIZE = (640, 360)
_MOMENTS = (0.2, 0.8)
"""Shares of the sample film: one moment of each of its two scenes."""
_FRAMES = 150
_BLEND = ("starry_night", "the_scream")
_QUALITY = 80

Picture = NDArray[np.uint8]  # RGB, (H, W, 3)


def scenes(pictures: list[Path]) -> list[Picture]:
    """What is painted: 640 x 360 each."""
    width, height = _SIZE
    drawn = [
        sample_clip.render(round(moment * _FRAMES), _FRAMES, height, width) for moment in _MOMENTS
    ]
    given = [
        np.asarray(ImageOps.fit(Image.open(path).convert("RGB"), _SIZE, Image.Resampling.LANCZOS))
        for path in pictures
    ]
    return [*drawn, *given]


def paint(
    style: str | dict[str, float], frames: list[Picture], quality: str = "best"
) -> list[Picture]:
    """The frames in a style or a blend."""
    width, height = _SIZE
    scorer = impasto.open_scorer(style, width=width, height=height, quality=quality)
    return list(scorer(np.stack(frames)))


def pairs(pictures: list[Picture]) -> list[list[Picture]]:
    """Two pictures to a row; an odd last one is left out."""
    return [pictures[i : i + 2] for i in range(0, len(pictures) - 1, 2)]


def save(rows: list[list[Picture]], path: Path, *, width: int = 1280) -> None:
    """Write rows of pictures of one size as one JPEG, `width` pixels wide."""
    whole = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    height = round(whole.height * width / whole.width)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = whole.resize((width, height), Image.Resampling.LANCZOS)
    small.save(path, quality=_QUALITY, optimize=True, progressive=True)


def main() -> None:
    """Write every picture into the folder."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("folder", type=Path, help="where the pictures land")
    words.add_argument("pictures", type=Path, nargs="*", help="more to paint")
    asked = words.parse_args()
    frames = scenes(asked.pictures)
    settings = load_settings(os.environ)
    shipped = [style.name for style in list_styles(settings.user_styles) if style.shipped]
    save(pairs(frames), asked.folder / "styles" / "source.jpg")
    for name in shipped:
        save(pairs(paint(name, frames)), asked.folder / "styles" / f"{name}.jpg")
    drawn = frames[: len(_MOMENTS)]
    beside = [[*each] for each in zip(drawn, paint(_BLEND[0], drawn), strict=True)]
    save(beside, asked.folder / "before-after.jpg")
    first = frames[:1]
    qualities = [paint(_BLEND[0], first, quality)[0] for quality in QUALITIES]
    save([qualities], asked.folder / "qualities.jpg")
    shares = (1.0, 0.75, 0.5, 0.25, 0.0)
    blends = [paint(dict(zip(_BLEND, (s, 1 - s), strict=True)), first)[0] for s in shares]
    save([blends], asked.folder / "blend.jpg", width=1600)


if __name__ == "__main__":
    main()
