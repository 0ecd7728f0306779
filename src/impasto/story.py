"""How a run goes: told while it goes on, and kept for its report and its log."""

import contextlib
import time
import traceback
from collections.abc import Callable, Generator

from impasto.errors import ImpastoError, Interrupted
from impasto.observe.journal import Journal
from impasto.observe.logs import Level
from impasto.records import Event, Noted, StageBegan


class Story:
    """Passes events on, and keeps what the report and the run's log need of them.

    Args:
        on_event: hears all of them.
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self.journal = Journal()
        self.notes: list[str] = []
        self.stage_s: dict[str, float] = {}
        self._started = time.perf_counter()

    @property
    def wall_s(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    def hear(self, event: Event) -> None:
        """Pass an event on."""
        self.journal.hear(event)
        self._on_event(event)

    def note(self, *lines: str) -> None:
        """Tell what a person should know, each line once."""
        for line in lines:
            if line not in self.notes:
                self.notes.append(line)
                self.hear(Noted(line))

    @contextlib.contextmanager
    def ending(self) -> Generator[None]:
        """Let the run's log say how it ended."""
        try:
            yield
        except KeyboardInterrupt:
            self.journal.end("stopped at once; what was done is kept", level="warning")
            raise
        except BaseException as error:
            if not isinstance(error, ImpastoError):
                self.journal.say(traceback.format_exc(), level="error")
            level: Level = "warning" if isinstance(error, Interrupted) else "error"
            self.journal.end(str(error) or type(error).__name__, level=level)
            raise
        self.journal.end("the target is finished and proven")

    @contextlib.contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Tell that a stage begins, and add up its seconds."""
        self.hear(StageBegan(name))
        before = time.perf_counter()
        yield
        self.stage_s[name] = self.stage_s.get(name, 0.0) + time.perf_counter() - before
