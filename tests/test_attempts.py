"""How often a chunk is tried, and an engine begun, before a run gives up."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction

import pytest

from impasto.attempts import Attempts, Scored
from impasto.errors import EngineLost, RunFailed
from impasto.records import (
    Chunk,
    Color,
    Done,
    Encode,
    Event,
    Failed,
    Ledger,
    Outcome,
    Plan,
    Progress,
    ScorerSpec,
    Source,
    Spec,
    Task,
)
from impasto.stopping import Stopping

_CHUNKS = tuple(Chunk(index, index, index + 1, 0) for index in range(4))
_SOURCE = Source(
    digest="", bytes=0, container="mp4", video_index=0, codec="h264", width=64, height=64,
    rotation=0, mirrored=False, sample_aspect_ratio=Fraction(1), pixel_format="yuv420p",
    color=Color(), streams=(), chapters=0,
    ledger=Ledger(Fraction(1, 25), (0, 1, 2, 3), (True,) * 4, (0,) * 4, 1),
)  # fmt: skip
_ENCODE = Encode("h264", 18, "fast", 64, 64, "yuv420p", Fraction(1), Color(), Fraction(25))
_SPEC = Spec(
    source="", scorer=ScorerSpec("style", ""), encode=_ENCODE, start=0, stop=4, chunk_frames=1,
    precision="f32",
)  # fmt: skip
_PLAN = Plan(_SPEC, _SOURCE, _CHUNKS, "f32", None)


class Script:
    """An engine whose outcomes are written down: a letter for each chunk that it is given.

    "d" done, "f" failed, "l" its worker lost, "n" failed for good, "x" the engine lost with it.
    """

    name, workers = "script", 1

    def __init__(self, letters: str) -> None:
        self._letters: Iterator[str] = iter(letters)
        self.calls = 0

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        self.calls += 1
        for chunk in chunks:
            match next(self._letters):
                case "d":
                    yield Done(chunk.index, "w", "", 1, 0, {}, (0,), "cpu")
                case "x":
                    yield Failed(chunk.index, "w", "gone", lost_worker=True)
                    raise EngineLost("all workers are gone")
                case letter:
                    yield Failed(
                        chunk.index, "w", "no", lost_worker=letter == "l", retriable=letter != "n"
                    )


def _make(letters: str, *, restarts: int = 0) -> tuple[Scored, list[str]]:
    notes: list[str] = []
    events: list[Event] = []
    scored, engine = Scored({}), Script(letters)
    attempts = Attempts(
        engine, Task("run", "", ""), _PLAN, restarts, Stopping(), events.append,
        notes.append, lambda _: None,
    )  # fmt: skip
    attempts.make(scored)
    assert sorted(scored.done) == [0, 1, 2, 3]
    assert engine.calls == 1 + scored.restarts  # what failed waits for no round to end
    assert scored.failed == sum(isinstance(event, Failed) for event in events)
    return scored, notes


@pytest.mark.parametrize(
    ("letters", "retried"),
    [
        ("dddd", 0),
        ("dfdd d", 1),
        ("ffff fddd d", 5),
        ("lllld ddd", 4),  # four losses are borne, and what was lost waits for nothing
        ("fddd l f l d", 4),  # and do not count as failures
    ],
)
def test_what_failed_is_tried_again(letters: str, retried: int) -> None:
    scored, notes = _make(letters.replace(" ", ""))
    assert (scored.retried, scored.restarts, notes) == (retried, 0, [])


@pytest.mark.parametrize(
    ("letters", "times"), [("fddd f f", 3), ("lllll", 5), ("nddd", 1), ("fddd l f l f", 5)]
)
def test_a_chunk_that_fails_everywhere_ends_the_run(letters: str, times: int) -> None:
    with pytest.raises(RunFailed, match=rf"chunk 0 \(frames 0 to 0\) failed {times} times?: no"):
        _make(letters.replace(" ", ""))


def test_a_lost_engine_is_begun_again_as_often_as_asked() -> None:
    scored, notes = _make("dx x x x x x ddd".replace(" ", ""), restarts=6)
    assert scored.restarts == 6
    assert scored.retried == 6  # and no chunk was given up for it
    assert notes[0] == "all workers are gone; started again (1 of 6)"
    with pytest.raises(RunFailed, match="gone; 1 of 4 chunks done; begun again it goes on"):
        _make("dx x".replace(" ", ""), restarts=1)


class Pair:
    """An engine of two workers: the first chunk fails for good while another is under way."""

    name, workers = "pair", 2

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        waiting = iter(chunks)
        bad, good = next(waiting), next(waiting)
        yield Failed(bad.index, "w", "no", retriable=False)
        assert next(waiting, None) is None
        yield Done(good.index, "w", "", 1, 0, {}, (0,), "cpu")


def test_a_run_that_can_t_succeed_begins_nothing_more_and_keeps_what_is_under_way() -> None:
    scored = Scored({})
    attempts = Attempts(
        Pair(), Task("run", "", ""), _PLAN, 0, Stopping(), lambda _: None, lambda _: None,
        lambda _: None,
    )  # fmt: skip
    with pytest.raises(RunFailed, match="chunk 0"):
        attempts.make(scored)
    assert sorted(scored.done) == [1]
