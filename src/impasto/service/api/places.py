"""How much one user may have under way, so that nobody takes all connections or the disk."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from impasto.errors import LimitExceeded

AGAIN_S = 5.0
"""When to ask again: nobody knows when one of them ends."""


@dataclass(slots=True, eq=False)
class Place:
    """What one request holds while it is under way."""

    bytes: int = 0
    """That it has announced, or brought so far."""


class Places:
    """Requests of one kind that each user has under way in this process; for one event loop.

    Args:
        most: of one user.
        kind: what they are, in the plural, for the message.
    """

    def __init__(self, most: int, kind: str) -> None:
        self._most, self._kind = most, kind
        self._taken: dict[str, list[Place]] = {}

    @contextmanager
    def take(self, user: str) -> Generator[Place]:
        """Hold a place as long as a request takes.

        Raises:
            LimitExceeded: the user has as many as one may.
        """
        taken = self._taken.setdefault(user, [])
        if len(taken) >= self._most:
            raise LimitExceeded(
                f"{len(taken)} of your {self._kind} are under way, and {self._most} may be; "
                "wait for one, or end it",
                retry_after_s=AGAIN_S,
            )
        place = Place()
        taken.append(place)
        try:
            yield place
        finally:
            taken.remove(place)
            if not taken:
                del self._taken[user]

    def bytes_of(self, user: str) -> int:
        """Of all that the user has under way."""
        return sum(place.bytes for place in self._taken.get(user, ()))
