"""Every chunk scored: what failed is tried again, an engine that lost its workers begun again."""

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

from impasto.errors import EngineLost, Interrupted, RunFailed
from impasto.protocols import Engine
from impasto.records import Chunk, Done, Event, Failed, Noted, Plan, Progress, Task
from impasto.stopping import Stopping

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
    keep: Callable[[str, Failed], None]
    """Keeps the log of a failed attempt under that name."""
    _failures: Counter[int] = field(default_factory=Counter)
    _losses: Counter[int] = field(default_factory=Counter)

    def make(self, scored: Scored) -> None:
        """Score every chunk that is not in `scored.done` yet, and put it there.

        Raises:
            RunFailed: a chunk failed too often, or the engine was lost once too often.
            Interrupted: it was asked for.
        """
        hear = self._listener()
        number = 0
        while waiting := [one for one in self.plan.chunks if one.index not in scored.done]:
            number += 1
            failed: list[Failed] = []
            lost: EngineLost | None = None
            try:
                self._once(waiting, scored.done, failed, hear, number)
            except EngineLost as error:
                lost = error
            scored.failed += len(failed)
            if self.stopping.requested:
                raise Interrupted(
                    f"stopped with {self._tally(scored)} chunks done; "
                    "the same command goes on from there"
                )
            if lost is not None:
                self._restart(lost, scored)
            self._give_up(failed, counting=lost is None)
            scored.retried += len(failed)

    def _once(
        self,
        waiting: Iterable[Chunk],
        done: dict[int, Done],
        failed: list[Failed],
        hear: Callable[[Progress], None],
        number: int,
    ) -> None:
        with contextlib.closing(self.engine.map(self.task, self._until(waiting), hear)) as outcomes:
            for outcome in outcomes:
                self.hear(outcome)
                match outcome:
                    case Done():
                        done[outcome.chunk] = outcome
                        for line in outcome.notes:
                            self.note(line)
                    case Failed():
                        failed.append(outcome)
                        self.keep(f"logs/{outcome.chunk:06d}-{number}.json", outcome)

    def _until(self, chunks: Iterable[Chunk]) -> Generator[Chunk]:
        for chunk in chunks:
            if self.stopping.requested:
                return
            yield chunk

    def _listener(self) -> Callable[[Progress], None]:
        told = False

        def hear(progress: Progress) -> None:
            nonlocal told
            if self.stopping.requested and not told:
                told = True
                self.hear(Noted("finishing what is begun; Ctrl-C again stops at once"))
            self.hear(progress)

        return hear

    def _restart(self, lost: EngineLost, scored: Scored) -> None:
        if scored.restarts == self.restarts:
            raise RunFailed(
                f"{lost}; {self._tally(scored)} chunks are done, and the same command goes on from "
                "there (with --restarts N by itself)"
            ) from lost
        scored.restarts += 1
        self.note(f"{lost}; started again ({scored.restarts} of {self.restarts})")

    def _give_up(self, failed: Iterable[Failed], *, counting: bool) -> None:
        """Raise RunFailed for a chunk that can't or must not be tried again."""
        for one in failed:
            if one.lost_worker and not counting:  # restarts are what is counted
                continue
            (self._losses if one.lost_worker else self._failures)[one.chunk] += 1
            times = self._losses[one.chunk] + self._failures[one.chunk]
            again = self._failures[one.chunk] < _ATTEMPTS and self._losses[one.chunk] < _LOSSES
            if not again or not one.retriable:
                chunk = self.plan.chunks[one.chunk]
                raise RunFailed(
                    f"chunk {chunk.index} (frames {chunk.start} to {chunk.stop - 1}) failed "
                    f"{times} times: {one.error}; see impasto runs logs {self.task.run_id}"
                )

    def _tally(self, scored: Scored) -> str:
        return f"{len(scored.done)} of {len(self.plan.chunks)}"
