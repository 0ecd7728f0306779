"""A sheet of pictures: a title, columns with headings, rows with captions, even margins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from impasto.media.lettering import draw_text, fit, line_height, text_width
from impasto.media.pixels import Picture

_PAPER = (246, 245, 242)
_INK = (38, 40, 46)
_SOFT = (128, 130, 136)
_EDGE = (222, 220, 215)

_TITLE_PX, _HEAD_PX, _SMALL_PX = 20.0, 11.0, 9.5
"""Height of capitals."""
_MARGIN, _GUTTER, _ROW_GAP, _SECTION_GAP = 48, 16, 10, 26


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures side by side, all of one size, with a caption above them."""

    caption: str
    """Written once for neighbouring rows that share it: they are one section."""
    pictures: tuple[Picture, ...]
    detail: str = ""
    """Stands after the caption, paler."""


def draw_sheet(title: str, detail: str, headings: Sequence[str], rows: Sequence[Row]) -> Picture:
    """Lay out rows of pictures under their headings.

    Args:
        title: the first line, large; shortened in its middle where it is too long.
        detail: the second line, small.
        headings: one for each column.
        rows: at least one; each has as many pictures as there are headings.

    Returns:
        RGB uint8 (H, W, 3).
    """
    tile_height, tile_width, _ = rows[0].pictures[0].shape
    width = 2 * _MARGIN + len(headings) * (tile_width + _GUTTER) - _GUTTER
    tops, y = [], _MARGIN + line_height(_TITLE_PX) + 4 + line_height(_SMALL_PX) + _SECTION_GAP
    heading_top = y
    y += line_height(_HEAD_PX) + 14
    for index, row in enumerate(rows):
        if index:
            y += _SECTION_GAP if row.caption != rows[index - 1].caption else _ROW_GAP
        tops.append(y)
        y += line_height(_SMALL_PX) + 6 + tile_height
    sheet: Picture = np.full((y + _MARGIN, width, 3), _PAPER, np.uint8)
    _line(sheet, title, (_MARGIN, _MARGIN), _TITLE_PX, _INK, weight=1.35)
    _line(sheet, detail, (_MARGIN, _MARGIN + line_height(_TITLE_PX) + 4), _SMALL_PX, _SOFT)
    step = tile_width + _GUTTER
    for column, heading in enumerate(headings):
        left = _MARGIN + column * step
        _line(sheet, heading, (left, heading_top), _HEAD_PX, _INK, width=tile_width, weight=1.2)
    for index, (row, top) in enumerate(zip(rows, tops, strict=True)):
        _caption(sheet, row, top, new=not index or row.caption != rows[index - 1].caption)
        for column, picture in enumerate(row.pictures):
            _place(sheet, picture, _MARGIN + column * step, top + line_height(_SMALL_PX) + 6)
    return sheet


def _caption(sheet: Picture, row: Row, top: int, *, new: bool) -> None:
    left = _MARGIN
    if new and row.caption:
        _line(sheet, row.caption, (left, top), _SMALL_PX, _INK, weight=1.2)
        left += round(text_width(row.caption, _SMALL_PX)) + 12
    _line(sheet, row.detail, (left, top), _SMALL_PX, _SOFT)


def _line(
    sheet: Picture, text: str, at: tuple[int, int], size_px: float, color: tuple[int, int, int],
    *, width: int | None = None, weight: float = 1.0,
) -> None:  # fmt: skip
    room = sheet.shape[1] - _MARGIN - at[0] if width is None else width
    draw_text(sheet, fit(text, size_px, room), left=at[0], top=at[1], size_px=size_px,
              color=color, weight=weight)  # fmt: skip


def _place(sheet: Picture, picture: Picture, left: int, top: int) -> None:
    """Put a picture on the paper; a hairline keeps light pictures from running into it."""
    height, width, _ = picture.shape
    sheet[top - 1 : top + height + 1, left - 1 : left + width + 1] = _EDGE
    sheet[top : top + height, left : left + width] = picture
