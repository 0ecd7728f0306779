"""The ranks of an MPI job: their messages, what those that score do, and how they end together.

This file alone knows mpi4py, and imports it when a job is there. As a program it is every rank of
a job that `impasto.engines.mpi` starts.
"""

import hashlib
import importlib.util
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from impasto import errors
from impasto.engines.member import (
    Leaving,
    Member,
    Message,
    Order,
    heeding_signals,
    pack,
    unpack,
)
from impasto.errors import ImpastoError, Interrupted, RunFailed, Unavailable
from impasto.keys import from_json, to_json
from impasto.observe import output
from impasto.records import Report
from impasto.runtimes.cpu import usable_cores
from impasto.surroundings import Ranks

_ORDER, _DROP, _MESSAGE, _END, _BYE = range(1, 6)
"""Tags: an order, a drop and the end go to a rank that scores, the others come from it."""
READY, FINISH = b"ready\n", b"finish\n"
"""Lines of rank 0 and to it, where another process started the job."""
_POLL_S = 0.002
"""MPI's own waiting keeps a core busy, so a rank looks now and then instead."""


def require_mpi4py() -> None:
    """See that the package is there, without importing it.

    Raises:
        Unavailable: it is not.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise Unavailable("engine 'mpi' needs: pip install 'impasto[mpi]' (mpi4py is missing)")


class World:
    """All ranks of this job, and messages of bytes between rank 0 and the others."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self._sending: deque[tuple[Any, bytes]] = deque()
        """Requests under way, and the buffers that they need until then."""
        self.cores = max(1, usable_cores() // self._sharers())
        """For this rank: those that it may use, shared with the ranks that may use the same."""

    def _sharers(self) -> int:
        import numpy as np

        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        digest = hashlib.sha256(repr(sorted(cores)).encode()).digest()
        mine = np.frombuffer(digest[:8], np.int64).copy()
        if self.rank == 0:
            mine[0] = 0  # it does not score
        node = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        found = np.empty(node.Get_size(), np.int64)
        node.Allgather(mine, found)
        node.Free()
        return int((found == mine[0]).sum())

    def send(self, rank: int, tag: int, data: bytes) -> None:
        """Send bytes, without waiting for the rank to take them."""
        request = self._comm.Isend([data, self._mpi.BYTE], rank, tag)
        self._sending.append((request, data))

    def poll(self) -> tuple[int, int, bytes] | None:
        """Sender, tag and bytes of a message that is there; None when there is none."""
        while self._sending and self._sending[0][0].Test():
            self._sending.popleft()
        status = self._mpi.Status()
        if not self._comm.Iprobe(self._mpi.ANY_SOURCE, self._mpi.ANY_TAG, status):
            return None
        data = bytearray(status.Get_count(self._mpi.BYTE))
        sender, tag = status.Get_source(), status.Get_tag()
        self._comm.Recv([data, self._mpi.BYTE], sender, tag)
        return sender, tag, bytes(data)

    def give(self, seat: int, order: Order) -> None:
        """See `Crew`, whose seats are ranks."""
        self.send(seat, _ORDER, to_json(order))

    def hear(self) -> tuple[int, Message]:
        """See `Crew`."""
        while True:
            if (got := self.poll()) is None:
                time.sleep(_POLL_S)
            elif got[1] == _MESSAGE:
                return got[0], unpack(got[2])

    def closed_by(self, seat: int, leaving: Leaving) -> Collection[int]:  # noqa: ARG002
        """See `Crew`: MPI has no other for a rank that leaves."""
        return (seat,)

    def drop(self, seat: int) -> None:
        """See `Crew`."""
        self.send(seat, _DROP, b"")

    def end(self, ending: bytes) -> None:
        """Tell every other rank how it ended, and hear each one out."""
        for rank in range(1, self.size):
            self.send(rank, _END, ending)
        left = self.size - 1
        while left:
            got = self.poll()
            left -= got is not None and got[1] == _BYE
            if got is None:
                time.sleep(_POLL_S)
        self.flush()

    def flush(self) -> None:
        """Wait until all that was sent is on its way."""
        while self._sending:
            self._sending.popleft()[0].Wait()

    def abort(self) -> None:
        """End every rank of the job at once; does not return."""
        self._comm.Abort(1)


@lru_cache(maxsize=1)
def open_world(ranks: Ranks) -> World:
    """Join the other ranks.

    Raises:
        Unavailable: mpi4py is missing, or was built for another MPI than the launcher.
    """
    require_mpi4py()
    try:
        world = World()
    except (ImportError, RuntimeError) as error:  # no MPI library, or one that does not fit
        line = str(error).partition("\n")[0]
        raise Unavailable(f"engine 'mpi' can't load MPI: {line}") from error
    if ranks.size is not None and world.size != ranks.size:
        raise Unavailable(
            f"{ranks.size} ranks were started, but MPI sees {world.size}: the launcher belongs to "
            "another MPI than mpi4py; under Slurm try srun --mpi=pmi2"
        )
    return world


@dataclass(frozen=True, slots=True)
class _Ending:
    """How rank 0 ended: with a report, or with an error of that class and line."""

    report: Report | None = None
    error: str = ""
    line: str = ""


def collectively(lead: Callable[[], Report], ranks: Ranks) -> Report:
    """Do `lead` on rank 0 while the other ranks score for it; every rank ends as rank 0 does.

    Raises:
        ImpastoError: what rank 0 raised, with `told` set on the others; or MPI can't be used.
    """
    world = open_world(ranks)
    if world.rank:
        return _read(_follow(world))
    ending = _Ending(error="RunFailed", line="rank 0 ended")
    try:
        report = lead()
        ending = _Ending(report)
        return report
    except ImpastoError as error:
        ending = _Ending(error=type(error).__name__, line=str(error))
        raise
    except KeyboardInterrupt:
        ending = _Ending(error=Interrupted.__name__, line="rank 0 was interrupted")
        raise
    finally:
        world.end(to_json(ending))


def _read(data: bytes) -> Report:
    ending = from_json(data, _Ending)
    if ending.report is not None:
        return ending.report
    error: ImpastoError = getattr(errors, ending.error, RunFailed)(ending.line)
    error.told = True
    raise error


def _follow(world: World) -> bytes:
    """Score what rank 0 orders, until it says how it ended; return that."""
    output.keep()
    member = Member(world.cores)
    try:
        with heeding_signals(member):
            while True:
                while (message := member.hear(wait=False)) is not None:
                    world.send(0, _MESSAGE, pack(message))
                match world.poll():
                    case None:
                        time.sleep(_POLL_S)
                    case (_, tag, data) if tag == _ORDER:
                        member.take(from_json(data, Order))
                    case (_, tag, data) if tag == _END:
                        world.send(0, _BYE, b"")
                        world.flush()
                        member.close()
                        return data
                    case _:
                        member.drop()
    except Exception:  # a fault of ours: the others must not wait for this rank
        traceback.print_exc()
        world.abort()
        raise


def _pass_on(world: World) -> None:
    """Be rank 0 of a job that another process started: its lines to ranks, messages to lines."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it has no chunk to give back, and ends as told
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
            if line == FINISH:
                return
        world.abort()  # the driver died, or wants no more of what is under way

    threading.Thread(target=listen, daemon=True).start()
    out.write(READY)
    out.flush()
    while True:
        while not lines.empty():
            line = lines.get()
            if line == FINISH:
                world.end(b"")
                return
            rank, _, order = line.removesuffix(b"\n").partition(b" ")
            world.send(int(rank), _ORDER, order)
        if (got := world.poll()) is None:
            time.sleep(_POLL_S)
        elif got[1] == _MESSAGE:
            out.write(b"%d %s\n" % (got[0], got[2]))
            out.flush()


def _main(size: str) -> None:
    try:
        world = open_world(Ranks(0, int(size), 0))
    except Unavailable as error:
        sys.exit(str(error))
    if world.rank == 0:
        _pass_on(world)
        return
    _follow(world)


if __name__ == "__main__":
    _main(sys.argv[1])
