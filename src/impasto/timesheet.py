"""Where the workers' seconds go: an engine, listened to."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from impasto.fleet import WorkerTime
from impasto.protocols import Engine, Preparing
from impasto.records import Chunk, Done, Failed, Noted, Outcome, Progress, Task


@dataclass(slots=True)
class _Span:
    """A worker's presence, from when its place was free until it is gone."""

    worker: str
    began: float
    heard: float
    """When its last chunk had an outcome."""
    new: bool
    """Whether nothing was heard of it before."""
    ended: float | None = None
    start_up_s: float = 0.0
    scoring_s: float = 0.0
    lost_s: float = 0.0


class Timesheet:
    """An engine that behaves as the one it wraps, and notes when it hears from whom.

    A worker that takes over a lost one's place has its seconds from the loss on, so all workers'
    seconds, and those of places that nobody took, add up to the engine's workers times the time
    that it scored.

    Args:
        engine: does the work.
        now: a clock that never goes back, in seconds.
    """

    def __init__(self, engine: Engine, now: Callable[[], float] = time.perf_counter) -> None:
        self._engine, self._now = engine, now
        self.name = engine.name
        self._spans: list[_Span] = []
        self._present: dict[str, _Span] = {}
        self._known: set[str] = set()
        self._vacant: deque[float] = deque()
        self._held_s = 0.0  # of all places
        self._having: dict[int, str] = {}  # which worker was last heard to be at a chunk

    @property
    def workers(self) -> int:
        """Of the engine; one that grows has more at its end than at its beginning."""
        return self._engine.workers

    def prepared(self) -> AbstractContextManager[None]:
        """See `Preparing.prepared`; most engines have nothing to prepare."""
        engine = self._engine
        return engine.prepared() if isinstance(engine, Preparing) else nullcontext()

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress | Noted], None]
    ) -> Generator[Outcome]:
        """See `Engine.map`."""

        def hear(progress: Progress | Noted) -> None:
            if isinstance(progress, Progress):
                self._hear(progress)
            on_progress(progress)

        began = self._now()
        places = self.workers
        self._vacant = deque([began] * places)
        outcomes = self._engine.map(task, chunks, hear)
        try:
            for outcome in outcomes:
                self._settle(outcome)
                yield outcome
        finally:
            outcomes.close()
            for span in self._present.values():
                span.ended = self._now()
            self._present.clear()
            self._held_s += places * (self._now() - began)

    def _span(self, worker: str) -> _Span:
        if worker not in self._present:
            began = self._vacant.popleft() if self._vacant else self._now()
            span = _Span(worker, began, began, new=worker not in self._known)
            self._known.add(worker)
            self._present[worker] = span
            self._spans.append(span)
        return self._present[worker]

    def _hear(self, progress: Progress) -> None:
        span = self._span(progress.worker)
        if self._having.get(progress.chunk) != progress.worker:
            self._having[progress.chunk] = progress.worker
        if progress.stage_s and span.new:
            # Its stages run side by side: the busiest tells best how long it has been at it.
            self._begin(span, self._now() - max(progress.stage_s.values(), default=0.0))

    def _begin(self, span: _Span, began: float) -> None:
        """The worker began a chunk: what was before its very first one was its start."""
        if span.new:
            span.new = False
            span.start_up_s = max(0.0, began - span.heard)
            span.heard = max(span.heard, began)

    def _settle(self, outcome: Outcome) -> None:
        now = self._now()
        worker = outcome.worker
        if isinstance(outcome, Failed):
            # Who tells of a loss may know the worker by another name.
            worker = self._having.get(outcome.chunk, worker)
        self._having.pop(outcome.chunk, None)
        span = self._span(worker)
        match outcome:
            case Done():
                self._begin(span, now - outcome.wall_s)
                span.scoring_s += min(outcome.wall_s, now - span.heard)
            case Failed():
                span.lost_s += now - span.heard
        span.heard = now
        if isinstance(outcome, Failed) and outcome.lost_worker:
            span.ended = now
            del self._present[worker]
            self._vacant.append(now)

    def times(self) -> tuple[WorkerTime, ...]:
        """Each worker's seconds, in the order in which they were first heard of."""
        found: dict[str, WorkerTime] = {}
        for span in self._spans:
            whole_s = (self._now() if span.ended is None else span.ended) - span.began
            before = found.get(span.worker, WorkerTime(span.worker))
            waiting_s = whole_s - span.start_up_s - span.scoring_s - span.lost_s
            found[span.worker] = WorkerTime(
                span.worker,
                start_up_s=round(before.start_up_s + span.start_up_s, 6),
                waiting_s=round(before.waiting_s + waiting_s, 6),
                scoring_s=round(before.scoring_s + span.scoring_s, 6),
                lost_s=round(before.lost_s + span.lost_s, 6),
            )
        return tuple(found.values())

    def node_s(self) -> dict[str, float]:
        """Seconds of machines: workers that were on one at the same time share its seconds.

        A place that nobody took lies where the others lie, and waits.
        """
        sharers, vacant_s = self._sharers(), self._held_s
        seconds = dict.fromkeys(("start_up", "waiting", "scoring", "lost"), 0.0)
        for each in self.times():
            share = 1 / sharers[_machine(each.worker)]
            seconds["start_up"] += share * each.start_up_s
            seconds["waiting"] += share * each.waiting_s
            seconds["scoring"] += share * each.scoring_s
            seconds["lost"] += share * each.lost_s
            vacant_s -= each.total_s
        seconds["waiting"] += max(0.0, vacant_s) * min(1.0, len(sharers) / self.workers)
        return seconds

    def _sharers(self) -> dict[str, int]:
        """The most workers that were on a machine at the same time."""
        moments: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for span in self._spans:
            ended = self._now() if span.ended is None else span.ended
            moments[_machine(span.worker)] += [(span.began, 1), (ended, -1)]
        most = {}
        for machine, changes in moments.items():
            present = 0
            most[machine] = 1
            for _, change in sorted(changes):  # who leaves makes room for who comes
                present += change
                most[machine] = max(most[machine], present)
        if len(most) == 1:  # then every place is there, also one that was never needed
            most = dict.fromkeys(most, self.workers)
        return most


def _machine(worker: str) -> str:
    """The host of a worker that is named "host/pid"."""
    return worker.rpartition("/")[0]
