"""Chunks tile the ledger, and requests in words become frames and sizes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from impasto.errors import RequestError
from impasto.plan import default_cut, plan_chunks, seek_frame
from impasto.records import Color, Ledger, Source
from impasto.request import parse_time, select_frames, target_size
from records_made import ledgers, sources


@st.composite
def _requests(draw: st.DrawFn) -> tuple[Ledger, int, int, int]:
    """A ledger, a range [start, stop) of it, and a chunk size."""
    ledger = draw(ledgers())
    start = draw(st.integers(0, len(ledger) - 1))
    stop = draw(st.integers(start + 1, len(ledger)))
    return ledger, start, stop, draw(st.integers(1, 100))


@given(_requests())
def test_chunks_tile_the_range_exactly(request: tuple[Ledger, int, int, int]) -> None:
    ledger, start, stop, size = request
    chunks = plan_chunks(ledger, start=start, stop=stop, chunk_frames=size)
    frames = [frame for chunk in chunks for frame in range(chunk.start, chunk.stop)]
    assert frames == list(range(start, stop))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(len(chunk) > 0 for chunk in chunks)
    assert all(len(chunk) <= size + size // 4 for chunk in chunks)


@given(_requests())
def test_decoding_starts_at_a_keyframe_at_or_before_the_chunk(
    request: tuple[Ledger, int, int, int],
) -> None:
    ledger, start, stop, size = request
    for chunk in plan_chunks(ledger, start=start, stop=stop, chunk_frames=size):
        origin = ledger.pts.index(chunk.seek_pts)
        assert origin <= chunk.start
        assert ledger.keyframe[origin] or origin == 0
        assert not any(ledger.keyframe[origin + 1 : chunk.start + 1])


@given(_requests())
def test_the_plan_depends_on_nothing_but_its_arguments(
    request: tuple[Ledger, int, int, int],
) -> None:
    ledger, start, stop, size = request
    again = replace(ledger, checksum=(0,) * len(ledger), time_base=Fraction(1, 7), last_duration=9)
    chunks = plan_chunks(ledger, start=start, stop=stop, chunk_frames=size)
    assert chunks == plan_chunks(again, start=start, stop=stop, chunk_frames=size)


@given(_requests(), st.integers(0, 5))
def test_going_further_back_ends_at_the_first_frame(
    request: tuple[Ledger, int, int, int], back: int
) -> None:
    ledger, start, _, _ = request
    origins = [seek_frame(ledger, start, back=steps) for steps in range(back + 1)]
    assert origins == sorted(origins, reverse=True)
    assert seek_frame(ledger, start, back=len(ledger)) == 0


def _ledger(count: int, keyframes: set[int] | None = None) -> Ledger:
    marks = tuple(i in (keyframes or {0}) for i in range(count))
    return Ledger(Fraction(1, 24), tuple(range(count)), marks, (0,) * count, 1)


def test_a_cut_moves_to_a_keyframe_nearby_and_to_no_other() -> None:
    near = plan_chunks(_ledger(40, {0, 11, 35}), start=0, stop=40, chunk_frames=12)
    assert [(chunk.start, chunk.stop) for chunk in near] == [(0, 11), (11, 23), (23, 35), (35, 40)]
    none = plan_chunks(_ledger(40, {0, 18}), start=0, stop=40, chunk_frames=12)
    assert none[1].start == 12


def test_fewer_frames_than_a_chunk_are_one_chunk() -> None:
    assert len(plan_chunks(_ledger(3), start=0, stop=3, chunk_frames=120)) == 1


@pytest.mark.parametrize("chunk_frames", [0, -1])
def test_a_chunk_has_a_frame_at_least(chunk_frames: int) -> None:
    with pytest.raises(RequestError, match=f"chunk_frames must be positive, got {chunk_frames}"):
        plan_chunks(_ledger(3), start=0, stop=3, chunk_frames=chunk_frames)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (2, 2), (-1, 2), (0, 4), (2, 1)])
def test_a_range_lies_within_the_ledger(start: int, stop: int) -> None:
    with pytest.raises(RequestError, match="of 3"):
        plan_chunks(_ledger(3), start=start, stop=stop, chunk_frames=1)


@given(st.integers(1, 16384), st.integers(1, 16384))
def test_the_default_chunk_depends_on_the_picture_alone(width: int, height: int) -> None:
    frames, tail = default_cut(width=width, height=height)
    assert 12 <= tail.shortest <= frames <= 240


def test_by_default_two_workers_end_within_a_short_chunk_of_each_other() -> None:
    frames, tail = default_cut(width=640, height=360)
    for length in (96, 250, 960, 1920, 15_000):
        chunks = plan_chunks(_ledger(length), start=0, stop=length, chunk_frames=frames, tail=tail)
        free = [0, 0]  # in frames: each worker that comes free takes the next
        for chunk in chunks:
            free[free.index(min(free))] += len(chunk)
        assert max(free) - min(free) <= 1.25 * tail.shortest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", Fraction(25, 2)),
        ("90s", Fraction(90)),
        ("00:01:02.5", Fraction(125, 2)),
        ("1:30", Fraction(90)),
        ("0", Fraction(0)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_a_time_is_read_exactly(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "1:-2", "1:2:3:4", "1/3", "noon", "nan", "inf", "1e400000000", "1:2s:3"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="a time reads"):
        parse_time(text)


@given(st.integers(0, 99), st.integers(0, 59), st.decimals(0, 59, places=3))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: object) -> None:
    read = parse_time(f"{hours}:{minutes:02}:{seconds}")
    assert read == hours * 3600 + minutes * 60 + Fraction(str(seconds))


@given(ledgers(longest=30), st.integers(0, 40), st.integers(0, 40))
def test_a_part_holds_the_frames_that_begin_within_it(
    ledger: Ledger, first: int, last: int
) -> None:
    ledger = replace(ledger, time_base=Fraction(1, 1 << 20))  # days, not ages
    span = float((ledger.pts[-1] - ledger.pts[0]) * ledger.time_base)
    start, end = f"{span * first / 40:.6f}", f"{span * last / 40 + 1e-6:.6f}"
    zero = ledger.pts[0] * ledger.time_base
    shown = [pts * ledger.time_base - zero for pts in ledger.pts]
    inside = [i for i, s in enumerate(shown) if Fraction(start) <= s < Fraction(end)]
    if not inside:
        with pytest.raises(RequestError, match="no frame lies between"):
            select_frames(ledger, start, end)
        return
    assert list(range(*select_frames(ledger, start, end))) == inside


@given(ledgers(longest=30))
def test_without_times_the_whole_film_is_taken(ledger: Ledger) -> None:
    assert select_frames(ledger, None, None) == (0, len(ledger))
    assert select_frames(ledger, "0", None) == (0, len(ledger))


_SOURCE = Source(
    digest="", bytes=0, container="mov", video_index=0, codec="h264", width=1920, height=1080,
    rotation=0, mirrored=False, sample_aspect_ratio=Fraction(1), pixel_format="yuv420p",
    color=Color(), streams=(), chapters=0, ledger=_ledger(1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("size", "rotation", "pair"),
    [
        ("source", 0, (1920, 1080)),
        ("source", 90, (1080, 1920)),
        ("720p", 0, (1280, 720)),
        ("720p", 90, (404, 720)),
        ("480p", 0, (854, 480)),
        ("855x481", 0, (855, 481)),
        ("640X360", 270, (640, 360)),
    ],
)
def test_a_size_is_read(size: str, rotation: int, pair: tuple[int, int]) -> None:
    assert target_size(replace(_SOURCE, rotation=rotation), size) == pair


@pytest.mark.parametrize(
    "size", ["", "p", "0p", "x", "12x", "x12", "0x5", "-4x4", "99999x9", "20000p", "4 x 4", "4x4x4",
             "²p", "hd", "9" * 5000 + "p"],
)  # fmt: skip
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(RequestError, match="size must be"):
        target_size(_SOURCE, size)


@given(sources, st.integers(16, 2000))
def test_a_height_keeps_the_shape(source: Source, height: int) -> None:
    exact = Fraction(source.display_width * height, source.display_height)
    assume(2 <= exact <= 16000)
    width, found = target_size(source, f"{height}p")
    assert found == height
    assert width % 2 == 0
    assert abs(width - exact) <= 1
