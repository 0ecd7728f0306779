"""How chunks get to workers: each that comes free is given the next, and nothing is dealt ahead."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from itertools import chain
from typing import Protocol

from impasto.engines.member import Leaving, Message, Order
from impasto.engines.standing import Standing
from impasto.errors import EngineLost, RunFailed
from impasto.records import Chunk, Failed, Outcome, Progress, Task
from impasto.rights import limited


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
        """Let the seat's worker forget its chunk; it may be given another."""
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
        yield from desk.give()
        while desk.having:
            try:
                seat, message = crew.hear()
            except EngineLost as lost:
                yield from desk.lose(lost)
                raise
            desk.hear(seat, message)
            match message:
                case Progress():
                    on_progress(message)
                case Leaving():
                    desk.close(crew.closed_by(seat, message), message.reason)
                case _ if desk.settle(seat, message):
                    # The next chunk is given first: whoever reads the outcome may take its time.
                    yield from desk.give()
                    desk.relieve(seat)
                    yield message
                    yield from desk.give()  # the reader may have put the chunk back
        desk.check()
    finally:
        for seat in desk.having:
            crew.drop(seat)


def order_for(task: Task, chunk: Chunk) -> Order | Failed:
    """What a worker is told of a chunk; Failed while a store can't say what it may do there.

    Raises:
        RequestError: the store does not let these credentials make others.
    """
    try:
        return Order(limited(task, chunk), chunk)
    except RunFailed as error:  # the next chunk may be given its rights
        return Failed(chunk.index, "driver", str(error))


class _Desk:
    """Who has which chunk."""

    def __init__(self, crew: Crew, workers: int, task: Task, waiting: Iterator[Chunk]) -> None:
        self._crew, self._task, self._waiting = crew, task, waiting
        self._free = deque(range(1, workers + 1))
        self._vacant: deque[int] = deque()
        """Free seats whose worker was lost or late: the next may need a machine that boots."""
        self._present: set[int] = set()
        """Seats whose worker was heard of."""
        self._late: set[int] = set()
        """The others that have a chunk."""
        self._standing = Standing()
        self._closed: set[int] = set()
        self._reason = ""
        self.having: dict[int, Chunk] = {}

    def give(self) -> Generator[Failed]:
        """Give each free seat a chunk, while there are any; yield those that can't be given.

        The longest free seat is the first, so that one whose chunk has failed gets it again only
        where there is no other.
        """
        while (seat := self._next_seat()) is not None:
            if (chunk := next(self._waiting, None)) is None:
                return
            order = order_for(self._task, chunk)
            if isinstance(order, Failed):
                yield order
                continue
            (self._free if seat in self._free else self._vacant).remove(seat)
            self._give(seat, order)

    def _next_seat(self) -> int | None:
        return self._standing.choose(chain(self._free, self._vacant), self.having)

    def relieve(self, seat: int) -> None:
        """Let a seat that came free, and got nothing, have the chunk of one that is late."""
        if self._late and seat in self._free and not self._standing.sits_out(seat):
            absent = next(iter(self._late))
            order = order_for(self._task, self.having[absent])
            if isinstance(order, Failed):
                return  # the late one may still come
            self._crew.drop(absent)
            self._take(absent)
            self._free.remove(seat)
            self._give(seat, order)

    def _give(self, seat: int, order: Order) -> None:
        self.having[seat] = order.chunk
        if seat not in self._present:
            self._late.add(seat)
        self._crew.give(seat, order)

    def _take(self, seat: int) -> Chunk:
        self._late.discard(seat)
        if seat not in self._closed:
            (self._free if seat in self._present else self._vacant).append(seat)
        return self.having.pop(seat)

    def hear(self, seat: int, message: Message) -> None:
        """Note whether there is a worker in the seat."""
        if isinstance(message, Failed) and message.lost_worker:
            self._present.discard(seat)
        else:
            self._present.add(seat)
            self._late.discard(seat)

    def settle(self, seat: int, outcome: Outcome) -> bool:
        """Take back the chunk that has an outcome; False where the seat has another or none."""
        if seat not in self.having or self.having[seat].index != outcome.chunk:
            return False
        self._take(seat)
        self._standing.note(seat, outcome)
        return True

    def close(self, seats: Collection[int], reason: str) -> None:
        """Give these seats no more."""
        self._closed.update(seats)
        for free in (self._free, self._vacant):
            for seat in self._closed.intersection(free):
                free.remove(seat)
        self._reason = reason

    def lose(self, lost: EngineLost) -> Generator[Failed]:
        """What becomes of the chunks under way when all workers are gone."""
        while self.having:
            seat, chunk = self.having.popitem()
            yield Failed(chunk.index, f"worker {seat}", str(lost), lost_worker=True, log=lost.log)

    def check(self) -> None:
        """Raise EngineLost when chunks are left, but no seat for them."""
        seats = self._free or self._vacant
        if not seats and self._closed and next(self._waiting, None) is not None:
            raise EngineLost(f"no worker is left ({self._reason})")
