"""Decoded pictures to upright RGB and back: matrix, range, rotation, size, tone mapping."""

from functools import cache
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from impasto.records import Color, Encode, Source

Picture = NDArray[np.uint8]
"""One RGB picture, uint8, (H, W, 3)."""

_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)
"""With these, swscale stays within one level of the formulas; its defaults are off by up to five
and differ between processors."""

_SWS_MATRIX = {"bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 5, "smpte240m": 7,
               "bt2020nc": 9, "bt2020c": 9}  # fmt: skip
_SD_HEIGHT = 576
_REFERENCE_WHITE_NITS = 203.0
"""HDR reference white, ITU-R BT.2408."""


class RgbReader:
    """Turns decoded frames of one source into upright RGB of the target's size.

    Args:
        source: says matrix, range, rotation and HDR.
        width: of the result, pixels, after rotation.
        height: likewise.
    """

    def __init__(self, source: Source, *, width: int, height: int) -> None:
        self._source = source
        turned = source.rotation in {90, 270}
        self._width, self._height = (height, width) if turned else (width, height)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Picture:
        """Return `frame` as RGB uint8 (H, W, 3), turned upright, HDR mapped to BT.709."""
        hdr = self._source.color.hdr
        rgb = self._reformatter.reformat(
            frame,
            width=self._width,
            height=self._height,
            format="rgb48le" if hdr else "rgb24",
            src_colorspace=_sws_matrix(self._source.color, self._source.height),
            src_color_range=2 if self._full_range(frame) else 1,
            dst_color_range=2,
            interpolation=_EXACT,
            threads=1,
        ).to_ndarray()
        if hdr:
            rgb = tone_map(rgb.astype(np.uint16, copy=False), transfer=self._source.color.transfer)
        return upright(rgb, rotation=self._source.rotation, mirrored=self._source.mirrored)

    def _full_range(self, frame: VideoFrame) -> bool:
        return self._source.color.range == "pc" or frame.format.is_rgb


class YuvWriter:
    """Turns RGB pictures into frames that the encoder takes.

    Args:
        encode: says pixel format, matrix and range.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._reformatter = VideoReformatter()

    def __call__(self, picture: Picture) -> VideoFrame:
        """Return RGB uint8 (H, W, 3) as a frame of the target's pixel format, tagged."""
        color = self._encode.color
        return self._reformatter.reformat(
            VideoFrame.from_ndarray(picture, format="rgb24"),
            format=self._encode.pixel_format,
            dst_colorspace=_sws_matrix(color, self._encode.height),
            src_color_range=2,
            dst_color_range=2 if color.range == "pc" else 1,
            interpolation=_EXACT,
            threads=1,
        )


def upright(rgb: NDArray[Any], *, rotation: int, mirrored: bool) -> NDArray[Any]:
    """Apply a display matrix: mirror left to right first, then turn by `rotation` clockwise."""
    if mirrored:
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(np.rot90(rgb, k=-(rotation // 90)))


def target_color(source: Source) -> Color:
    """Colour tags of the target: the source's own, or BT.709 where HDR or RGB was converted."""
    if source.color.hdr or source.color.matrix == "gbr":
        return Color("bt709", "tv", "bt709", "bt709")
    return source.color


def _sws_matrix(color: Color, height: int) -> int:
    # Untagged pictures are read and written with one and the same matrix, the one that players
    # assume: BT.601 for standard definition and BT.709 above.
    fallback = "smpte170m" if height <= _SD_HEIGHT else "bt709"
    return _SWS_MATRIX.get(color.matrix, _SWS_MATRIX[fallback])


def tone_map(rgb: NDArray[np.uint16], *, transfer: str) -> Picture:
    """Map HDR pictures to SDR.

    Light is linearised (PQ: SMPTE ST 2084; HLG: ARIB STD-B67 with the BT.2100 system gamma at
    1,000 nits), scaled so that the reference white of 203 nits (BT.2408) is 1, taken from BT.2020
    to BT.709 primaries (BT.2087), compressed by the extended Reinhard curve on the largest
    component, which keeps hue, and encoded by the inverse of BT.1886 (gamma 2.4).

    Args:
        rgb: non-linear BT.2020 RGB, full range, uint16 (H, W, 3).
        transfer: "smpte2084" or "arib-std-b67".

    Returns:
        BT.709 RGB, uint8 (H, W, 3).
    """
    light = _linear_table(transfer)[rgb]
    if transfer == "arib-std-b67":
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= 1000.0 / _REFERENCE_WHITE_NITS * np.maximum(luminance, 1e-6)[..., None] ** 0.2
    light = light @ _BT2020_TO_BT709.T
    np.maximum(light, 0.0, out=light)
    peak = light.max(axis=-1, keepdims=True)
    white = 1000.0 / _REFERENCE_WHITE_NITS
    light *= (1.0 + peak / (white * white)) / (1.0 + peak)
    # Reinhard's curve puts reference white at about one half; BT.2408 wants it near 75 % signal.
    light *= 1.55
    coded: NDArray[Any] = np.clip(light, 0.0, 1.0) ** np.float32(1 / 2.4) * np.float32(255) + 0.5
    return coded.astype(np.uint8)


_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)
"""Linear BT.2020 RGB to BT.709, ITU-R BT.2087."""


@cache
def _linear_table(transfer: str) -> NDArray[np.float32]:
    """Linear light of each code value: PQ in units of 203 nits, HLG in scene light."""
    signal = np.arange(65536, dtype=np.float64) / 65535
    if transfer == "smpte2084":
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        power = signal ** (1 / m2)
        nits = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
        return (nits / _REFERENCE_WHITE_NITS).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene.astype(np.float32)
