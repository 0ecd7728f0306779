"""Cut the frame ledger into chunks. Pure: the same ledger gives the same chunks anywhere."""

from bisect import bisect_right

from impasto.errors import RequestError
from impasto.fleet import Tail
from impasto.records import Chunk, Ledger

_CHUNK_PIXELS = 30_000_000
"""Picture area per chunk by default: about 130 frames of 640x360 or 15 of 1080p. A chunk is what a
lost worker costs, and what a segment's start-up (a seek, an IDR frame) is spread over."""
_SHORTEST, _LONGEST = 12, 240
_FEW_WORKERS = 2
"""That chunks get shorter for at the end by default: what most machines have, and it costs one that
has a single worker about one per cent of a minute's work."""
_FINEST = 5
"""Chunks of the end are not shorter than this part of the others."""


def default_cut(*, width: int, height: int) -> tuple[int, Tail]:
    """Frames per chunk for pictures of this size, and how chunks get shorter towards the end.

    It depends on nothing else, least of all a fleet, so that a target's bytes don't either.
    """
    frames = max(_SHORTEST, min(_LONGEST, _CHUNK_PIXELS // (width * height)))
    return frames, Tail(_FEW_WORKERS, max(_SHORTEST, frames // _FINEST))


def plan_chunks(
    ledger: Ledger, *, start: int, stop: int, chunk_frames: int, tail: Tail | None = None
) -> tuple[Chunk, ...]:
    """Cut frames `[start, stop)` into chunks of about `chunk_frames`.

    A cut moves to the nearest keyframe where one is within a quarter of the length, so that few
    frames are decoded twice; where the source has none there, the cut stays.

    With a `tail` the last chunks are shorter. Chunks come in batches, one for each worker, and a
    batch is half of what is left (factoring: Hummel, Schonberg and Flynn, CACM 35(8), 1992), but
    no chunk is longer than `chunk_frames` or shorter than `tail.shortest`.

    Raises:
        RequestError: `chunk_frames` is not positive, or the range is empty or outside the ledger.
    """
    if chunk_frames < 1:
        raise RequestError(f"chunk_frames must be positive, got {chunk_frames}")
    if not 0 <= start < stop <= len(ledger):
        raise RequestError(f"no frames in [{start}, {stop}) of {len(ledger)}")
    keyframes = [i for i in range(1, stop) if ledger.keyframe[i]]
    workers = tail.workers if tail is not None else 1
    shortest = min(chunk_frames, tail.shortest) if tail is not None else chunk_frames
    cuts, length = [start], chunk_frames
    while True:
        left = stop - cuts[-1]
        if workers > 1 and (len(cuts) - 1) % workers == 0:
            length = max(shortest, min(chunk_frames, -(-left // (2 * workers))))
        slack = length // 4
        if left <= length + slack:
            break
        wanted = cuts[-1] + length
        place = bisect_right(keyframes, wanted)
        near = [k for k in keyframes[max(0, place - 1) : place + 1] if abs(k - wanted) <= slack]
        cuts.append(min(near, key=lambda k: abs(k - wanted)) if near else wanted)
    return tuple(
        Chunk(index, first, last, ledger.pts[_last_before(keyframes, first)])
        for index, (first, last) in enumerate(zip(cuts, [*cuts[1:], stop], strict=True))
    )


def _last_before(keyframes: list[int], index: int) -> int:
    place = bisect_right(keyframes, index)
    return keyframes[place - 1] if place else 0


def seek_frame(ledger: Ledger, index: int, *, back: int = 0) -> int:
    """Index of the last keyframe at or before frame `index`, or `back` keyframes before that one.

    0 where there is none: a stream may begin in the middle of a group of pictures.
    """
    for candidate in range(index, 0, -1):
        if ledger.keyframe[candidate]:
            if back == 0:
                return candidate
            back -= 1
    return 0
