"""Which workers fail again and again while others don't."""

from collections import Counter
from collections.abc import Iterable

from impasto.records import Done, Outcome

_IN_A_ROW = 2
"""Failures after which a worker sits out: fewer than use up a chunk's attempts."""


class Standing:
    """What the outcomes so far say for and against each seat.

    A machine with a fault of its own fails every chunk at once, so it is always the first to come
    free: it would take one chunk after the other, and use up the attempts of all. So a worker that
    failed twice in a row sits out until 4 chunks are done, after the next failure until 8 more are,
    and so on; but what befalls everybody keeps nobody from work. (Spark's excludeOnFailure does the
    same for a time; how long chunks take is not known here.)
    """

    def __init__(self) -> None:
        self._in_a_row: Counter[int] = Counter()
        self._until: dict[int, int] = {}
        """Seat → the number of chunks done from which on it may work again."""
        self._done = 0

    def note(self, seat: int, outcome: Outcome) -> None:
        """Hear what became of a seat's chunk."""
        if isinstance(outcome, Done):
            self._done += 1
        if isinstance(outcome, Done) or outcome.lost_worker:  # who comes next starts anew
            del self._in_a_row[seat]
            self._until.pop(seat, None)
            return
        self._in_a_row[seat] += 1
        if self._in_a_row[seat] >= _IN_A_ROW:
            self._until[seat] = self._done + 2 ** self._in_a_row[seat]

    def choose(self, free: Iterable[int], at_work: Iterable[int]) -> int | None:
        """The seat that gets the next chunk: the first of the free ones that doesn't sit out.

        One that does gets it where all that are at work should sit out, too: there is no other.
        """
        first = None
        for seat in free:
            if not self.sits_out(seat):
                return seat
            first = first or seat
        return first if all(map(self.sits_out, at_work)) else None

    def sits_out(self, seat: int) -> bool:
        """Whether others go before it."""
        return self._until.get(seat, 0) > self._done
