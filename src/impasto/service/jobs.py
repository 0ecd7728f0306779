"""The processes in which runs are made: started when there is a run, kept warm for the next one.

The next one of the same user: what a hostile file has made of a process, it has made of that
user's alone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from impasto.keys import to_json
from impasto.service.job import Ending, Order, Said, Setup, unpack
from impasto.surroundings import DATABASE_SECRETS, inherited

COMMAND = (sys.executable, "-P", "-m", "impasto.service.job")
_ASKED_AGAIN_S, _KILLED_S = 5.0, 15.0
"""After being told to stop: the second signal does not wait for a chunk, and then comes SIGKILL."""
_END_TIMEOUT_S = 5.0
_USED_UP = 0.1
"""Of the processor time of a run, after which a process gets no other: the kernel counts on."""
_LOG_BYTES = 64 << 10
"""Of what a process has printed, the end is kept; what grows beyond `_MOST_LOG_BYTES` goes."""
_MOST_LOG_BYTES = 16 << 20
_MAX_MESSAGE = 4 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an order."""

    ending: Ending | None
    """None: the process ended before it said."""
    error: str
    """One line; empty when it succeeded."""
    log: bytes
    """The end of what it wrote to standard error."""
    stopped: bool
    """It was told to stop."""


class Jobs:
    """Makes runs, each in a process of its own; `make` from many threads, the rest from any.

    Args:
        setup: what the processes are held to.
        keep_warm_s: how long one without a run is kept; 0 keeps none.
        command: starts such a process.
        wall_s: how long a run may take; None for as long as it likes.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        keep_warm_s: float = 0.0,
        wall_s: float | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._setup = setup
        self._keep_warm_s = keep_warm_s
        self._wall_s = wall_s
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._busy: dict[str, _Process] = {}
        self._warm: list[_Process] = []
        self._closed = False

    def make(self, run_id: str, order: Order, hear: Callable[[Said], None], *, user: str) -> Made:
        """Make a run; return how it ended, however that was.

        Args:
            run_id: by which it can be stopped.
            order: what to make.
            hear: is told what happens, from this thread.
            user: whose run it is.
        """
        process = self._process_for(user)
        with self._lock:
            self._busy[run_id] = process
            process.begun_at = time.monotonic()
            if self._closed:
                process.stop()
        try:
            made = process.make(order, hear)
        except BaseException:
            process.kill()
            raise
        finally:
            with self._lock:
                del self._busy[run_id]
        reusable = made.ending is not None and made.ending.kind in {"succeeded", "refused"}
        process.used_s += (time.monotonic() - process.begun_at) * (os.cpu_count() or 1)
        fresh = process.used_s <= _USED_UP * self._setup.limits.cpu_s
        if reusable and fresh and self._keep_warm_s and not made.stopped:
            process.rest()
            with self._lock:
                self._warm.append(process)
        else:
            process.end()
        return made

    def _process_for(self, user: str) -> "_Process":
        """A warm process of that user's, or a new one in place of the one that waits longest."""
        with self._lock:
            place = next((n for n, one in enumerate(self._warm) if one.user == user), 0)
            process = self._warm.pop(place) if self._warm else None
        if process is not None and process.user == user and process.alive:
            return process
        if process is not None:
            process.end()
        return _Process(self._command, self._setup, user)

    @property
    def running(self) -> set[str]:
        """The runs that are being made."""
        with self._lock:
            return set(self._busy)

    @property
    def processes(self) -> int:
        """How many there are, warm ones too."""
        with self._lock:
            return len(self._busy) + len(self._warm)

    def stop(self, run_id: str) -> None:
        """Tell the process of a run to stop; one that has none is no error."""
        with self._lock:
            process = self._busy.get(run_id)
        if process is not None:
            process.stop()

    def tick(self) -> None:
        """End what has waited or run for too long, insist where it was told to; call it often."""
        now = time.monotonic()
        with self._lock:
            cold = [p for p in self._warm if now - p.begun_at >= self._keep_warm_s or not p.alive]
            self._warm = [process for process in self._warm if process not in cold]
            for process in self._busy.values():  # under the lock none of them is being ended
                if self._wall_s is not None and now - process.begun_at > self._wall_s:
                    process.overdue = True
                    process.stop()
                process.insist(now)
                process.trim()
        for process in cold:
            process.end()

    def close(self, *, within_s: float) -> None:
        """Tell every process to stop, wait for their end, and end them by force after that."""
        with self._lock:
            self._closed = True
            busy, warm = list(self._busy.values()), self._warm
            self._warm = []
        for process in busy:
            process.stop()
        for process in warm:
            process.end()
        deadline = time.monotonic() + within_s
        while self.running and time.monotonic() < deadline:
            time.sleep(0.05)
            self.tick()
        for process in busy:
            process.kill()


@dataclass(slots=True, eq=False)
class _Process:
    """One process, idle or with a run."""

    command: tuple[str, ...]
    setup: Setup
    user: str
    begun_at: float = 0.0
    """When its run, or its rest, began."""
    used_s: float = 0.0
    """Processor time that its runs have used at most."""
    overdue: bool = False
    _told_at: list[float] = field(default_factory=list)
    _log: IO[bytes] = field(init=False)
    _popen: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as this
        self._popen = subprocess.Popen(  # noqa: S603 - our own command
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=inherited(DATABASE_SECRETS),
            start_new_session=True,  # Ctrl-C is for the service, which tells them what to do
        )
        self._send(to_json(self.setup))

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def make(self, order: Order, hear: Callable[[Said], None]) -> Made:
        self._send(to_json(order))
        ending = None
        assert self._popen.stdout is not None
        while line := self._popen.stdout.readline(_MAX_MESSAGE):
            try:
                message = unpack(line)
            except ValueError:  # the last line of a killed process, or of a subverted one
                continue
            if isinstance(message, Ending):
                ending = message
                break
            hear(message)
        return Made(ending, self._error(ending), self._last_words(), bool(self._told_at))

    def rest(self) -> None:
        self.begun_at = time.monotonic()
        self._log.seek(0)
        self._log.truncate()

    def trim(self) -> None:
        if os.fstat(self._log.fileno()).st_size > _MOST_LOG_BYTES:
            self._log.seek(0)  # the process writes at the same place
            self._log.truncate()

    def stop(self) -> None:
        if not self._told_at:
            self._told_at.append(time.monotonic())
            self._signal(signal.SIGTERM)

    def insist(self, now: float) -> None:
        if not self._told_at:
            return
        since_s = now - self._told_at[0]
        if since_s > _KILLED_S:
            self.kill()
        elif since_s > _ASKED_AGAIN_S and len(self._told_at) == 1:
            self._told_at.append(now)
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Close its input and wait for its end, by force if need be."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        try:
            self._popen.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._popen.wait()
        self._popen.stdout.close()
        self._log.close()

    def _send(self, line: bytes) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # it is dead: its output ends, and that is heard
            self._popen.stdin.write(line + b"\n")
            self._popen.stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            self._popen.send_signal(number)

    def _error(self, ending: Ending | None) -> str:
        if ending is not None:
            return ending.error or ""
        code = self._popen.wait()
        cause = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if self.overdue:
            cause = "it took longer than a run may"
        elif -code == signal.SIGXCPU:
            cause = "it used more processor time than a run may"
        words = self._last_words().decode(errors="replace").strip().splitlines()
        told = f": {words[-1][:300]}" if words else ""
        return f"the run's process ended ({cause}){told}"

    def _last_words(self) -> bytes:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_BYTES))
        return self._log.read()
