"""A contact sheet: styles and strengths on frames of a video's real scenes, as one picture."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from impasto.errors import RequestError, Way
from impasto.frames import video_at
from impasto.media.decode import FrameReader
from impasto.media.pixels import Picture, RgbReader
from impasto.media.probe import probe
from impasto.media.publish import publishing, refuse_source
from impasto.media.scenes import choose_frames, watch
from impasto.media.sheet import Row, draw_sheet
from impasto.media.still import encode_png, resize
from impasto.records import Frames, ScorerSpec, Source
from impasto.request import select_frames
from impasto.runtimes.openvino import best_precision
from impasto.scorers import open_scorer
from impasto.settings import Settings
from impasto.stores import Place, locate
from impasto.styles import DEFAULT_QUALITY, Blend, find_style

_SHEET_WIDTH = 1840
"""Pixels that the columns share; a tile stays between the two sizes below."""
_LEAST_TILE, _LARGEST_TILE = 240, 640
_MAX_FRAMES = 24


@dataclass(frozen=True, slots=True)
class PreviewReport:
    """What a contact sheet shows."""

    target: str
    width: int
    """Pixels of the sheet."""
    height: int
    frames: tuple[int, ...]
    """Ledger indices, in order."""
    times_s: tuple[float, ...]
    """After the first frame."""
    styles: tuple[str, ...]
    strengths: tuple[float, ...]


def preview(
    source: str | Place,
    *,
    styles: Sequence[str | Blend],
    strengths: Sequence[float],
    target: str | Place,
    settings: Settings,
    quality: str = DEFAULT_QUALITY,
    frames: int = 3,
    at: str | None = None,
    rate: str | float | None = None,
    force: bool = False,
) -> PreviewReport:
    """Paint a few frames in every style and strength, and lay them out beside the source.

    The frames stand for the longest scenes. They are painted at the source's own size, because a
    network's strokes have a size in pixels, and made smaller afterwards.

    Args:
        source: path or URL of the video, or of a folder of frames.
        styles: names of shipped or own styles, or blends of them.
        strengths: 0 is the source, 1 the full style.
        target: the PNG file.
        settings: folders and limits.
        quality: which network, where a style has several.
        frames: how many scenes; fewer when the video has fewer frames.
        at: a time such as "12.5" or "00:01:02"; the frame shown then, and no other.
        rate: of a folder's frames per second, as in `Options`.
        force: overwrite an existing target.

    Raises:
        RequestError: the source can't be read, no such style or quality, a number out of range,
            or the target exists.
    """
    _check(styles, strengths, frames)
    named = locate(source, settings.access, or_folder=True)
    target = locate(target, settings.access)
    if target.suffix.lower() != ".png":
        raise RequestError(f"a contact sheet is a .png file, got {str(target)!r}")
    found = [find_style(each, quality, user_styles=settings.user_styles) for each in styles]
    names = [style.name for style, _ in found]
    path = video_at(named, settings, rate=rate)
    refuse_source(target, path)
    with publishing(target, force=force) as unfinished:
        probed = probe(path, settings.limits)
        if at is None:
            with FrameReader(path, probed, limits=settings.limits) as reader:
                chosen = choose_frames(watch(reader.read(0, len(probed.ledger))), frames)
        else:
            chosen = [select_frames(probed.ledger, at, None)[0]]
        pictures = read_pictures(path, probed, chosen, settings)
        painted = [_paint(style.name, model, pictures) for style, model in found]
        times_s = [_time_s(probed, index) for index in chosen]
        sheet = _lay_out(named.name, probed, times_s, pictures, names, painted, strengths)
        unfinished.write_bytes(encode_png(sheet))
    return PreviewReport(
        target=str(target),
        width=sheet.shape[1],
        height=sheet.shape[0],
        frames=tuple(chosen),
        times_s=tuple(float(time_s) for time_s in times_s),
        styles=tuple(names),
        strengths=tuple(strengths),
    )


def read_pictures(
    path: Place, source: Source, indices: Sequence[int], settings: Settings
) -> Frames:
    """Return frames of `source`, ledger indices in rising order, upright, as (N, H, W, 3)."""
    to_rgb = RgbReader(source, width=source.display_width, height=source.display_height)
    with FrameReader(path, source, limits=settings.limits) as reader:
        return np.stack([to_rgb(next(reader.read(index, index + 1))) for index in indices])


def tile_size(source: Source, columns: int) -> tuple[int, int]:
    """Width and height in pixels of a tile, in the shape that a player shows.

    `columns` is how many stand side by side.
    """
    shape = source.display_aspect * source.display_width / source.display_height
    longest = max(_LEAST_TILE, min(_LARGEST_TILE, _SHEET_WIDTH // columns))
    if shape >= 1:
        return longest, max(1, round(longest / shape))
    return max(1, round(longest * shape)), longest


def clock(time_s: Fraction) -> str:
    """Write seconds as "0:01.5" or "1:02:03.5"."""
    tenths = round(time_s * 10)
    minutes, rest = divmod(tenths, 600)
    seconds = f"{rest // 10:02}.{rest % 10}"
    return (
        f"{minutes // 60}:{minutes % 60:02}:{seconds}" if minutes >= 60 else f"{minutes}:{seconds}"
    )


def _check(styles: Sequence[str | Blend], strengths: Sequence[float], frames: int) -> None:
    if not styles:
        raise RequestError("a preview needs at least one style", Way("styles"))
    if not strengths or not all(0 <= strength <= 1 for strength in strengths):
        raise RequestError(f"strengths must be numbers within 0 and 1, got {list(strengths)}")
    if not 1 <= frames <= _MAX_FRAMES:
        raise RequestError(f"frames must be within 1 and {_MAX_FRAMES}, got {frames}")


def _paint(name: str, model: bytes, pictures: Frames) -> Frames:
    spec = ScorerSpec(name=name, model=hashlib.sha256(model).hexdigest())
    _, height, width, _ = pictures.shape
    scorer = open_scorer(spec, model, width=width, height=height, precision=best_precision())
    return scorer(pictures)


def _time_s(source: Source, index: int) -> Fraction:
    ledger = source.ledger
    return (ledger.pts[index] - ledger.pts[0]) * ledger.time_base


def _lay_out(
    title: str,
    source: Source,
    times_s: Sequence[Fraction],
    pictures: Frames,
    styles: Sequence[str],
    painted: Sequence[Frames],
    strengths: Sequence[float],
) -> Picture:
    headings = ["source", *(f"strength {strength:g}" for strength in strengths)]
    width, height = tile_size(source, len(headings))
    rows = []
    for place, time_s in enumerate(times_s):
        for name, results in zip(styles, painted, strict=True):
            # At strength 1 every strength is known: they differ by a blend, not by the network.
            mixed = [_blend(pictures[place], results[place], each) for each in strengths]
            tiles = [resize(each, width=width, height=height) for each in (pictures[place], *mixed)]
            rows.append(Row(clock(time_s), tuple(tiles), detail=name))
    ledger = source.ledger
    length_s = (ledger.pts[-1] + ledger.last_duration - ledger.pts[0]) * ledger.time_base
    facts = [
        f"{source.display_width}×{source.display_height}",
        f"{float(ledger.average_rate):.5g} fps",
        clock(length_s),
        ", ".join(styles),
    ]
    return draw_sheet(title, "  ·  ".join(facts), headings, rows)


def _blend(source: Picture, painted: Picture, strength: float) -> Picture:
    mixed = source + (painted.astype(np.float32) - source) * np.float32(strength)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)
