"""A side-by-side clip: the source on the left, what was made of it on the right."""

import os
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from impasto.errors import RequestError
from impasto.media.decode import FrameReader
from impasto.media.encode import choose_encode, encode_segment
from impasto.media.pixels import Picture, RgbReader, YuvWriter
from impasto.media.probe import probe
from impasto.media.publish import publishing, refuse_source
from impasto.media.stitch import MUXERS, stitch, unsupported
from impasto.plan import default_chunk_frames, plan_chunks
from impasto.records import Chunk, Limits, Plan, ScorerSpec, Source, Spec

_DIVIDER_PX = 4
_DIVIDER = 236
"""Grey level: paper rather than white, which would glare beside a dark picture."""
_MOST_THREADS = 8
_WIDEST = 4096
"""Pixels that the whole may be wide: what H.264 decoders in players take (level 5.1)."""


def compare(
    source: Path, target: Path, out: Path, *, limits: Limits | None = None, force: bool = False
) -> tuple[str, ...]:
    """Write a clip that shows a source and its target side by side, frame by frame.

    Both are scaled to one size, the smaller of the two, with square pixels. The clip has the
    source's timestamps, and its sound and other streams packet for packet; the picture is H.264.

    Args:
        source: the original.
        target: its painting, with as many frames.
        out: the clip, in a container that holds H.264; it appears whole or not at all.
        limits: for opening both.
        force: overwrite a clip that is there already.

    Returns:
        What a person should know: streams that no container carries.

    Raises:
        RequestError: one of them can't be read, they don't have the same number of frames, or the
            clip's container can't hold what the source has.
    """
    limits = limits or Limits()
    refuse_source(out, source, target)
    with publishing(out, force=force) as unfinished:
        left, right = probe(source, limits), probe(target, limits)
        _check(left, right, source, target, out)
        width, height = _panel(left, right)
        plan = _plan(left, width, height)
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
                pairs = _pairs(plan.chunks[index], (first, second), halves)
                return encode_segment(map(to_yuv, pairs), plan.spec.encode)

            return stitch(source, plan, segment, unfinished, muxer=MUXERS[out.suffix.lower()],
                          limits=limits)  # fmt: skip


def _check(left: Source, right: Source, source: Path, target: Path, out: Path) -> None:
    if len(left.ledger) != len(right.ledger):
        raise RequestError(
            f"{str(source)!r} has {len(left.ledger)} frames and {str(target)!r} has "
            f"{len(right.ledger)}; only a target of the whole source can stand beside it"
        )
    if problems := unsupported(left, out, "h264"):
        raise RequestError(
            f"a {out.suffix or 'nameless'} file can't hold {', '.join(problems)}; "
            f"try -o {str(out.with_suffix('.mkv'))!r}"
        )


def _panel(left: Source, right: Source) -> tuple[int, int]:
    """Width and height in pixels of one half, both even: the smaller of the two pictures."""
    shape = left.display_aspect * left.display_width / left.display_height
    height = min(left.display_height, right.display_height)
    widest = (_WIDEST - _DIVIDER_PX) // 2
    if height * shape > widest:
        height = int(widest / shape)
    return max(2, round(height * shape / 2) * 2), max(2, height // 2 * 2)


def _plan(source: Source, width: int, height: int) -> Plan:
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
    frames = default_chunk_frames(width=whole, height=height)
    spec = Spec(
        source=source.digest,
        scorer=ScorerSpec("side by side", ""),
        encode=encode,
        start=0,
        stop=len(source.ledger),
        chunk_frames=frames,
        precision="f32",
    )
    chunks = plan_chunks(source.ledger, start=0, stop=len(source.ledger), chunk_frames=frames)
    return Plan(spec, source, chunks, "f32", None)


def _pairs(
    chunk: Chunk, readers: tuple[FrameReader, FrameReader], halves: tuple[RgbReader, RgbReader]
) -> Generator[Picture]:
    """Yield the chunk's pictures with the divider between them, RGB uint8 (H, W, 3)."""
    frames = [reader.read(chunk.start, chunk.stop) for reader in readers]
    for pair in zip(*frames, strict=True):
        left, right = (to_rgb(frame) for to_rgb, frame in zip(halves, pair, strict=True))
        divider = np.full((len(left), _DIVIDER_PX, 3), _DIVIDER, np.uint8)
        yield np.concatenate([left, divider, right], axis=1)
