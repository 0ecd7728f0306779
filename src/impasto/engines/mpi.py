"""MPI ranks, on one machine or on many that see the same source and store.

    impasto stylize clip.mp4 --style starry_night --engine mpi --workers 4

starts a job of five ranks: four score, and rank 0 passes the messages of this process on.

    mpiexec -n 5 impasto stylize clip.mp4 --style starry_night

is such a job: rank 0 plans and stitches, the others score. Either way one process hands a chunk to
each rank that comes free. A rank that dies takes the job with it, as MPI has it.
"""

import contextlib
import queue
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from impasto.engines.child import end, last_words
from impasto.engines.handout import hand_out
from impasto.engines.member import Leaving, Message, Order, unpack
from impasto.engines.ranks import FINISH, READY, open_world, require_mpi4py
from impasto.errors import EngineLost, RequestError, RunFailed, Unavailable
from impasto.keys import to_json
from impasto.records import Chunk, Outcome, Progress, Task
from impasto.runtimes.cpu import usable_cores
from impasto.surroundings import SECRETS, Ranks, inherited
from impasto.wording import plural
from impasto.worker import score_chunk

_CORES_PER_WORKER = 8
"""One process feeds about this many cores before its decoder and encoder threads bind."""
_STOP_TIMEOUT_S = 10.0


class MpiEngine:
    """Hands chunks to ranks: to those of this job, or to those of a job that it starts.

    Args:
        workers: ranks that score; None takes every one of this job, or one for eight cores.
        ranks: this process's place in a job; None starts one.
        mpiexec: what starts a job; empty takes the one that belongs to mpi4py, or that is on PATH.
        hidden: environment variables that the ranks of a job of its own don't inherit.

    Raises:
        RequestError: mpi4py or mpiexec is missing, or the job has too few ranks.
    """

    name = "mpi"

    def __init__(
        self,
        workers: int | None,
        ranks: Ranks | None,
        mpiexec: Sequence[str],
        hidden: Collection[str] = SECRETS,
    ) -> None:
        self._hidden = hidden
        self._world = None if ranks is None else open_world(ranks)
        if self._world is None:
            require_mpi4py()
            self._mpiexec = [*mpiexec] or [_find_mpiexec()]
            self.workers = workers or max(1, usable_cores() // _CORES_PER_WORKER)
            return
        there = max(1, self._world.size - 1)  # rank 0 hands out, unless it is alone
        if workers is not None and workers > there:
            raise RequestError(
                f"{workers} workers are more than the {plural(there, 'rank')} of this job that can "
                f"score; start it with mpiexec -n {workers + 1}, or leave workers out"
            )
        self.workers = workers or there

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        """See `Engine.map`.

        Raises:
            EngineLost: the job ended, or all ranks leave; chunks that ranks had have failed.
        """
        if self._world is None:
            first = next(waiting := iter(chunks), None)
            if first is None:
                return  # a job is not begun for nothing
            with contextlib.closing(_Job(self._mpiexec, self.workers, self._hidden)) as job:
                all_of_them = _Preceded(first, waiting)
                yield from hand_out(job, self.workers, task, all_of_them, on_progress)
                job.finish()
        elif self._world.size == 1:
            for chunk in chunks:
                yield score_chunk(task, chunk, on_progress)
        else:
            yield from hand_out(self._world, self.workers, task, chunks, on_progress)


class _Preceded(Iterator[Chunk]):
    """A chunk and those that wait behind it, which may have none now and one later."""

    def __init__(self, first: Chunk, waiting: Iterator[Chunk]) -> None:
        self._first: Chunk | None = first
        self._waiting = waiting

    def __next__(self) -> Chunk:
        first, self._first = self._first, None
        return next(self._waiting) if first is None else first


class _Job:
    """An MPI job, and the pipe to its rank 0."""

    def __init__(self, mpiexec: Sequence[str], workers: int, hidden: Collection[str]) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        ranks = [sys.executable, "-P", "-m", "impasto.engines.ranks", str(workers + 1)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of a request
                [*mpiexec, "-n", str(workers + 1), *ranks],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=inherited(hidden),
                # Ctrl-C is for this process, which lets the ranks finish what they have begun.
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise Unavailable(f"can't start {mpiexec[0]!r}: {error.strerror}") from error
        self._heard: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()
        self._ready = False

    def give(self, seat: int, order: Order) -> None:
        self._write(b"%d %s\n" % (seat, to_json(order)))

    def drop(self, seat: int) -> None:
        """Nothing: the job ends with the call."""

    def closed_by(self, seat: int, leaving: Leaving) -> Collection[int]:  # noqa: ARG002
        return (seat,)

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # the job is over: `hear` says so
            assert self._process.stdin is not None
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def hear(self) -> tuple[int, Message]:
        while (line := self._heard.get()) is not None:
            if line == READY:
                self._ready = True
                continue
            rank, _, message = line.partition(b" ")
            if rank.isdigit() and self._ready:
                with contextlib.suppress(ValueError):  # the last line of a killed rank
                    return int(rank), unpack(message)
            self._log.write(line)  # what mpiexec says of the job's end comes this way too
        code = self._process.wait()
        if not self._ready:
            raise RunFailed(f"the MPI ranks can't be started: {self._last_words(code)}")
        lost = EngineLost(f"a rank ended, and MPI ended the others with it (exit code {code})")
        lost.log = last_words(self._log)
        raise lost

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(line)
        self._heard.put(None)

    def _last_words(self, code: int) -> str:
        lines = (line.strip() for line in last_words(self._log).splitlines())
        return next((line for line in lines if line.strip("=")), f"exit code {code}")

    def finish(self) -> None:
        """Let the ranks end in good order."""
        self._write(FINISH)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT_S)

    def close(self) -> None:
        """End whatever still runs: rank 0 ends the job at the end of its input."""
        end(self._process, self._ear, within_s=_STOP_TIMEOUT_S)
        self._log.close()


def _find_mpiexec() -> str:
    """The wheel's own, whose library mpi4py takes first, or else the one on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "mpiexec"
    found = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if found is None:
        raise Unavailable(
            "engine 'mpi' finds no mpiexec; pip install 'impasto[mpi]', or name it in "
            "IMPASTO_MPIEXEC"
        )
    return found
