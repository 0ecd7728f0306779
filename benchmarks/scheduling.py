"""What it costs to schedule chunks, without scoring them: `python benchmarks/scheduling.py`.

The real planner, hand-out, attempts and time sheet, over workers that answer at once; also with
two Azure accounts, for which each chunk's rights are signed. Microseconds per chunk, and the memory
that stays.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from typing import Any
from unittest.mock import patch

from impasto import rights
from impasto.access import Access
from impasto.attempts import Attempts, Scored
from impasto.engines.handout import hand_out
from impasto.engines.member import Leaving, Message, Order
from impasto.fleet import Fleet, Tail
from impasto.plan import plan_chunks
from impasto.records import Chunk, Done, Outcome, Progress, Task
from impasto.stopping import Stopping
from impasto.timesheet import Timesheet
from simulate import WORK, ledger, plan

_TASK = Task("scheduling", "", "")
_KEY = base64.b64encode(bytes(64)).decode()
_SIGNED = Task(
    "scheduling", "az://media/in/film.mp4", "az://system",
    access=(Access(url="az://media", account="media", key=_KEY),
            Access(url="az://system", account="system", key=_KEY)),
)  # fmt: skip
"""Account keys sign without asking anybody."""
_FRAMES = 12
"""Per chunk."""


class Instant:
    """Workers that are done with a chunk as soon as they have it."""

    def __init__(self) -> None:
        self._given: deque[tuple[int, Order]] = deque()

    def give(self, seat: int, order: Order) -> None:
        """See `Crew.give`."""
        self._given.append((seat, order))

    def hear(self) -> tuple[int, Message]:
        """See `Crew.hear`."""
        seat, order = self._given.popleft()
        return seat, Done(order.chunk.index, f"n{seat}/1", "", _FRAMES, 0.0, {}, (), "none")

    def closed_by(self, seat: int, leaving: Leaving) -> Collection[int]:  # noqa: ARG002
        """See `Crew.closed_by`."""
        return ()

    def drop(self, seat: int) -> None:
        """See `Crew.drop`."""


class InstantEngine:
    """The hand-out of every engine, over such workers."""

    name = "instant"

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        """See `Engine.map`."""
        yield from hand_out(Instant(), self.workers, task, chunks, on_progress)


def measure(chunks: int, workers: int) -> dict[str, Any]:
    """Microseconds per chunk for planning and for handing out, and bytes per chunk that stay."""
    film = ledger(chunks * _FRAMES)
    began = time.perf_counter()
    cut = plan_chunks(film, start=0, stop=len(film), chunk_frames=_FRAMES, tail=Tail(workers, 1))
    plan_s = time.perf_counter() - began
    began = time.perf_counter()
    for _ in hand_out(Instant(), workers, _TASK, cut, _nothing):
        pass
    hand_out_s = time.perf_counter() - began
    made = plan(film, "default", WORK, Fleet())
    engine = Timesheet(InstantEngine(workers))
    scored = Scored({})
    attempts = Attempts(engine, _TASK, _with(made, cut), 0, Stopping(), _nothing, _nothing,
                        _nothing)  # fmt: skip
    began = time.perf_counter()
    attempts.make(scored)
    whole_s = time.perf_counter() - began
    planned = _with(made, cut)
    began = time.process_time()
    with patch.object(rights, "_plan", lambda _: planned):
        for _ in hand_out(Instant(), workers, _SIGNED, cut, _nothing):
            pass
    signed_s = time.process_time() - began
    tracemalloc.start()
    for _ in hand_out(Instant(), workers, _TASK, iter(cut), _nothing):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "chunks": len(cut),
        "workers": workers,
        "plan_us": round(plan_s / len(cut) * 1e6, 2),
        "hand_out_us": round(hand_out_s / len(cut) * 1e6, 2),
        "attempts_us": round(whole_s / len(cut) * 1e6, 2),
        "signed_cpu_us": round(signed_s / len(cut) * 1e6, 2),
        "hand_out_peak_kb": round(peak / 1000, 1),
    }


def _with(made: Any, cut: tuple[Chunk, ...]) -> Any:
    from dataclasses import replace

    return replace(made, chunks=cut)


def _nothing(*_: object) -> None:
    pass


def main() -> list[dict[str, Any]]:
    """Measure small and large runs on few and many workers."""
    sizes = ((1000, 16), (1000, 1000)) if "--quick" in sys.argv else (
        (10_000, 16), (100_000, 16), (10_000, 1000), (100_000, 1000))  # fmt: skip
    return [measure(chunks, workers) for chunks, workers in sizes]


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
