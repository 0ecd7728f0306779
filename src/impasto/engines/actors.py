"""Actors of Ray that score, as many as there is work for."""

import asyncio
import importlib.metadata
import re
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from impasto.engines.member import Leaving, Member, Order, pack
from impasto.keys import from_json, to_json
from impasto.observe import output
from impasto.records import Failed, Progress
from impasto.worker import worker_name

_AHEAD = 8
"""Workers asked for beyond those that are there, or as many again: as Ray's autoscaler grows."""
_STARTS = 5
"""Times in a row that a worker may fail before it is ready."""
_AGAIN_S = 1.0
"""Until another worker is asked for in place of one that never came."""
_PROGRESS_EVERY_S = 1.0
_SAME = ("impasto", "av", "numpy", "openvino")
"""Packages that must be the same everywhere: in other versions segments have other bytes."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker says first."""

    worker: str
    node: str
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Versions of the packages that a segment's bytes depend on."""
    return {name: importlib.metadata.version(name) for name in _SAME}


class Worker:
    """An actor, one process of a node, that keeps its network from chunk to chunk.

    Bytes go in and out: our own JSON, and no objects of Python.

    Args:
        cores: frames scored at the same time, where a task doesn't say.
    """

    def __init__(self, cores: int) -> None:
        output.keep()
        self._member = Member(cores)

    def hello(self) -> bytes:
        """Say who it is."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return to_json(Hello(worker_name(), node, versions()))

    def score(self, order: bytes) -> Generator[bytes]:
        """Score a chunk; the messages on the way, and its outcome last."""
        self._member.take(from_json(order, Order))
        told = -_PROGRESS_EVERY_S
        while self._member.busy and (message := self._member.hear()) is not None:
            if isinstance(message, Progress) and message.frames_done:
                if time.monotonic() - told < _PROGRESS_EVERY_S:
                    continue
                told = time.monotonic()
            yield pack(message)


@dataclass(slots=True)
class _Post:
    """A seat, and the actor that sits there or is asked for."""

    seat: int
    actor: Any
    orders: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    tending: "asyncio.Task[None] | None" = None
    hello: Hello | None = None
    """None until it is there."""


class Pool:
    """Actors in their seats, and the messages between them and the engine.

    A seat is a number that is used once: who takes over for a lost actor has the next.

    Args:
        cores: CPU cores that each actor asks for.
        gpus: likewise.
        say: takes a seat's messages, and "ready" when its actor is there.
    """

    def __init__(self, cores: int, gpus: int, say: Callable[[int, bytes], None]) -> None:
        import ray

        self.cores = cores
        self._say = say
        self._kill = ray.kill
        self._error = ray.exceptions.RayError
        self._kind = ray.remote(Worker)
        self._options: dict[str, Any] = {
            # Nothing is begun again behind the engine's back.
            "num_cpus": cores, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0,
        }  # fmt: skip
        self._posts: dict[int, _Post] = {}
        self._numbers = count(1)
        self._wanted = 0
        self._failed_starts = 0
        self._leaving: set[str] = set()
        """Nodes that are about to go."""
        self.refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why no worker can be had, when waiting does not mend it."""

    @property
    def ready(self) -> int:
        """Workers that are there."""
        return sum(post.hello is not None for post in self._posts.values())

    def want(self, workers: int) -> None:
        """Ask for workers, or no longer ask for those that have not come."""
        self._wanted = workers
        self._adjust()

    def give(self, seat: int, order: bytes) -> None:
        """Have a seat's worker score a chunk."""
        if seat in self._posts:
            self._posts[seat].orders.put_nowait(order)
        else:  # it has just gone
            self._say(seat, pack(_lost(order, "ray", "the Ray worker was lost")))

    def drop(self, seat: int) -> None:
        """Let a seat's worker go."""
        post = self._posts.pop(seat, None)
        if post is not None:
            self._kill(post.actor)
            if post.tending is not None and post.tending is not asyncio.current_task():
                post.tending.cancel()

    def _adjust(self) -> None:
        target = min(self._wanted, self.ready + max(_AHEAD, self.ready))
        pending = [post.seat for post in self._posts.values() if post.hello is None]
        for seat in pending[max(0, target - self.ready) :]:
            self.drop(seat)
        for _ in range(target - len(self._posts)):
            self._ask()

    def _ask(self) -> None:
        away = f"!in({', '.join(sorted(self._leaving))})"
        where = {"label_selector": {"ray.io/node-id": away}} if self._leaving else {}
        post = _Post(
            next(self._numbers), self._kind.options(**self._options, **where).remote(self.cores)
        )
        self._posts[post.seat] = post
        post.tending = asyncio.create_task(self._tend(post))
        post.tending.add_done_callback(self._watch)

    async def _tend(self, post: _Post) -> None:
        """Wait for the actor, and pass its messages on until it goes."""
        try:
            post.hello = from_json(await post.actor.hello.remote(), Hello)
        except self._error as error:
            await self._not_started(post, error)
            return
        self._failed_starts = 0
        if (said := _other_versions(post.hello)) is not None:
            self._refuse(said)
            return
        self._say(post.seat, b"ready")
        self._adjust()
        while post.seat in self._posts:
            order = await post.orders.get()
            try:
                await self._pass_on(post, post.hello, order)
            except self._error as error:
                if post.seat not in self._posts:
                    return
                self.drop(post.seat)
                lost = f"the Ray worker was lost{_cause(error)}"
                self._say(post.seat, pack(_lost(order, post.hello.worker, lost, str(error))))
                self._adjust()

    async def _pass_on(self, post: _Post, hello: Hello, order: bytes) -> None:
        """Have an actor score a chunk; it is let go when its machine is about to."""
        async for said in post.actor.score.options(num_returns="streaming").remote(order):
            message: bytes = await said
            if message.startswith(Leaving.__name__.encode()):
                self._leaving.add(hello.node)
            self._say(post.seat, message)
        if hello.node in self._leaving:
            self.drop(post.seat)
            self._adjust()

    async def _not_started(self, post: _Post, error: Exception) -> None:
        """Ask again; but an actor that fails by itself does so everywhere."""
        self._failed_starts += getattr(error, "actor_init_failed", False)
        if self._failed_starts == _STARTS:
            said = str(error).strip().splitlines()[-1].strip()
            self._refuse(f"Ray workers can't be started: {said}")
            return
        await asyncio.sleep(_AGAIN_S)
        if self._posts.pop(post.seat, None) is not None:
            self._adjust()

    def _refuse(self, why: str) -> None:
        if not self.refused.done():
            self.refused.set_result(why)

    def _watch(self, tending: "asyncio.Task[None]") -> None:
        """Let no fault of ours go unheard."""
        if not tending.cancelled() and (error := tending.exception()) is not None:
            self._refuse(f"{type(error).__name__}: {error}")


def _lost(order: bytes, worker: str, error: str, log: str = "") -> Failed:
    chunk = from_json(order, Order).chunk.index
    return Failed(chunk, worker, error, lost_worker=True, log=log)


def _cause(error: Exception) -> str:
    """What Ray says of an actor's end, in a few words."""
    found = re.search(r"because (its [^.\n]+)\.", str(error))
    return f": {found[1]}" if found else ""


def _other_versions(hello: Hello) -> str | None:
    for name, mine in versions().items():
        if (there := hello.versions.get(name)) != mine:
            return (
                f"the Ray worker {hello.worker} has {name} {there}, but here it is {mine}; "
                "install the same everywhere"
            )
    return None
