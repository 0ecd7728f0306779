"""A side-by-side clip: the source on the left, what was made of it on the right."""

import os
from bisect import bisect_left
from collections.abc import Generator, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame

from impasto.errors import RequestError, Way
from impasto.media.decode import FrameReader
from impasto.media.encode import choose_encode, encode_segment
from impasto.media.pixels import Picture, RgbReader, YuvWriter
from impasto.media.probe import probe
from impasto.media.publish import publishing, refuse_source
from impasto.media.stitch import MUXERS, stitch, unsupported
from impasto.plan import default_cut, plan_chunks
from impasto.protocols import File
from impasto.records import Plan, ScorerSpec, Source, Spec
from impasto.settings import Limits
from impasto.wording import plural

_DIVIDER_PX = 4
_DIVIDER = 236
"""Grey level: paper rather than white, which would glare beside a dark picture."""
_MOST_THREADS = 8
_WIDEST = 4096
"""Pixels that the whole may be wide: what H.264 decoders in players take (level 5.1)."""


def compare(
    source: File,
    target: File,
    out: File,
    *,
    start_s: Fraction | None = None,
    limits: Limits | None = None,
    force: bool = False,
) -> tuple[str, ...]:
    """Write a clip that shows a source and its target side by side, frame by frame.

    Both are scaled to one size, the smaller of the two, with square pixels. The clip has the
    source's timestamps, and its sound and other streams packet for packet; the picture is H.264.

    Args:
        source: the original.
        target: its painting, or that of a part of it.
        out: the clip, in a container that holds H.264; it appears whole or not at all.
        start_s: where that part begins, in seconds after the source's first frame.
        limits: for opening both.
        force: overwrite a clip that is there already.

    Returns:
        What a person should know: streams that no container carries.

    Raises:
        RequestError: one of them can't be read, they don't have the same number of frames and
            `start_s` does not say where the part begins, or the clip's container can't hold what
            the source has.
    """
    limits = limits or Limits()
    refuse_source(out, source, target)
    with publishing(out, force=force) as unfinished:
        left, right = probe(source, limits), probe(target, limits)
        start = _start(left, right, start_s, source, target)
        if problems := unsupported(left, out, "h264"):
            raise RequestError(
                f"a {out.suffix or 'nameless'} file can't hold {', '.join(problems)}",
                Way("target", str(out).removesuffix(out.suffix) + ".mkv"),
            )
        width, height = _panel(left, right)
        plan = _plan(left, width, height, start, start + len(right.ledger))
        halves = (
            RgbReader(left, width=width, height=height),
            RgbReader(right, width=width, height=height),
        )
        to_yuv = YuvWriter(plan.spec.encode)
        with (
            FrameReader(source, left, limits=limits) as first,
            FrameReader(target, right, limits=limits) as second,
        ):

            def segment(index: int) -> bytes:
                # Made when the stitch asks for it, so memory holds one segment at a time.
                chunk = plan.chunks[index]
                frames = (
                    first.read(chunk.start, chunk.stop),
                    second.read(chunk.start - start, chunk.stop - start),
                )
                pairs = _pairs(frames, halves)
                return encode_segment(map(to_yuv, pairs), plan.spec.encode)

            return stitch(source, plan, segment, unfinished, muxer=MUXERS[out.suffix.lower()],
                          limits=limits)  # fmt: skip


def _start(
    left: Source, right: Source, start_s: Fraction | None, source: File, target: File
) -> int:
    """Return the frame of the source that stands beside the target's first."""
    ledger, count = left.ledger, len(right.ledger)
    if start_s is None and len(ledger) != count:
        raise RequestError(
            f"{str(source)!r} has {plural(len(ledger), 'frame')} and {str(target)!r} has {count}; "
            "for a painted part, say where it begins (start)"
        )
    start = bisect_left(ledger.pts, ledger.pts[0] + (start_s or 0) / ledger.time_base)
    if start + count > len(ledger):
        raise RequestError(
            f"{str(target)!r} has {plural(count, 'frame')}, but {str(source)!r} has only "
            f"{max(0, len(ledger) - start)} from there on"
        )
    return start


def _panel(left: Source, right: Source) -> tuple[int, int]:
    """Width and height in pixels of one half, both even: the smaller of the two pictures."""
    shape = left.display_aspect * left.display_width / left.display_height
    height = min(left.display_height, right.display_height)
    widest = (_WIDEST - _DIVIDER_PX) // 2
    if height * shape > widest:
        height = int(widest / shape)
    return max(2, round(height * shape / 2) * 2), max(2, height // 2 * 2)


def _plan(source: Source, width: int, height: int, start: int, stop: int) -> Plan:
    whole = 2 * width + _DIVIDER_PX
    encode, _ = choose_encode(
        source, codec="h264", crf=None, preset=None, width=whole, height=height
    )
    encode = replace(
        encode,
        pixel_format="yuv420p",
        sample_aspect_ratio=Fraction(1),
        threads=min(_MOST_THREADS, os.cpu_count() or 1),
    )
    frames, tail = default_cut(width=whole, height=height)
    spec = Spec(
        source=source.digest,
        scorer=ScorerSpec("side by side", ""),
        encode=encode,
        start=start,
        stop=stop,
        chunk_frames=frames,
        precision="f32",
        tail=tail,
    )
    chunks = plan_chunks(source.ledger, start=start, stop=stop, chunk_frames=frames, tail=tail)
    return Plan(spec, source, chunks, "f32", None)


def _pairs(
    frames: tuple[Iterator[VideoFrame], Iterator[VideoFrame]], halves: tuple[RgbReader, RgbReader]
) -> Generator[Picture]:
    """Yield two runs of frames side by side with the divider between, RGB uint8 (H, W, 3)."""
    for pair in zip(*frames, strict=True):
        left, right = (to_rgb(frame) for to_rgb, frame in zip(halves, pair, strict=True))
        divider = np.full((len(left), _DIVIDER_PX, 3), _DIVIDER, np.uint8)
        yield np.concatenate([left, divider, right], axis=1)
