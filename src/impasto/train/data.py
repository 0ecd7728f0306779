"""Photographs for training: a folder of pictures -> random crops, the same for the same seed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from impasto.errors import RequestError

Pixels = NDArray[np.uint8]  # RGB, (size, size, 3)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_MOST_BAD_DRAWS = 64


@dataclass(slots=True)
class Photographs:
    """The pictures of a folder, read when drawn; unreadable ones are reported and skipped."""

    paths: list[Path]
    report: Callable[[str], None]
    """Called with one line for each file that is skipped."""
    skipped: dict[Path, str] = field(default_factory=dict)
    """Files that could not be read so far, and why."""

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
            picture = None if path in self.skipped else self._read(path)
            if picture is None:
                bad += 1
                if bad == _MOST_BAD_DRAWS:
                    raise RequestError(
                        f"{bad} photographs drawn from {path.parent} in a row are unreadable; "
                        "give a folder of JPEG or PNG photographs"
                    )
                continue
            bad = 0
            drawn.append(_crop(picture, rng, size_px))
        stacked = np.stack(drawn)  # (count, size, size, 3)
        return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))

    def _read(self, path: Path) -> Image.Image | None:
        try:
            return read_picture(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            self.skipped[path] = f"{type(error).__name__}: {error}"
            self.report(f"skipped {path}: {self.skipped[path]}")
            return None


def open_photographs(folder: Path, report: Callable[[str], None]) -> Photographs:
    """List the pictures under `folder`, in a fixed order.

    Raises RequestError when the folder does not exist or holds no picture.
    """
    if not folder.is_dir():
        raise RequestError(f"content folder {folder} does not exist; give a folder of photographs")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise RequestError(
            f"content folder {folder} holds no photographs; put JPEG or PNG files into it"
        )
    return Photographs(paths, report)


def read_picture(path: Path) -> Image.Image:
    """Decode a whole picture as RGB. Raises what Pillow raises (OSError and others)."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def read_painting(
    path: Path, *, shorter_px: int, inset: float = 0.0, soften: float = 1.0
) -> Tensor:
    """A painting without its frame, scaled: float32 (1, 3, H, W), RGB 0..255.

    `inset` is the part of each side that is cut off first; details finer than `soften` pixels are
    lost. Raises RequestError for a file that
    cannot be read.
    """
    try:
        picture = read_picture(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestError(
            f"painting {path} cannot be read ({error}); give a JPEG or PNG picture"
        ) from error
    width, height = picture.size
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


def _crop(picture: Image.Image, rng: np.random.Generator, size_px: int) -> Pixels:
    """A random square of a random zoom, mirrored half of the time, sometimes dark or pale."""
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
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return _relight(pixels, rng)


def _relight(pixels: NDArray[np.float32], rng: np.random.Generator) -> Pixels:
    """One crop in eight gets another exposure: nights and fog are rare among photographs."""
    if rng.random() < 0.125:
        contrast = float(rng.uniform(0.05, 1.0))
        floor = float(rng.uniform(0, 255 * (1 - contrast))) * float(rng.random())
        pixels = pixels * contrast + floor
    bounded: Pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return bounded
