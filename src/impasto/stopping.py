"""Stop in good order: the first signal asks for it, the second does not wait."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from impasto.errors import Interrupted, Way

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """While active, SIGINT and SIGTERM set `requested`; a second one raises KeyboardInterrupt.

    Outside the main thread signals can't be taken, and nothing changes.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def here(self, after: str) -> None:
        """Raise Interrupted if it was asked for; `after` says what was done last."""
        if self.requested:
            raise Interrupted(f"stopped after {after}", Way("resume"))

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
