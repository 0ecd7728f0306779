"""A Ray cluster: one that is there, or one of this machine's own for as long as the run lasts.

    impasto stylize clip.mp4 --style starry_night --engine ray --ray-address head:6379

There are as many workers as there is work for and the cluster has room for: chunks that wait are
what its autoscaler sees, so it may begin and end without any node. A chunk is given to a worker
that is there, never ahead.
"""

import contextlib
import importlib.util
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import replace
from operator import length_hint
from typing import IO

from impasto.engines.child import end, last_words
from impasto.engines.cluster import Setup
from impasto.engines.handout import order_for
from impasto.engines.member import Leaving, Message, unpack
from impasto.engines.standing import Standing
from impasto.errors import EngineLost, RunFailed, Unavailable
from impasto.keys import to_json
from impasto.records import Chunk, Done, Failed, Noted, Outcome, Progress, Task
from impasto.runtimes.cpu import usable_cores
from impasto.surroundings import RAY_SECRETS, SECRETS, RayCluster, inherited

_CORES_PER_WORKER = 8
"""One process feeds about this many cores before its decoder and encoder threads bind."""
_MOST_WORKERS = 10_000
_UNKNOWN = 8
"""Chunks that are taken to wait where the iterable does not tell."""
_TICK_S = 1.0
_PATIENCE_S = 10.0
"""Without any worker, until that is told."""
_IDLE_S = 20.0
"""That a worker without a chunk is kept, in case one comes back."""
_STOP_TIMEOUT_S = 20.0

_now = time.monotonic


class RayEngine:
    """Hands chunks to actors; one that is lost is replaced and costs its chunk only.

    Args:
        workers: the most at once; None takes all that a cluster has room for, or on this machine
            one for every eight cores.
        cluster: where it is, and what a worker asks of it.
        hidden: environment variables that a cluster of its own doesn't inherit.

    Raises:
        Unavailable: Ray is missing, or the address is of another kind.
    """

    name = "ray"

    def __init__(
        self, workers: int | None, cluster: RayCluster, hidden: Collection[str] = SECRETS
    ) -> None:
        self._hidden = frozenset(hidden) - RAY_SECRETS
        if importlib.util.find_spec("ray") is None:
            raise Unavailable("engine 'ray' needs: pip install 'impasto[ray]'")
        if "://" in cluster.address:
            raise Unavailable(
                f"{cluster.address!r} is not the address of a Ray cluster from within, such as "
                "head:6379 or auto; from outside use: impasto submit --ray-address http://head:8265"
            )
        address = "" if cluster.address == "local" else cluster.address
        self._wait_s = cluster.wait_s
        self._most = workers or _MOST_WORKERS
        self.workers = workers or 1
        """Without a number asked for, the most that there were at once."""
        self._setup = Setup(address, cluster.cores_per_worker)
        if not address:
            cores = usable_cores()
            self._most = self.workers = workers or max(1, cores // _CORES_PER_WORKER)
            each = cluster.cores_per_worker or max(1, cores // self.workers)
            self._setup = Setup("", each, local_cores=each * self.workers)
        self._prepared: _Cluster | None = None

    @contextlib.contextmanager
    def prepared(self) -> Generator[None]:
        """See `Preparing.prepared`; of a cluster that is there nothing is taken before its time."""
        if self._setup.address:
            yield
            return
        with contextlib.closing(_Cluster(self._setup, self._wait_s, self._hidden)) as cluster:
            self._prepared = cluster
            try:
                yield
            finally:
                self._prepared = None

    @contextlib.contextmanager
    def _cluster(self, setup: Setup) -> Generator["_Cluster"]:
        """The prepared cluster, which ends while the run goes on, or one that ends here."""
        cluster, self._prepared = self._prepared, None
        if cluster is None or setup != self._setup:
            with contextlib.closing(_Cluster(setup, self._wait_s, self._hidden)) as cluster:
                yield cluster
            return
        cluster.alone_since = _now()
        try:
            yield cluster
        finally:
            cluster.finish()

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress | Noted], None]
    ) -> Generator[Outcome]:
        """See `Engine.map`.

        Raises:
            EngineLost: the cluster has gone, or no worker came in time.
            Unavailable: there is no cluster, or none that has what a worker asks for.
        """
        waiting = iter(chunks)
        if not length_hint(waiting, _UNKNOWN):
            return  # a cluster is not begun for nothing
        setup = replace(self._setup, gpus=int(task.device.startswith("cuda")))
        with self._cluster(setup) as cluster:
            try:
                yield from self._hand_out(cluster, task, waiting, on_progress)
            except EngineLost as lost:
                for chunk in cluster.having.values():
                    yield Failed(chunk.index, "ray", str(lost), lost_worker=True, log=lost.log)
                raise

    def _hand_out(
        self,
        cluster: "_Cluster",
        task: Task,
        waiting: Iterator[Chunk],
        on_progress: Callable[[Progress | Noted], None],
    ) -> Generator[Outcome]:
        guess = _UNKNOWN
        while True:
            if not (yield from cluster.give(task, waiting)):
                guess = 0
            waits = 0 if cluster.next_seat() is not None else length_hint(waiting, guess)
            if not cluster.having and not waits:
                return
            cluster.want(min(self._most, len(cluster.having) + waits))
            match cluster.hear():
                case Progress() | Noted() as heard:
                    on_progress(heard)
                case Done() | Failed() as outcome:
                    # The next chunk is given first: whoever reads the outcome may take its time.
                    yield from cluster.give(task, waiting)
                    yield outcome
                    guess = _UNKNOWN  # it may have been put back
            self.workers = max(self.workers, len(cluster.having) + len(cluster.free))


class _Cluster:
    """The process that is connected to a cluster, and which seat has which chunk.

    Args:
        setup: what the process is told.
        wait_s: seconds without any worker after which there is no more hope for one.
        hidden: environment variables that the process doesn't inherit.
    """

    def __init__(self, setup: Setup, wait_s: float, hidden: Collection[str]) -> None:
        self.free: dict[int, float] = {}
        """Seat → since when, the longest first."""
        self.having: dict[int, Chunk] = {}
        self._leaving: set[int] = set()
        self._standing = Standing()
        self._wanted = 0
        self._wait_s = wait_s
        self.alone_since = _now()
        """Without any worker."""
        self._waits_for = "nothing is known of the cluster"
        self._connected = False
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of a request
            # -P: a json.py in the folder where somebody paints is not ours to import.
            [sys.executable, "-P", "-m", "impasto.engines.cluster", to_json(setup).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=inherited(hidden),
            # Ctrl-C is for this process, which lets the workers finish what they have begun.
            start_new_session=True,
        )
        self._heard: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def give(self, task: Task, waiting: Iterator[Chunk]) -> Generator[Failed, None, bool]:
        """Give each free worker a chunk; yield those that can't be given; False at their end."""
        while (seat := self.next_seat()) is not None:
            if (chunk := next(waiting, None)) is None:
                return False
            order = order_for(task, chunk)
            if isinstance(order, Failed):
                yield order
                continue
            del self.free[seat]
            self.having[seat] = chunk
            self._write(b"give %d %s" % (seat, to_json(order)))
        return True

    def next_seat(self) -> int | None:
        """The seat that gets the next chunk; None while there is none for it."""
        return self._standing.choose(self.free, self.having)

    def want(self, workers: int) -> None:
        """Say for how many workers there is work; one that has had none for long goes."""
        idle = [seat for seat, since in self.free.items() if _now() - since > _IDLE_S]
        for seat in idle:
            del self.free[seat]
            self._write(b"drop %d" % seat)
        if workers != self._wanted or idle:  # one that sat out may have to be replaced
            self._wanted = workers
            self._write(b"want %d" % workers)

    def hear(self) -> Progress | Noted | Outcome | None:
        """Wait for what a worker says; None now and then, and when one has come or will go.

        Raises:
            EngineLost: the cluster has gone, or no worker has come.
            Unavailable: there is no cluster, or none that has what a worker asks for.
        """
        if self.having or self.free:
            self.alone_since = _now()
        try:
            line = self._heard.get(timeout=_TICK_S)
        except queue.Empty:
            if _now() - self.alone_since > self._wait_s:
                raise EngineLost(
                    f"no Ray worker has come for {self._wait_s:g} s: {self._waits_for}"
                ) from None
            return None
        if line is None:
            raise self._gone()
        first, _, rest = line.removesuffix(b"\n").partition(b" ")
        match first:
            case b"connected":
                self._connected, self.alone_since = True, _now()
            case b"waiting":
                self._waits_for = rest.decode()
                if _now() - self.alone_since > _PATIENCE_S:
                    return Noted(
                        f"no Ray worker is there yet: {self._waits_for}; waiting for one up to "
                        f"{self._wait_s:g} s"
                    )
            case b"refused":
                raise (RunFailed if self._connected else Unavailable)(rest.decode())
            case _ if rest == b"ready":
                self.free[int(first)] = _now()
            case _:
                return self._settle(int(first), unpack(rest))
        return None

    def _settle(self, seat: int, message: Message) -> Progress | Outcome | None:
        match message:
            case Leaving():
                self._leaving.add(seat)
                return None
            case Done() | Failed():
                self.having.pop(seat)
                self._standing.note(seat, message)
                stays = isinstance(message, Done) or not message.lost_worker
                if stays and seat not in self._leaving:
                    self.free[seat] = _now()
        return message

    def _gone(self) -> Exception:
        code = self._process.wait()
        words = last_words(self._log).strip()
        if not self._connected:
            last = words.rpartition("\n")[2] or f"exit code {code}"
            return RunFailed(f"Ray can't be started: {last}")
        lost = EngineLost("the Ray cluster has gone")
        lost.log = words
        return lost

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended: `hear` says so
            assert self._process.stdin is not None
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(line)
        self._heard.put(None)

    def finish(self) -> None:
        """Let the process end, and don't wait for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def close(self) -> None:
        """End the process, and with it every worker and a cluster of its own."""
        end(self._process, self._ear, within_s=_STOP_TIMEOUT_S)
        self._log.close()
