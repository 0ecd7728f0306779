"""Figures of painted pictures and of the scenes they are painted from: arrays in, numbers out.

Nothing here knows a scorer, a file or a style. Pictures are RGB 0..255; where a figure has no unit,
it is a ratio.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from impasto.nets.texture import Texture
from impasto.records import Frames

Pixels = NDArray[np.float64]  # RGB 0..255, (N, H, W, 3), not rounded

EDGE_PX = 16
"""Left out of warping errors at every side: there, frames show what their neighbour does not."""
BORDER_PX = 8
"""Width of the outer ring that `border` looks at."""
_RING_PX = 32  # the ring inside it ends here
_LUMA = (0.299, 0.587, 0.114)  # Rec. ITU-R BT.601
# A Hann window spreads a pure tone over three bins; further out than eight, the spectrum of an
# ordinary picture is no longer the same as at the tone.
_PEAK_BINS = 1
_BESIDE_BINS = (3, 8)
_LEAST_DEVIATION = 1.0  # levels; a painted picture without any contrast divides by this


def gram_distance(painted: Texture, painting: Texture, *, centred: bool = False) -> float:
    """Squared distance of two Gram matrices (1, C, C) over the painting's own square.

    0 is the painting's own texture, 1 is as far as a blank. Gatys et al., "Image Style Transfer
    Using Convolutional Neural Networks" (CVPR 2016), eq. 4, with the painting's energy in place of
    its constant. `centred` takes the mean of each channel out first: what is left is strokes
    without colour.
    """
    a, b = (x.gram if centred else _uncentred(x) for x in (painted, painting))
    return float((a - b).square().sum() / b.square().sum())


def _uncentred(texture: Texture) -> Tensor:
    return texture.gram + texture.mean[:, :, None] * texture.mean[:, None, :]


def shifted(pictures: Pixels, step: tuple[float, float]) -> Pixels:
    """Pictures (N, H, W, 3) as seen `step` = (right, down) pixels further on; any fraction.

    Exact for integers and, away from the border, for fractions of band-limited pictures: a phase
    in the spectrum of the picture beside its mirror image (no seam), so that no phase of a
    sub-pixel motion is blurred more than another, as interpolation between pixels would.
    """
    height, width = pictures.shape[1:3]
    mirrored = np.pad(pictures, ((0, 0), (0, height), (0, width), (0, 0)), mode="symmetric")
    down = np.fft.fftfreq(2 * height)[:, None] * step[1]
    right = np.fft.rfftfreq(2 * width)[None, :] * step[0]
    phase = np.exp(2j * np.pi * (down + right))[None, :, :, None]
    spectrum = np.fft.rfft2(mirrored, axes=(1, 2)) * phase
    moved = np.fft.irfft2(spectrum, s=mirrored.shape[1:3], axes=(1, 2))
    return moved[:, :height, :width].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Warping:
    """How much neighbouring frames differ, beside the motion."""

    mse: float
    """Mean square of the difference, of a range 0..1, over what both frames show: the warping
    error of Lai et al. (arXiv:1808.00449, section 4.2), and of Ruder et al. (arXiv:1604.08610)."""
    relative: float
    """Its root over the standard deviation of the frames: makes a pale style comparable with a
    glaring one."""


def warping(apart: Sequence[NDArray[Any]], frames: Frames) -> Warping:
    """From differences per pair of neighbours, (..., 3) in levels, of frames (N, H, W, 3)."""
    square = float(np.mean([np.square(each, dtype=np.float64).mean() for each in apart]))
    deviation = float(np.sqrt(frames.var(axis=(1, 2), dtype=np.float64).mean()))
    return Warping(square / 255**2, math.sqrt(square) / max(deviation, _LEAST_DEVIATION))


def pan_warping(frames: Frames, step: tuple[float, float]) -> Warping:
    """Warping error of frames (N, H, W, 3) of a pan by `step` = (right, down) pixels each.

    The flow is known and hides nothing but the sides.
    """
    pixels = frames.astype(np.float64)
    apart = (shifted(pixels[:-1], step) - pixels[1:])[:, EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX]
    return warping(list(apart), frames)


def flicker(frames: Frames) -> float:
    """Standard deviation over time of the pixels of frames (N, H, W, 3), root mean square, levels.

    For a scene that does not move, seen by a camera that does not move.
    """
    return float(np.sqrt(frames.astype(np.float64).var(axis=0, ddof=1).mean()))


def spectrum(pictures: Iterable[Frames]) -> NDArray[np.float64]:
    """Mean power spectrum of the luma of square pictures (N, S, S, 3): (S, S), sum 1, no zero bin.

    Each picture counts the same, whatever its contrast.
    """
    total: NDArray[np.float64] | None = None
    for batch in pictures:
        luma = batch.astype(np.float64) @ np.array(_LUMA)
        luma = luma - luma.mean(axis=(1, 2), keepdims=True)
        window = np.hanning(luma.shape[1] + 1)[:-1]
        power = np.square(np.abs(np.fft.fft2(luma * window[:, None] * window)))
        power[:, 0, 0] = 0
        share = (power / np.maximum(power.sum(axis=(1, 2), keepdims=True), 1e-9)).sum(axis=0)
        total = share if total is None else total + share
    if total is None:
        raise ValueError("no pictures given to take the spectrum of")
    return total / max(float(total.sum()), 1e-9)


def weave_share(power: NDArray[np.float64], period: int) -> float:
    """Part of the energy at the frequencies of a grid of `period` pixels, in 0..1.

    Period 2 is the Nyquist frequency (a checkerboard), 4 a quarter of the sampling frequency.
    Frequencies of a coarser spectrum (strokes of all sizes) fall there too: see `weave_peak`.
    """
    return float(sum(_around(power, y, x).sum() for y, x in _grid(power, period)))


def weave_peak(power: NDArray[np.float64], period: int) -> float:
    """How far the strongest frequency of a grid of `period` pixels stands out; about 1 for none.

    Energy per bin there over that of its surroundings, along rows or along columns, whichever is
    more: the axes of a spectrum are bright of themselves, a tone is a peak in both directions.
    Odena et al., "Deconvolution and Checkerboard Artifacts" (2016), say where the tones come from.
    """
    return max(_prominence(power, y, x) for y, x in _grid(power, period))


def _grid(power: NDArray[np.float64], period: int) -> list[tuple[int, int]]:
    """Bins of the frequencies k / period in both directions; those of half the period left out."""
    size = power.shape[0]
    if size % period:
        raise ValueError(f"pictures of {size} pixels don't hold whole periods of {period}")
    step = size // period
    bins = [(y, x) for y in range(period) for x in range(period)]
    return [(y * step, x * step) for y, x in bins if y % 2 or x % 2]


def _prominence(power: NDArray[np.float64], y: int, x: int) -> float:
    peak = _around(power, y, x).mean()
    near, far = _BESIDE_BINS
    beside = np.arange(near, far + 1)
    beside = np.concatenate([-beside[::-1], beside])
    close = np.arange(-_PEAK_BINS, _PEAK_BINS + 1)
    size = power.shape[0]
    along_row = power[np.ix_((y + close) % size, (x + beside) % size)].mean()
    along_column = power[np.ix_((y + beside) % size, (x + close) % size)].mean()
    return float(peak / max(float(along_row), float(along_column), 1e-12))


def _around(power: NDArray[np.float64], y: int, x: int) -> NDArray[np.float64]:
    reach = np.arange(-_PEAK_BINS, _PEAK_BINS + 1)
    size = power.shape[0]
    found: NDArray[np.float64] = power[np.ix_((y + reach) % size, (x + reach) % size)]
    return found


@dataclass(frozen=True, slots=True)
class Border:
    """The outer ring of a picture against the ring just inside it."""

    brighter: float
    """Levels of luma that the outer ring is brighter."""
    contrast: float
    """Mean square difference of neighbours in the outer ring over that in the inner one, rooted."""


def border(picture: Frames) -> Border:
    """Compare the outer 8 pixels of a picture (1, H, W, 3) with the 24 inside them."""
    luma = (picture.astype(np.float64) @ np.array(_LUMA))[0]
    across = np.square(np.diff(luma, axis=1))[:-1] + np.square(np.diff(luma, axis=0))[:, :-1]
    depth = _depth(luma.shape)
    outer, inner = depth < BORDER_PX, (depth >= BORDER_PX) & (depth < _RING_PX)
    edge = (outer[:-1, :-1], inner[:-1, :-1])
    ratio = across[edge[0]].mean() / max(float(across[edge[1]].mean()), 1e-6)
    return Border(float(luma[outer].mean() - luma[inner].mean()), float(np.sqrt(ratio)))


def _depth(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Distance of each pixel from the nearest side; 0 at the border."""
    height, width = shape
    rows = np.minimum(np.arange(height), np.arange(height)[::-1])
    columns = np.minimum(np.arange(width), np.arange(width)[::-1])
    return np.minimum(rows[:, None], columns[None, :])


@dataclass(frozen=True, slots=True)
class Colour:
    """What a picture looks like from far away."""

    mean: tuple[float, float, float]
    """RGB, levels."""
    saturation: float
    """Largest minus smallest of R, G and B, mean over the pixels, levels (HSV's chroma)."""
    deviation: float
    """Standard deviation of the luma, levels."""


def colour(picture: Frames) -> Colour:
    """Mean, saturation and contrast of a picture (1, H, W, 3)."""
    red, green, blue = (round(float(x), 1) for x in picture.mean(axis=(0, 1, 2)))
    chroma = np.ptp(picture.astype(np.float64), axis=3).mean()
    deviation = (picture.astype(np.float64) @ np.array(_LUMA)).std()
    return Colour((red, green, blue), round(float(chroma), 1), round(float(deviation), 2))
