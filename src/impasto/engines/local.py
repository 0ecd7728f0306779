"""Worker processes on this machine, fed and heard over their standard streams.

A message is one line of JSON: nothing is pickled, a script that calls the API needs no
`if __name__ == "__main__"`, and a worker whose driver is gone reads the end of its input and exits.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import replace
from typing import IO, Any

from impasto.engines.child import end, last_words
from impasto.engines.handout import hand_out
from impasto.engines.member import Leaving, Member, Message, Order, heeding_signals, pack, unpack
from impasto.keys import from_json, to_json
from impasto.observe import output
from impasto.records import Chunk, Done, Failed, Outcome, Progress, Task
from impasto.runtimes.cpu import usable_cores
from impasto.surroundings import SECRETS, inherited

_CORES_PER_WORKER = 8
"""One process feeds about this many cores before its decoder and encoder threads bind."""
_STOP_TIMEOUT_S = 5.0


class LocalEngine:
    """Runs chunks in worker processes; one that dies is replaced and costs its chunk only.

    Args:
        workers: processes; None takes one for every eight cores.
        hidden: environment variables that they don't inherit.
    """

    name = "local"

    def __init__(self, workers: int | None = None, hidden: Collection[str] = SECRETS) -> None:
        self._hidden = hidden
        self._cores = usable_cores()
        self.workers = workers or max(1, self._cores // _CORES_PER_WORKER)

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        """See `Engine.map`."""
        if not task.streams:
            task = replace(task, streams=max(1, self._cores // self.workers))
        with contextlib.closing(_Crew(self.workers, self._hidden)) as crew:
            yield from hand_out(crew, self.workers, task, chunks, on_progress)


class _Crew:
    """Worker processes in their seats; one begins when its seat is first given a chunk."""

    def __init__(self, seats: int, hidden: Collection[str]) -> None:
        self._hidden = hidden
        self._seats = range(1, seats + 1)
        self._heard: queue.SimpleQueue[tuple[_Worker, Message | None]] = queue.SimpleQueue()
        self._workers: dict[int, _Worker] = {}

    def give(self, seat: int, order: Order) -> None:
        if seat not in self._workers:
            self._workers[seat] = _Worker(seat, self._heard, self._hidden)
        self._workers[seat].give(order)

    def hear(self) -> tuple[int, Message]:
        while True:
            worker, message = self._heard.get()
            if worker is not self._workers.get(worker.seat):
                continue  # it was replaced
            if message is None and worker.chunk is not None:
                message = worker.obituary()
            if isinstance(message, Done | Failed):
                worker.chunk = None
            if isinstance(message, Failed) and message.lost_worker:
                message = replace(message, log=message.log or worker.last_words())
            if message is None or (isinstance(message, Failed) and message.lost_worker):
                self._workers.pop(worker.seat).stop()
            if message is not None:
                return worker.seat, message

    def closed_by(self, seat: int, leaving: Leaving) -> Collection[int]:  # noqa: ARG002
        return self._seats if leaving.machine else ()

    def drop(self, seat: int) -> None:
        if (worker := self._workers.pop(seat, None)) is not None:
            worker.stop()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.stop()


class _Worker:
    """One worker process, the thread that hears it, and the chunk it has."""

    def __init__(self, seat: int, heard: "queue.SimpleQueue[Any]", hidden: Collection[str]) -> None:
        self.seat = seat
        self.chunk: Chunk | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._process = subprocess.Popen(
            # -P: a json.py in the folder where somebody paints is not ours to import.
            [sys.executable, "-P", "-m", "impasto.engines.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=inherited(hidden),
            # Ctrl-C is for the driver, which lets its workers finish what they have begun.
            start_new_session=True,
        )
        self._ear = threading.Thread(target=self._hear, args=(heard,), daemon=True)
        self._ear.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, order: Order) -> None:
        self.chunk = order.chunk
        with contextlib.suppress(OSError):  # it is dead: its ear says so
            assert self._process.stdin is not None
            self._process.stdin.write(to_json(order) + b"\n")
            self._process.stdin.flush()

    def _hear(self, heard: "queue.SimpleQueue[Any]") -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                heard.put((self, unpack(line)))
            except ValueError:  # the last line of a killed process, or printed before it began
                os.write(self._log.fileno(), line)
        self._process.wait()
        heard.put((self, None))

    def obituary(self) -> Failed:
        """Describe the death of the process, for the chunk that it had."""
        assert self.chunk is not None
        code = self._process.wait()
        cause = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return Failed(
            self.chunk.index,
            f"local/{self.pid}",
            f"the worker process ended ({cause})",
            lost_worker=True,
            log=self.last_words(),
        )

    def last_words(self) -> str:
        """What the process printed since its last chunk."""
        return last_words(self._log)

    def stop(self) -> None:
        """End the process: at once when it has a chunk, or else by the end of its input."""
        if self.chunk is not None:
            self._process.kill()
        end(self._process, self._ear, within_s=_STOP_TIMEOUT_S)
        self._log.close()


def _main() -> None:
    """Score the chunks that come in by line, until the input ends or SIGTERM comes."""
    # Whatever a library prints must not get between the messages; the driver reads standard error
    # when this process has died.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    output.keep(sys.stderr.fileno())
    member = Member()
    with heeding_signals(member):
        threading.Thread(target=_listen, args=(member,), daemon=True).start()
        told_to_end = False
        while not told_to_end or member.busy:
            if (message := member.hear()) is not None:
                out.write(pack(message) + b"\n")
                out.flush()
                told_to_end |= isinstance(message, Leaving) and not message.machine
    os._exit(0)  # a thread may be in the midst of the chunk that was given back


def _listen(member: Member) -> None:
    for line in sys.stdin.buffer:
        member.take(from_json(line, Order))
    # The driver has finished or died; nobody waits for what is under way.
    os._exit(0)


if __name__ == "__main__":
    _main()
