"""How chunks get to workers: each that comes free is given the next, and nothing is dealt ahead."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from typing import Protocol

from impasto.engines.member import Leaving, Message, Order
from impasto.errors import EngineLost
from impasto.records import Chunk, Failed, Outcome, Progress, Task


class Crew(Protocol):
    """Workers, each known by its seat, counted from 1."""

    def give(self, seat: int, order: Order) -> None:
        """Have the seat's worker score a chunk; it has no other."""
        ...

    def hear(self) -> tuple[int, Message]:
        """Wait for what a worker says; a dead one's last word is that its chunk has failed.

        Raises:
            EngineLost: no worker is left.
        """
        ...

    def closed_by(self, seat: int, leaving: Leaving) -> Collection[int]:
        """The seats that nobody will take again, now that the worker in `seat` leaves."""
        ...

    def drop(self, seat: int) -> None:
        """Let the seat's worker forget its chunk."""
        ...


def hand_out(
    crew: Crew,
    workers: int,
    task: Task,
    chunks: Iterable[Chunk],
    on_progress: Callable[[Progress], None],
) -> Generator[Outcome]:
    """Give chunks to the first `workers` seats as they come free; see `Engine.map`.

    Raises:
        EngineLost: no worker is left for a chunk; each chunk that was under way has failed.
    """
    desk = _Desk(crew, workers, task, iter(chunks))
    try:
        desk.give()
        while desk.having:
            try:
                seat, message = crew.hear()
            except EngineLost as lost:
                yield from desk.lose(lost)
                raise
            match message:
                case Progress():
                    on_progress(message)
                case Leaving():
                    desk.close(crew.closed_by(seat, message), message.reason)
                case _ if desk.settle(seat, message.chunk):
                    # The next chunk is given first: whoever reads the outcome may take its time.
                    desk.give()
                    yield message
        desk.check()
    finally:
        for seat in desk.having:
            crew.drop(seat)


class _Desk:
    """Who has which chunk."""

    def __init__(self, crew: Crew, workers: int, task: Task, waiting: Iterable[Chunk]) -> None:
        self._crew, self._task, self._waiting = crew, task, iter(waiting)
        self._free = deque(range(1, workers + 1))
        self._closed: set[int] = set()
        self._reason = ""
        self.having: dict[int, Chunk] = {}

    def give(self) -> None:
        """Give each free seat a chunk, while there are any."""
        while self._free and (chunk := next(self._waiting, None)) is not None:
            seat = self._free.popleft()
            self.having[seat] = chunk
            self._crew.give(seat, Order(self._task, chunk))

    def settle(self, seat: int, chunk: int) -> bool:
        """Take back the chunk that has an outcome; False where the seat has another or none."""
        if seat not in self.having or self.having[seat].index != chunk:
            return False
        del self.having[seat]
        if seat not in self._closed:
            self._free.append(seat)
        return True

    def close(self, seats: Collection[int], reason: str) -> None:
        """Give these seats no more."""
        self._closed.update(seats)
        self._free = deque(seat for seat in self._free if seat not in self._closed)
        self._reason = reason

    def lose(self, lost: EngineLost) -> Generator[Failed]:
        """What becomes of the chunks under way when all workers are gone."""
        while self.having:
            seat, chunk = self.having.popitem()
            yield Failed(chunk.index, f"worker {seat}", str(lost), lost_worker=True, log=lost.log)

    def check(self) -> None:
        """Raise EngineLost when chunks are left, but no seat for them."""
        if not self._free and self._closed and next(self._waiting, None) is not None:
            raise EngineLost(f"no worker is left ({self._reason})")
