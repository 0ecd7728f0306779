"""Every chunk scored: what failed is tried again, an engine that lost its workers begun again."""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from impasto.errors import EngineLost, Interrupted, RunFailed, Way
from impasto.protocols import Engine
from impasto.records import Chunk, Done, Event, Failed, Noted, Plan, Progress, Task
from impasto.stopping import Stopping
from impasto.wording import plural

_ATTEMPTS = 3
"""Times that a chunk may fail before the run does."""
_LOSSES = 5
"""Times that it may lose its worker: machines come and go, but a chunk can also be what kills."""


@dataclass(slots=True)
class Scored:
    """What became of the chunks."""

    done: dict[int, Done]
    reused: frozenset[int] = frozenset()
    """Chunks that an earlier start had done."""
    retried: int = 0
    failed: int = 0
    restarts: int = 0
    """Times that the engine was begun again."""

    def then(self, later: "Scored") -> "Scored":
        """This and what came of scoring again; what was done here was not done by another start."""
        return Scored(
            later.done,
            later.reused & self.reused,
            self.retried + later.retried,
            self.failed + later.failed,
            self.restarts + later.restarts,
        )


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often and by whom the chunks of a plan are scored."""

    engine: Engine
    task: Task
    plan: Plan
    restarts: int
    """Times that an engine without any worker left may be begun again."""
    stopping: Stopping
    hear: Callable[[Event], None]
    note: Callable[[str], None]
    """Tells a line now and in the report."""
    keep: Callable[[Failed], None]
    """Keeps what is known of a failed attempt in the run's log."""
    _failures: Counter[int] = field(default_factory=Counter)
    _losses: Counter[int] = field(default_factory=Counter)

    def make(self, scored: Scored) -> None:
        """Score every chunk that is not in `scored.done` yet, and put it there.

        Raises:
            RunFailed: a chunk failed too often, or the engine was lost once too often.
            Interrupted: it was asked for.
        """
        hear = self._listener()
        while left := [one for one in self.plan.chunks if one.index not in scored.done]:
            waiting = _Waiting(left, self.stopping)
            lost: EngineLost | None = None
            try:
                self._call(waiting, scored, hear)
            except EngineLost as error:
                lost = error
            if self.stopping.requested:
                raise Interrupted(f"stopped with {self._tally(scored)} done", Way("resume"))
            bad = waiting.given_up
            if bad is not None and (lost is None or not bad.lost_worker):
                raise self._hopeless(bad)
            if lost is not None:
                self._restart(lost, scored)

    def _call(
        self, waiting: "_Waiting", scored: Scored, hear: Callable[[Progress | Noted], None]
    ) -> None:
        with contextlib.closing(self.engine.map(self.task, waiting, hear)) as outcomes:
            for outcome in outcomes:
                self.hear(outcome)
                match outcome:
                    case Done():
                        scored.done[outcome.chunk] = outcome
                        for line in outcome.notes:
                            self.note(line)
                    case Failed():
                        scored.failed += 1
                        scored.retried += self._again(outcome, waiting)

    def _again(self, failed: Failed, waiting: "_Waiting") -> bool:
        """Put a chunk that failed back, and return True; or see that no other is begun."""
        chunk = failed.chunk
        (self._losses if failed.lost_worker else self._failures)[chunk] += 1
        self.keep(failed)
        often = self._failures[chunk] >= _ATTEMPTS or self._losses[chunk] >= _LOSSES
        if often or not failed.retriable:
            waiting.give_up(failed)
            return False
        # A worker that is lost says nothing against its chunk, which has waited long enough; what
        # made another fail may pass, or be passed to another worker, while the rest is scored.
        waiting.put_back(self.plan.chunks[chunk], first=failed.lost_worker)
        return True

    def _listener(self) -> Callable[[Progress | Noted], None]:
        told = False

        def hear(progress: Progress | Noted) -> None:
            nonlocal told
            if self.stopping.requested and not told:
                told = True
                self.hear(Noted("finishing what is begun", (Way("stop"),)))
            if isinstance(progress, Noted):
                self.note(progress.text)
            else:
                self.hear(progress)

        return hear

    def _restart(self, lost: EngineLost, scored: Scored) -> None:
        if scored.restarts == self.restarts:
            raise RunFailed(
                f"{lost}; {self._tally(scored)} done", Way("resume"), Way("restart")
            ) from lost
        scored.restarts += 1
        self._losses.clear()  # its end took chunks along, and restarts are what is counted
        self.note(f"{lost}; started again ({scored.restarts} of {self.restarts})")

    def _hopeless(self, failed: Failed) -> RunFailed:
        chunk = self.plan.chunks[failed.chunk]
        return RunFailed(
            f"chunk {chunk.index} (frames {chunk.start} to {chunk.stop - 1}) failed "
            f"{plural(self._times(chunk.index), 'time')}: {failed.error}",
            Way("logs", self.task.run_id),
        )

    def _times(self, chunk: int) -> int:
        return self._failures[chunk] + self._losses[chunk]

    def _tally(self, scored: Scored) -> str:
        return f"{len(scored.done)} of {plural(len(self.plan.chunks), 'chunk')}"


class _Waiting(Iterator[Chunk]):
    """The chunks that no worker has; a chunk that failed comes back while an engine takes them."""

    def __init__(self, chunks: Iterable[Chunk], stopping: Stopping) -> None:
        self._chunks = deque(chunks)
        self._stopping = stopping
        self.given_up: Failed | None = None
        """The first that will not be tried again: the run can't succeed, so none is begun."""

    def __next__(self) -> Chunk:
        if not self._chunks or self._stopping.requested or self.given_up is not None:
            raise StopIteration
        return self._chunks.popleft()

    def __length_hint__(self) -> int:
        """How many there are (PEP 424): an engine that grows asks before it starts a worker."""
        held = self._stopping.requested or self.given_up is not None
        return 0 if held else len(self._chunks)

    def put_back(self, chunk: Chunk, *, first: bool) -> None:
        """Let a chunk wait again."""
        if first:
            self._chunks.appendleft(chunk)
        else:
            self._chunks.append(chunk)

    def give_up(self, failed: Failed) -> None:
        """Give no more chunks away, because of this one."""
        self.given_up = self.given_up or failed
