"""A picture that carries its own number, so that a lost, repeated or reordered frame shows.

The mark is a strip over the full width and the top 3/8 of the height: 3 rows of 8 cells.

    W  n11 n10 n9  n8  n7  n6  B      the frame number's high six bits
    B  n5  n4  n3  n2  n1  n0  W      its low six bits
    W  c5  c4  c3  c2  c1  c0  B      a check over both

The outer columns differ from each other, and everything below the strip is mid-tone, so a turned
or mirrored picture is recognised as such and never read as another number. Positions are fractions
of the picture, so scaling does no harm. At the bottom stand six colour patches, for tests of
matrix and range; between the two moves a texture, so that encoders have motion to predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB, (H, W, 3)."""

LARGEST_NUMBER = 4095

PATCHES: tuple[tuple[int, int, int], ...] = (
    (180, 30, 30),
    (30, 160, 40),
    (40, 50, 190),
    (40, 160, 170),
    (170, 50, 160),
    (190, 170, 40),
)
"""The colours along the bottom, left to right; all inside what 8-bit limited range can hold."""

_COLUMNS = 8
_ROWS = 3
_STRIP = 3 / 8
_PATCH_BAND = 1 / 8
_LEFT = (1, 0, 1)
_RIGHT = (0, 1, 0)


@dataclass(frozen=True, slots=True)
class FrameMark:
    """What the strip of one picture says."""

    number: int
    quarter_turns: int
    """Counter-clockwise quarter turns that bring the picture upright, 0…3."""
    mirrored: bool
    """Whether it must be flipped left to right as well, after turning."""


def draw_frame(number: int, height: int, width: int) -> Picture:
    """Draw frame `number` (0…4095), uint8 (height, width, 3)."""
    if not 0 <= number <= LARGEST_NUMBER:
        raise ValueError(f"number must be within 0…{LARGEST_NUMBER}, got {number}")
    picture = _texture(number, height, width)
    cells = np.array(_bits(number), dtype=np.uint8) * 223 + 16
    strip = round(height * _STRIP)
    rows = np.arange(strip) * _ROWS // strip
    columns = np.arange(width) * _COLUMNS // width
    picture[:strip] = cells[rows[:, None], columns[None, :], None]
    band = round(height * (1 - _PATCH_BAND))
    patches = np.array(PATCHES, dtype=np.uint8)
    picture[band:] = patches[np.arange(width) * len(PATCHES) // width]
    return picture


def read_frame_number(rgb: Picture) -> int | None:
    """The number drawn into `rgb`, uint8 (H, W, 3), however it is turned; None if unreadable."""
    mark = read_frame_mark(rgb)
    return None if mark is None else mark.number


def read_frame_mark(rgb: Picture) -> FrameMark | None:
    """Number and orientation of `rgb`, uint8 (H, W, 3); None if no orientation reads."""
    grey = rgb.astype(np.float64).mean(axis=2)
    for mirrored in (False, True):
        for turns in range(4):
            turned = np.rot90(grey, turns)
            number = _read_upright(turned[:, ::-1] if mirrored else turned)
            if number is not None:
                return FrameMark(number, turns, mirrored)
    return None


def read_patches(rgb: Picture) -> NDArray[np.float64]:
    """The six colour patches of an upright picture, float64 (6, 3), each a mean over its middle."""
    height, width = rgb.shape[:2]
    top = height * (1 - _PATCH_BAND)
    rows = _middle(top, height)
    edges = np.linspace(0, width, len(PATCHES) + 1)
    return np.stack(
        [
            rgb[rows, _middle(left, right)].mean(axis=(0, 1), dtype=np.float64)
            for left, right in pairwise(edges)
        ]
    )


def _check(high: int, low: int) -> int:
    # Odd factors make every single wrong bit change the check.
    return (high * 5 + low * 11 + 21) % 64


def _bits(number: int) -> list[list[int]]:
    high, low = divmod(number, 64)
    values = (high, low, _check(high, low))
    return [
        [_LEFT[row], *((value >> bit) & 1 for bit in range(5, -1, -1)), _RIGHT[row]]
        for row, value in enumerate(values)
    ]


def _read_upright(grey: NDArray[np.float64]) -> int | None:
    height, width = grey.shape
    cells = np.empty((_ROWS, _COLUMNS))
    for row in range(_ROWS):
        rows = _middle(height * _STRIP * row / _ROWS, height * _STRIP * (row + 1) / _ROWS)
        for column in range(_COLUMNS):
            columns = _middle(width * column / _COLUMNS, width * (column + 1) / _COLUMNS)
            cells[row, column] = grey[rows, columns].mean()
    darkest, lightest = cells.min(), cells.max()
    spread = lightest - darkest
    # A cell half-way between black and white says nothing, and a flat picture has no cells.
    away = np.abs(cells - (darkest + lightest) / 2)
    if spread < 64 or away.min() < spread / 5:
        return None
    bits = (cells > (darkest + lightest) / 2).astype(int)
    if tuple(bits[:, 0]) != _LEFT or tuple(bits[:, -1]) != _RIGHT:
        return None
    high, low, check = (int("".join(map(str, row)), 2) for row in bits[:, 1:-1])
    return high * 64 + low if _check(high, low) == check else None


def _middle(start: float, stop: float) -> slice:
    """The middle half of [start, stop), at least one pixel: edges blur, middles stay."""
    first = int(start + (stop - start) / 4)
    return slice(first, max(first + 1, int(stop - (stop - start) / 4)))


@lru_cache(maxsize=8)
def _grain(height: int, width: int) -> NDArray[np.float64]:
    return np.random.default_rng(7).uniform(-14, 14, (height, width))


def _texture(number: int, height: int, width: int) -> Picture:
    y = np.arange(height)[:, None]
    x = np.arange(width)[None, :]
    wave = 16 * np.sin(x * 0.21 + number * 0.4) * np.sin(y * 0.17 - number * 0.3)
    grain = np.roll(_grain(height, width), (number, 2 * number), axis=(0, 1))
    tone = 128 + wave + grain
    # The hue drifts over the width; all three stay clear of the strip's black and white.
    tint = 8 * np.sin(x * 0.05 + np.array([0.0, 2.1, 4.2])[:, None, None])
    return np.ascontiguousarray((tone + tint).clip(84, 172).astype(np.uint8).transpose(1, 2, 0))
