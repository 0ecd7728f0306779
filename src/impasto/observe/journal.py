"""What a run's driver says, in the run's log."""

import time
from dataclasses import dataclass, field, replace

from impasto.errors import ImpastoError
from impasto.observe.logs import Level, Line, Timing, encode, folder, now
from impasto.observe.redact import redact
from impasto.records import Event, Noted, Planned, StageBegan
from impasto.stores import Store
from impasto.wording import plural

_MOST_BYTES = 4 << 20
_MOST_PARTS = 500
_EVERY_S = 1.0


@dataclass(slots=True)
class Journal:
    """What the driver says; written part by part once it is known where.

    A log is never worth a run: what the store does not take is tried again with the next part.
    """

    run_id: str = ""
    _store: Store | None = None
    _stage: str = ""
    _waiting: list[Line] = field(default_factory=list)
    _bytes: int = 0
    _cut: int = 0
    _number: int = 0
    _written: float = 0.0

    def keep_in(self, store: Store, run_id: str) -> None:
        """Write into the log of this run, also what was said before."""
        self._store, self.run_id = store, run_id
        self.flush()

    def hear(self, event: Event) -> None:
        """Say what happened to the run; chunks have logs of their own."""
        match event:
            case StageBegan():
                self._stage = event.name
                self.say(f"{event.name} began")
                self.flush()
            case Planned():
                self.say(
                    f"{plural(len(event.chunks), 'chunk')}, {len(event.reused)} finished before; "
                    f"engine {event.engine}, {plural(event.workers, 'worker')}, {event.precision}"
                )
                self.flush()
            case Noted():
                self.say(event.text, level="warning")

    def say(self, text: str, *, level: Level = "info", timing: Timing | None = None) -> None:
        """Add a line."""
        line = Line(time=now(), run=self.run_id, text=redact(text), level=level,
                    stage=self._stage, timing=timing)  # fmt: skip
        if self._bytes > _MOST_BYTES:
            self._cut += 1
            return
        self._bytes += len(encode(line))
        self._waiting.append(line)
        if time.monotonic() - self._written > _EVERY_S:
            self.flush()

    def end(self, text: str, *, level: Level = "info") -> None:
        """Say how this start of the run ended, as its last line."""
        self._stage = "end"
        self._bytes = 0
        if self._cut:
            self.say(f"{plural(self._cut, 'line')} cut", level="warning")
        self.say(text, level=level)
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._store is None or not self._waiting:
            return
        data = b"".join(encode(replace(line, run=self.run_id)) for line in self._waiting)
        try:
            self._put(self._store, data)
        except ImpastoError:
            return
        self._waiting.clear()
        self._written = time.monotonic()

    def _put(self, store: Store, data: bytes) -> None:
        while self._number < _MOST_PARTS:
            self._number += 1
            if store.put_new(f"{folder(self.run_id)}/driver-{self._number:06d}.jsonl", data):
                return
        store.put(f"{folder(self.run_id)}/driver-{_MOST_PARTS:06d}.jsonl", data)
