"""What worker processes and MPI ranks have in common: their messages, and one chunk at a time.

A message is one line, the name of its kind and its JSON; an order is one line of JSON. Nothing is
pickled.
"""

import contextlib
import queue
import signal
import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from types import FrameType

from impasto.engines import notice
from impasto.keys import from_json, to_json
from impasto.records import Chunk, Done, Failed, Outcome, Progress, Task
from impasto.surroundings import forbid_core_dumps
from impasto.worker import score_chunk, worker_name


@dataclass(frozen=True, slots=True)
class Leaving:
    """The worker takes no more chunks."""

    worker: str
    reason: str
    machine: bool
    """Its whole machine goes, and every worker on it."""


@dataclass(frozen=True, slots=True)
class Order:
    """Score a chunk."""

    task: Task
    chunk: Chunk


Message = Progress | Outcome | Leaving
_KINDS: dict[bytes, type[Message]] = {
    kind.__name__.encode(): kind for kind in (Progress, Done, Failed, Leaving)
}


def pack(message: Message) -> bytes:
    """Write a message as one line, without its end."""
    return type(message).__name__.encode() + b" " + to_json(message)


def unpack(line: bytes) -> Message:
    """Read a message back.

    Raises:
        ValueError: the line is none.
    """
    kind, _, body = line.partition(b" ")
    if kind not in _KINDS:
        raise ValueError(f"no message: {line[:80]!r}")
    return from_json(body, _KINDS[kind])


class _Dropped(Exception):  # noqa: N818 - a signal, not an error
    """Nobody waits for this chunk any more."""


class Member:
    """Scores one chunk at a time in a thread of its own, so that its process hears what comes.

    `leave` may be called from any thread and from a signal handler, everything else from one
    thread.

    Args:
        streams: frames scored at the same time where a task doesn't say.
    """

    def __init__(self, streams: int = 0) -> None:
        forbid_core_dumps()  # the rights that come with orders are in memory
        self._streams = streams
        self._chunk: Chunk | None = None
        self._leaving: Leaving | None = None
        self._watching = False
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[tuple[Chunk | None, Message]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._score, name="impasto-score", daemon=True)
        self._thread.start()

    def take(self, order: Order) -> None:
        """Begin with a chunk; one that has left gives it back."""
        self._chunk = order.chunk
        if self._leaving is not None:
            self._inbox.put((order.chunk, self._given_back(order.chunk, self._leaving)))
            return
        self._watch(order.task.scheduled_events)
        # Who hands out knows from now on that there is a worker, though its first frame may be far.
        self._inbox.put((order.chunk, Progress(order.chunk.index, worker_name(), 0, {})))
        streams = order.task.streams or self._streams
        self._orders.put(replace(order, task=replace(order.task, streams=streams)))

    def drop(self) -> None:
        """Forget the chunk: nobody waits for it."""
        self._chunk = None

    @property
    def busy(self) -> bool:
        """Whether it has a chunk whose outcome was not heard yet."""
        return self._chunk is not None

    def close(self) -> None:
        """Forget the chunk, and end the thread as soon as it notices."""
        self._chunk = None
        self._orders.put(None)
        self._thread.join()

    def leave(self, reason: str, *, machine: bool = False) -> None:
        """Take no more chunks, and give the present one back at once.

        With `machine` the present one is finished, as there is notice enough for most.
        """
        self._inbox.put((None, Leaving(worker_name(), reason, machine)))

    def hear(self, *, wait: bool = True) -> Message | None:
        """The next thing to tell the engine; None when there is nothing and no `wait`."""
        while True:
            try:
                chunk, message = self._inbox.get(block=wait)
            except queue.Empty:
                return None
            if isinstance(message, Leaving):
                return self._leave(message)
            if chunk is self._chunk:  # and not one that was dropped or given back
                if not isinstance(message, Progress):
                    self._chunk = None
                return message

    def _leave(self, leaving: Leaving) -> Message:
        self._leaving = leaving
        if self._chunk is not None and not leaving.machine:
            self._inbox.put((self._chunk, self._given_back(self._chunk, leaving)))
        return leaving

    def _given_back(self, chunk: Chunk, leaving: Leaving) -> Failed:
        return Failed(chunk.index, worker_name(), leaving.reason, lost_worker=True)

    def _watch(self, setting: str) -> None:
        if self._watching:
            return
        self._watching = True
        if (url := notice.endpoint(setting)) is not None:

            def tell(reason: str) -> None:
                self.leave(reason, machine=True)

            threading.Thread(target=notice.watch, args=(url, tell), daemon=True).start()

    def _score(self) -> None:
        while (order := self._orders.get()) is not None:

            def say(progress: Progress, chunk: Chunk = order.chunk) -> None:
                if self._chunk is not chunk:
                    raise _Dropped
                self._inbox.put((chunk, progress))

            self._inbox.put((order.chunk, score_chunk(order.task, order.chunk, say)))


@contextlib.contextmanager
def heeding_signals(member: Member) -> Generator[None]:
    """Let SIGTERM make `member` leave, and SIGINT do nothing: Ctrl-C is for who hands out chunks.

    Outside the main thread signals can't be taken, and nothing changes.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        member.leave("the worker was told to end, and gave the chunk back")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, leave),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
