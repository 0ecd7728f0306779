"""Photographs for training: a folder of pictures -> random crops, the same for the same seed."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from impasto.errors import RequestError, SourceRefused
from impasto.media.still import read_still, upright
from impasto.protocols import File
from impasto.styles import PICTURES

Pixels = NDArray[np.uint8]  # RGB, (size, size, 3)

_MOST_BAD_DRAWS = 64
_MOST_OBLONG = 16


@dataclass(slots=True)
class Photographs:
    """Pictures to paint, read when drawn; unreadable ones are reported and skipped."""

    paths: list[Path]
    report: Callable[[str], None]
    """Called with one line for each file that is skipped."""
    read: Callable[[Path], Image.Image] = field(default_factory=lambda: read_picture)
    """How a path becomes a picture: from its file, unless they lie in memory."""
    skipped: dict[Path, str] = field(default_factory=dict)
    """Files that could not be read so far, and why."""
    named: dict[Path, str] = field(default_factory=dict)
    """What tells a picture from any other, wherever it lies; the path where it is not here."""

    def names(self) -> list[str]:
        """What tells this set of pictures from another."""
        return [self.named.get(path, str(path)) for path in self.paths]

    def hold_out(self, count: int) -> "Photographs":
        """Take the last `count` away, as pictures to measure with; a quarter where there are few.

        Only readable ones count. Raises RequestError when none, or no other, is left.
        """
        folder = self.paths[0].parent
        if len(self.paths) < 2:
            raise RequestError(
                f"{folder} holds one photograph; one to train with and one to measure with are the "
                "least, hundreds are better"
            )
        wanted = min(count, max(1, len(self.paths) // 4))
        held_out: list[Path] = []
        while len(held_out) < wanted and len(self.paths) > 1:
            path = self.paths.pop()
            if self._read(path) is not None:
                held_out.insert(0, path)
        if not held_out:
            raise RequestError(
                f"no photograph in {folder} can be read; give a folder of JPEG or PNG photographs"
            )
        return Photographs(held_out, self.report, self.read, self.skipped)

    def crops(self, rng: np.random.Generator, *, count: int, size_px: int) -> Tensor:
        """Draw crops: uint8 (count, 3, size_px, size_px) RGB.

        Depends on `rng` and the files only, never on what was drawn before, so a resumed training
        sees what an uninterrupted one would have seen.

        Raises RequestError when 64 drawn files in a row are unreadable.
        """
        drawn: list[Pixels] = []
        bad = 0
        while len(drawn) < count:
            path = self.paths[int(rng.integers(len(self.paths)))]
            picture = self._read(path)
            if picture is None:
                bad += 1
                if bad == _MOST_BAD_DRAWS:
                    raise RequestError(
                        f"{bad} photographs drawn from {path.parent} in a row are unreadable; "
                        "give a folder of JPEG or PNG photographs"
                    )
                continue
            bad = 0
            drawn.append(_relight(_crop(picture, rng, size_px), rng))
        return _stacked(drawn)

    def each(self, *, size_px: int, seed: int) -> Tensor:
        """One crop of each picture that can be read: uint8 (N, 3, size_px, size_px) RGB."""
        return _stacked(
            [
                _levels(_crop(picture, np.random.default_rng((seed, place)), size_px))
                for place, path in enumerate(self.paths)
                if (picture := self._read(path)) is not None
            ]
        )

    def first(self, count: int) -> list[Image.Image]:
        """The first pictures that can be read, whole; at most `count`."""
        readable = (picture for path in self.paths if (picture := self._read(path)) is not None)
        return list(itertools.islice(readable, count))

    def _read(self, path: Path) -> Image.Image | None:
        if path in self.skipped:
            return None
        try:
            return self.read(path)
        except SourceRefused as error:
            self.skipped[path] = str(error)
            self.report(f"skipped: {error}")
            return None


def open_photographs(folder: Path, report: Callable[[str], None]) -> Photographs:
    """List the pictures under `folder`, in a fixed order.

    Raises RequestError when the folder does not exist or holds no picture.
    """
    if not folder.is_dir():
        raise RequestError(f"content folder {folder} does not exist; give a folder of photographs")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise RequestError(
            f"content folder {folder} holds no photographs; put JPEG or PNG files into it"
        )
    # However the folder is spelled, and wherever it is moved to, its photographs are the same.
    sizes = {path: path.stat().st_size if path.is_file() else 0 for path in paths}
    named = {path: f"{path.relative_to(folder).as_posix()} {sizes[path]}" for path in paths}
    return Photographs(paths, report, named=named)


def read_picture(path: File) -> Image.Image:
    """Decode a whole picture as RGB, upright as its Exif data says; transparency is left out.

    Raises SourceRefused when it is missing, damaged, of another kind, or too large.
    """
    return Image.fromarray(upright(*read_still(path)))


def read_painting(
    path: Path, *, shorter_px: int, inset: float = 0.0, soften: float = 1.0
) -> Tensor:
    """A painting without its frame, scaled: float32 (1, 3, H, W), RGB 0..255.

    `inset` is the part of each side that is cut off first; details finer than `soften` pixels are
    lost. Raises RequestError for a file that can't be read, or that nothing can be learned of.
    """
    picture = read_picture(path)
    width, height = picture.size
    if max(width, height) > _MOST_OBLONG * min(width, height):
        raise RequestError(
            f"painting {path} is a strip of {width}x{height} pixels; give one that is at most "
            f"{_MOST_OBLONG} times as long as wide"
        )
    if not np.ptp(np.asarray(picture), axis=(0, 1)).any():
        raise RequestError(f"painting {path} is one plain colour; give one with strokes")
    scale = shorter_px / (min(width, height) * (1 - 2 * inset))
    size = (round(width * (1 - 2 * inset) * scale), round(height * (1 - 2 * inset) * scale))
    box = (width * inset, height * inset, width * (1 - inset), height * (1 - inset))
    small = (round(size[0] / soften), round(size[1] / soften))
    picture = picture.resize(small, Image.Resampling.LANCZOS, box=box)
    return picture_tensor(picture.resize(size, Image.Resampling.BICUBIC))


def picture_tensor(picture: Image.Image) -> Tensor:
    """A picture as float32 (1, 3, H, W), RGB 0..255."""
    array = np.asarray(picture, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))[None]


def _crop(picture: Image.Image, rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    """A random square of a random zoom, mirrored half of the time: (size_px, size_px, 3)."""
    shortest = min(picture.size)
    # Enlarged more often than reduced: a film is smoother per pixel than a small photograph.
    zoom = max(float(rng.uniform(0.8, 1.5)), size_px / shortest)
    side = min(size_px / zoom, shortest)  # of the square, in the photograph's own pixels
    left = float(rng.uniform(0, picture.width - side))
    top = float(rng.uniform(0, picture.height - side))
    crop = picture.resize(
        (size_px, size_px), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    pixels = np.asarray(crop, dtype=np.float32)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _relight(pixels: NDArray[np.float32], rng: np.random.Generator) -> Pixels:
    """One crop in eight gets another exposure: nights and fog are rare among photographs."""
    if rng.random() < 0.125:
        contrast = float(rng.uniform(0.05, 1.0))
        floor = float(rng.uniform(0, 255 * (1 - contrast))) * float(rng.random())
        pixels = pixels * contrast + floor
    return _levels(pixels)


def _levels(pixels: NDArray[np.float32]) -> Pixels:
    bounded: Pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return bounded


def _stacked(crops: list[Pixels]) -> Tensor:
    stacked = np.stack(crops)  # (count, size, size, 3)
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
