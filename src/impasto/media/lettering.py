"""Letters on pictures, without a font file: strokes of one width, drawn with soft edges.

A glyph is a few strokes on a grid. A stroke's points are the control polygon of a uniform quadratic
B-spline: the curve runs through the middle of every side and is smooth everywhere else; a point
written twice is a corner. Coverage of a pixel follows from its distance to the curve.
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from impasto.media.pixels import Picture

_CAP = 12.0
"""Height of capitals in grid units; small letters are 8 high."""
_DESCENT = 5.0
"""Grid units below the baseline that a line keeps free."""
_ASCENT = 14.0
_BASELINE = 4
"""The grid's row on which letters stand."""
_GAP = 3.2
"""Grid units between the outlines of neighbours, before the stroke's own width."""
_SPACE = 5.0
_DOT = 0.6
"""How much wider than a stroke a dot is, as a share of the stroke's half width."""
_STEPS = 6
"""Straight pieces for each side of a curve's control polygon."""

# Strokes by character: pairs of x and y in base 36, y = 4 on the baseline; * closes a stroke.
_STROKES: dict[str, str] = {
    "!": "0g08 0404", '"': "0g0c 3g3c", "#": "143g 648g 0898 0c9c", "$": "8d8g0g0b89840407 4i42",
    "%": "049g *0g3g3c0c *68989464", "&": "942d2g6g6c0804649a", "'": "0g0c",
    "(": "3i0e0632", ")": "0i3e3602", "*": "3g3a 0f6b 0b6f", "+": "0989 4d45", ",": "1502",
    "-": "0959", ".": "1414", "/": "026h",
    "0": "*0g8g8404", "1": "0d4g4g44", "2": "0d0g8g8b04040484", "3": "0e1g8g8a3a 3a9a940407",
    "4": "646g6g070797", "5": "8g1g1g0a0a2c9c940406", "6": "7g0g07 *0b8b8404", "7": "0g8g8g34",
    "8": "*1g7g7a1a *0a8a8404", "9": "14848d *0g8g8909", ":": "1515 1b1b", ";": "1b1b 1502",
    "<": "7d080873", "=": "0b8b 0787", ">": "0d787803", "?": "0e0g7g7b3b38 3434",
    "@": "93030fbfb7878c *3c8c8737",
    "A": "045g5ga4 2888", "B": "040g 0g4g8g8a4a0a 0a5a9a945404", "C": "9d9g0g049497",
    "D": "040g 0g4g9g944404", "E": "8g0g0g04040484 0a7a", "F": "8g0g0g04 0a6a",
    "G": "9d9g0g04949a9a5a", "H": "040g 949g 0a9a", "I": "040g", "J": "6g640407",
    "K": "040g 8g08 3b94", "L": "0g040474", "M": "040g0g5757agaga4", "N": "040g0g94949g",
    "O": "*0gaga404", "P": "040g 0g5g9g995909", "Q": "*0gaga404 66a3",
    "R": "040g 0g5g9g995909 5994", "S": "8d8g0g0b89840407", "T": "0gag 5g54",
    "U": "0g04949g", "V": "0g5454ag", "W": "0g34346f6f9494cg", "X": "049g 0g94",
    "Y": "0g4a 8g4a 4a44", "Z": "0g8g8g04040484", "[": "3h0h0h020232", "\\": "0h62",
    "]": "0h3h3h323202", "^": "0c4g4g8c", "_": "0282", "`": "0g2e",
    "a": "*0c7c7404 7c74", "b": "0g04 *0c7c7404", "c": "7a7c0c047476", "d": "7g74 *0c7c7404",
    "e": "0878787c0c047476", "f": "5g2g2d24 0c5c", "g": "*0c7c7404 7c700001",
    "h": "0g04 080c7c74", "i": "0c04 0g0g", "j": "2c222000 2g2g", "k": "0g04 6c07 2974",
    "l": "0g060434", "m": "0c04 090c5c54 595caca4", "n": "0c04 080c7c74", "o": "*0c7c7404",
    "p": "0c00 *0c7c7404", "q": "7c70 *0c7c7404", "r": "0c04 080c5c", "s": "6a6c0c0967640406",
    "t": "2f262454 0c5c", "u": "0c047478 7c74", "v": "0c44448c", "w": "0c34346b6b9494cc",
    "x": "047c 0c74", "y": "0c44 8c20", "z": "0c7c7c04040474", "{": "4h2h2a09 09282242",
    "|": "0h02", "ß": "040g6g6b3b 3b8b8424", "}": "0h2h2a49 49282202", "~": "082b5779",
    "×": "057c 0c75", "·": "0909", "–": "0989", "…": "0404 4444 8484",
}  # fmt: skip
_UNKNOWN = "*0g0g7g7g74740404"


def line_height(size_px: float) -> int:
    """Height in pixels of a line whose capitals are `size_px` high."""
    return round((_ASCENT + _DESCENT) * size_px / _CAP)


def text_width(text: str, size_px: float) -> float:
    """Width in pixels of `text` with capitals `size_px` high."""
    return sum(_advance(letter) for letter in _plain(text)) * size_px / _CAP


def fit(text: str, size_px: float, width_px: float) -> str:
    """Return `text`, its middle replaced by "…" where it is wider than `width_px`."""
    if text_width(text, size_px) <= width_px:
        return text
    for kept in range(len(text) - 1, 0, -1):
        shorter = text[: -(-kept // 2)] + "…" + text[len(text) - kept // 2 :]
        if text_width(shorter, size_px) <= width_px:
            return shorter
    return "…"


def draw_text(
    picture: Picture,
    text: str,
    *,
    left: float,
    top: float,
    size_px: float,
    color: tuple[int, int, int],
    weight: float = 1.0,
) -> None:
    """Draw one line of text into `picture`, cut off at its borders.

    Args:
        picture: written to.
        text: letters outside ASCII lose their accents, or become a box.
        left: column of the first letter's left edge, pixels.
        top: upper edge of the line, pixels.
        size_px: height of a capital.
        color: RGB.
        weight: stroke width; 1 is a book weight, 1.6 a bold one.
    """
    scale = size_px / _CAP
    radius = max(0.5, 0.72 * weight * scale)
    baseline = top + _ASCENT * scale
    for letter in _plain(text):
        if letter != " ":
            _blend(picture, letter, left + 0.5 * _GAP * scale, baseline, scale, radius, color)
        left += _advance(letter) * scale


def _plain(text: str) -> str:
    kept = (
        letter if letter in _STROKES else unicodedata.normalize("NFKD", letter)[:1]
        for letter in text
        if not unicodedata.combining(letter)
    )  # fmt: skip
    return "".join(" " if letter.isspace() else letter for letter in kept)


def _advance(letter: str) -> float:
    if letter == " ":
        return _SPACE
    return max(float(points[:, 0].max()) for points in _curves(letter)) + _GAP


def _blend(
    picture: Picture, letter: str, x: float, baseline: float, scale: float, radius: float,
    color: tuple[int, int, int],
) -> None:  # fmt: skip
    pieces = _pieces(letter) * np.array([scale, -scale]) + np.array([x, baseline])
    low, high = pieces.min(axis=(0, 1)) - radius - 1, pieces.max(axis=(0, 1)) + radius + 1
    left, top = np.maximum(np.floor(low), 0).astype(int)
    right, bottom = np.minimum(np.ceil(high), picture.shape[1::-1]).astype(int)
    if left >= right or top >= bottom:
        return
    columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    cover = np.clip(radius + 0.5 - _distance(columns, rows, pieces, _DOT * radius), 0, 1)[..., None]
    part = picture[top:bottom, left:right]
    part[...] = np.rint(part * (1 - cover) + np.array(color) * cover).astype(np.uint8)


def _distance(
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
    pieces: NDArray[np.float64],
    dot: float,
) -> NDArray[np.float64]:
    """Distance of each pixel (h, w) to the nearest of the straight pieces (n, 2, 2).

    Pieces without a length are dots, and count as nearer by `dot`.
    """
    start, along = pieces[:, 0], pieces[:, 1] - pieces[:, 0]
    dx = columns[..., None] - start[:, 0]  # (h, w, n)
    dy = rows[..., None] - start[:, 1]
    length = (along**2).sum(axis=1)
    share = np.clip((dx * along[:, 0] + dy * along[:, 1]) / np.maximum(length, 1e-9), 0, 1)
    away = np.hypot(dx - share * along[:, 0], dy - share * along[:, 1]) - np.where(
        length == 0, dot, 0
    )
    nearest: NDArray[np.float64] = away.min(axis=-1)
    return nearest


@cache
def _pieces(letter: str) -> NDArray[np.float64]:
    """Straight pieces (n, 2, 2) of a glyph: from and to, x and y, in grid units."""
    return np.concatenate(
        [np.stack([points[:-1], points[1:]], axis=1) for points in _curves(letter)]
    )


@cache
def _curves(letter: str) -> tuple[NDArray[np.float64], ...]:
    strokes = _STROKES.get(letter, _UNKNOWN).split()
    return tuple(_curve(stroke.removeprefix("*"), stroke.startswith("*")) for stroke in strokes)


def _curve(code: str, closed: bool) -> NDArray[np.float64]:
    """Points (n, 2) along the B-spline of a stroke's control polygon."""
    control = np.array(
        [(int(code[i], 36), int(code[i + 1], 36) - _BASELINE) for i in range(0, len(code), 2)],
        np.float64,
    )
    if closed:
        control = np.concatenate([control, control[:2]])
    if len(control) == 2:
        return control
    middles = (control[:-1] + control[1:]) / 2
    if not closed:
        middles[0], middles[-1] = control[0], control[-1]
    t = np.linspace(0, 1, _STEPS + 1)[:, None]
    bends = [
        (1 - t) ** 2 * middles[i] + 2 * t * (1 - t) * control[i + 1] + t**2 * middles[i + 1]
        for i in range(len(control) - 2)
    ]
    return np.concatenate(bends)
