"""A contact sheet: one frame of a video, styles by strengths, as a PNG file."""

import hashlib
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto.records import Frames, ScorerSpec, Settings, Source

TILE_PX = 640
"""Tiles are made smaller than this by whole factors: a frame is painted at its true size."""

GAP_PX = 8

Picture = NDArray[np.uint8]
"""RGB, uint8, (H, W, 3)."""


def make_sheet(
    path: Path,
    *,
    styles: Sequence[str],
    strengths: Sequence[float],
    target: Path,
    settings: Settings,
    at: str | None = None,
) -> dict[str, Any]:
    """Paint a frame of `path` in every style and strength; the source is on the left.

    The frame is the one at the time `at`, or that in the middle.

    Returns:
        What the sheet shows: its path, its size in pixels, its rows and columns, the frame.

    Raises:
        RequestError: the source can't be read, or there is no such style.
    """
    from impasto.media.probe import probe
    from impasto.request import select_frames
    from impasto.styles import find_style

    models = [find_style(name, user_styles=settings.user_styles)[1] for name in styles]
    source = probe(path, limits=settings.limits)
    middle = len(source.ledger) // 2
    index = middle if at is None else select_frames(source.ledger, at, None)[0]
    frame = _frame(path, source, index, settings)
    rows = []
    for name, model in zip(styles, models, strict=True):
        painted = _painted(name, model, frame, settings)
        # At strength 1 every strength is known: they differ by a blend, not by the network.
        mixed = [_blend(frame[0], painted[0], strength) for strength in strengths]
        rows.append([_smaller(picture) for picture in (frame[0], *mixed)])
    sheet = _tiled(rows)
    _publish(target, png(sheet))
    height, width, _ = sheet.shape
    return {"target": str(target), "width": width, "height": height, "frame": index,
            "styles": list(styles), "strengths": list(strengths)}  # fmt: skip


def _frame(path: Path, source: Source, index: int, settings: Settings) -> Frames:
    """One frame of the source, upright, as (1, H, W, 3)."""
    from impasto.media.decode import FrameReader
    from impasto.media.pixels import RgbReader

    read = RgbReader(source, width=source.display_width, height=source.display_height)
    with FrameReader(path, source, limits=settings.limits) as reader:
        pictures = [read(frame) for frame in reader.read(index, index + 1)]
    return np.ascontiguousarray(np.stack(pictures))


def _painted(name: str, model: bytes, frame: Frames, settings: Settings) -> Frames:
    from impasto.runtimes.openvino import best_precision
    from impasto.scorers import open_scorer

    spec = ScorerSpec(name=name, model=hashlib.sha256(model).hexdigest())
    _, height, width, _ = frame.shape
    scorer = open_scorer(spec, model, width=width, height=height, precision=best_precision(),
                         streams=1, cache=settings.model_cache)  # fmt: skip
    painted: Frames = scorer(frame)
    return painted


def _blend(source: Picture, painted: Picture, strength: float) -> Picture:
    mixed = source + (painted.astype(np.float32) - source) * np.float32(strength)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def _smaller(picture: Picture) -> Picture:
    """Averages of whole blocks of pixels, so that the longer side fits a tile."""
    height, width, _ = picture.shape
    by = min(height, width, -(-max(height, width) // TILE_PX))
    whole = picture[: height // by * by, : width // by * by]
    blocks = whole.reshape(height // by, by, width // by, by, 3)
    averages: Picture = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return averages


def _tiled(rows: Sequence[Sequence[Picture]]) -> Picture:
    """The pictures, all of one size, in a grid on a white ground."""
    height, width, _ = rows[0][0].shape
    step_y, step_x = height + GAP_PX, width + GAP_PX
    shape = (len(rows) * step_y + GAP_PX, len(rows[0]) * step_x + GAP_PX, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            top, left = GAP_PX + y * step_y, GAP_PX + x * step_x
            sheet[top : top + height, left : left + width] = picture
    return sheet


def png(picture: Picture) -> bytes:
    """`picture` as PNG (ISO/IEC 15948): 8-bit RGB, every row with filter 0."""
    height, width, _ = picture.shape
    rows = np.zeros((height, 1 + width * 3), dtype=np.uint8)  # a row begins with its filter
    rows[:, 1:] = picture.reshape(height, width * 3)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (struct.pack(">I", len(data)) + kind + data
                + struct.pack(">I", zlib.crc32(kind + data)))  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b""))  # fmt: skip


def _publish(target: Path, data: bytes) -> None:
    """Write the file whole or not at all."""
    handle, partial = tempfile.mkstemp(dir=target.absolute().parent, prefix=".impasto-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(partial).chmod(0o644)
        Path(partial).replace(target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
