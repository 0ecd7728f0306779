"""Worker processes on this machine, fed and heard over their standard streams.

A message is one line of JSON: nothing is pickled, a script that calls the API needs no
`if __name__ == "__main__"`, and a worker whose driver is gone reads the end of its input and exits.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from typing import IO, Any

from impasto.keys import from_json, to_json
from impasto.records import Chunk, Done, Failed, Outcome, Progress, Task
from impasto.runtimes.cpu import usable_cores
from impasto.worker import score_chunk

_KINDS: dict[str, type[Progress | Done | Failed]] = {
    kind.__name__: kind for kind in (Progress, Done, Failed)
}
_CORES_PER_WORKER = 8
"""One process feeds about this many cores before its decoder and encoder threads bind."""
_LOG_BYTES = 20_000
_STOP_TIMEOUT_S = 5.0


class LocalEngine:
    """Runs chunks in worker processes; one that dies is replaced and costs its chunk only.

    Args:
        workers: processes; None takes one for every eight cores.
    """

    name = "local"

    def __init__(self, workers: int | None = None) -> None:
        self._cores = usable_cores()
        self.workers = workers or max(1, self._cores // _CORES_PER_WORKER)

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        """See `Engine.map`."""
        if not task.streams:
            task = replace(task, streams=max(1, self._cores // self.workers))
        waiting = iter(chunks)
        heard: queue.SimpleQueue[tuple[_Worker, Progress | Outcome | None]] = queue.SimpleQueue()
        crew: list[_Worker] = []
        try:
            for _ in range(self.workers):
                if (chunk := next(waiting, None)) is None:
                    break
                crew.append(_Worker(task, heard))
                crew[-1].give(chunk)
            while any(worker.chunk for worker in crew):
                worker, message = heard.get()
                if isinstance(message, Progress):
                    on_progress(message)
                    continue
                if worker.chunk is None:
                    continue
                outcome = message or worker.obituary()
                worker.chunk = None
                # Hand out the next chunk first: whoever reads the outcome may take its time.
                if (chunk := next(waiting, None)) is not None:
                    if message is None:
                        crew.remove(worker)
                        worker.stop()
                        worker = _Worker(task, heard)
                        crew.append(worker)
                    worker.give(chunk)
                yield outcome
        finally:
            for worker in crew:
                worker.stop()


class _Worker:
    """One worker process, the thread that hears it, and the chunk it has."""

    def __init__(self, task: Task, heard: "queue.SimpleQueue[Any]") -> None:
        self.chunk: Chunk | None = None
        self._task = task
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._process = subprocess.Popen(
            # -P: a json.py in the folder where somebody paints is not ours to import.
            [sys.executable, "-P", "-m", "impasto.engines.local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C is for the driver, which lets its workers finish what they have begun.
            start_new_session=True,
        )
        self._ear = threading.Thread(target=self._hear, args=(heard,), daemon=True)
        self._ear.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, chunk: Chunk) -> None:
        self.chunk = chunk
        line = json.dumps([json.loads(to_json(self._task)), json.loads(to_json(chunk))])
        with contextlib.suppress(OSError):  # it is dead: its ear says so
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _hear(self, heard: "queue.SimpleQueue[Any]") -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, _, body = line.partition(b" ")
            with contextlib.suppress(ValueError, KeyError):  # the last line of a killed process
                heard.put((self, from_json(body, _KINDS[kind.decode()])))
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
            log=self._tail(),
        )

    def _tail(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_BYTES))
        return self._log.read().decode(errors="replace")

    def stop(self) -> None:
        """End the process: at once when it has a chunk, or else by the end of its input."""
        if self.chunk is not None:
            self._process.kill()
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ear.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


def _main() -> None:
    """Score the chunks that come in by line, until the input ends."""
    # Whatever a library prints must not get between the messages.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders: queue.SimpleQueue[tuple[Task, Chunk]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()

    def say(message: Progress | Outcome) -> None:
        out.write(type(message).__name__.encode() + b" " + to_json(message) + b"\n")
        out.flush()

    while True:
        task, chunk = orders.get()
        say(score_chunk(task, chunk, say))


def _listen(orders: "queue.SimpleQueue[tuple[Task, Chunk]]") -> None:
    for line in sys.stdin.buffer:
        task, chunk = json.loads(line)
        orders.put(
            (
                from_json(json.dumps(task).encode(), Task),
                from_json(json.dumps(chunk).encode(), Chunk),
            )
        )
    # The driver has finished or died; nobody waits for what is under way.
    os._exit(0)


if __name__ == "__main__":
    _main()
