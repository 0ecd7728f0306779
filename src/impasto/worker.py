"""What every engine executes: score one chunk and publish its segment.

Decoding, the network and encoding run in three threads, joined by bounded channels of pictures,
so that a chunk takes as long as its slowest stage and memory does not grow with its length.
"""

import contextlib
import hashlib
import os
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from impasto.access import Access
from impasto.errors import ImpastoError, OutOfMemory, OutOfSpace, RunFailed
from impasto.keys import from_json, run_id, segment_key, to_json
from impasto.media.decode import FrameReader
from impasto.media.encode import encode_segment
from impasto.media.pixels import Picture, RgbReader, YuvWriter
from impasto.observe import output
from impasto.observe.logs import keep_attempt
from impasto.protocols import Scorer, Sequential
from impasto.records import Chunk, Done, Failed, Outcome, Plan, Progress, ScorerSpec, Task
from impasto.scorers import open_scorer
from impasto.stores import Place, Store, address, locate, open_store

T = TypeVar("T")
_PROGRESS_EVERY_S = 0.2


class _Closed(Exception):  # noqa: N818 - a signal, not an error
    """The other side of a channel is gone."""


class _Channel(Generic[T]):
    """A bounded queue between two threads that either side can end."""

    def __init__(self, room: int) -> None:
        self._items: deque[T] = deque()
        self._room = room
        self._ended = False
        self._abandoned = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Wait for room. Raises _Closed when nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._room or self._abandoned)
            if self._abandoned:
                raise _Closed
            self._items.append(item)
            self._changed.notify_all()

    def take(self, most: int) -> list[T]:
        """Wait for `most` items, or for fewer at the end; an empty list is the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) >= most or self._ended)
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._changed.notify_all()
            return taken

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nothing more is read."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()


@dataclass(slots=True)
class _Clock:
    """Busy seconds by stage, gathered by the threads; waiting does not count."""

    stage_s: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "score": 0.0, "encode": 0.0}
    )

    @contextlib.contextmanager
    def busy(self, stage: str) -> Generator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_s[stage] += time.perf_counter() - started


@dataclass(slots=True)
class _Session:
    """What a process keeps from chunk to chunk of one run."""

    store: Store
    source: Place
    access: tuple[Access, ...]
    plan: Plan
    reader: FrameReader
    to_rgb: RgbReader
    to_yuv: YuvWriter
    scorer: Scorer

    def renew(self, access: tuple[Access, ...]) -> None:
        """Take what opens the stores for the next chunk."""
        if access == self.access:
            return
        self.access = access
        for store in (self.store, *([] if isinstance(self.source, Path) else [self.source.store])):
            store.renew(open_store(store.url, access))


def _session(task: Task) -> _Session:
    session = _open_session(task)
    session.renew(task.access)
    return session


@lru_cache(maxsize=1)
def _open_session(task: Task) -> _Session:
    store = open_store(task.system, task.access)
    source = locate(task.source, task.access, etag=task.etag)
    plan = from_json(store.get(f"runs/{task.run_id}/plan.json"), Plan)
    encode, scorer = plan.spec.encode, plan.spec.scorer
    model = store.get(model_key(scorer))
    if hashlib.sha256(model).hexdigest() != scorer.model:
        raise RunFailed(f"the model {model_key(scorer)} was damaged in the store; remove it")
    opened = open_scorer(
        scorer,
        model,
        width=encode.width,
        height=encode.height,
        precision=plan.precision,
        streams=task.streams,
    )
    return _Session(
        store=store,
        source=source,
        access=task.access,
        plan=plan,
        reader=FrameReader(source, plan.source, limits=task.limits),
        to_rgb=RgbReader(plan.source, width=encode.width, height=encode.height),
        to_yuv=YuvWriter(encode),
        scorer=opened,
    )


def model_key(scorer: ScorerSpec) -> str:
    """Key of a model's bytes in the system store."""
    return f"models/{scorer.model}.{'onnx' if scorer.optimise is None else 'npz'}"


def worker_name() -> str:
    """Name this process for reports: "host/pid"."""
    return f"{socket.gethostname()}/{os.getpid()}"


def peak_memory_mb() -> float | None:
    """Largest resident size of this process so far, in MB; None where the system doesn't tell."""
    try:
        # Not getrusage: a child's begins at the size of the process that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    kilobytes = status.partition("VmHWM:")[2].split()
    return round(int(kilobytes[0]) / 1024, 1) if kilobytes else None


def score_chunk(
    task: Task, chunk: Chunk, on_progress: Callable[[Progress], None] = lambda _: None
) -> Outcome:
    """Score the frames of `chunk` and publish their segment in the system store.

    The segment appears whole or not at all; scoring a chunk twice gives the same bytes.

    Args:
        task: which run, and how this worker takes part in it.
        chunk: what to score.
        on_progress: called from time to time, from this thread.

    Returns:
        Done, or Failed with one line and a traceback; no exception of the chunk's own gets out.
    """
    name = worker_name()
    try:
        return _score(_session(task), chunk, name, on_progress)
    except Exception as error:  # noqa: BLE001 - a bad chunk is a value: the next one may be good
        line = str(error) if isinstance(error, ImpastoError) else f"{type(error).__name__}: {error}"
        return Failed(
            chunk.index,
            name,
            line.replace("\n", " "),
            retriable=not isinstance(error, OutOfMemory | OutOfSpace),
            log=output.take() + traceback.format_exc(),
        )


def _score(
    session: _Session, chunk: Chunk, name: str, on_progress: Callable[[Progress], None]
) -> Done:
    started = time.perf_counter()
    plan, scorer, clock = session.plan, session.scorer, _Clock()
    room = 2 * scorer.batch_size
    decoded: _Channel[Picture] = _Channel(room)
    painted: _Channel[Picture] = _Channel(room)
    frame_s: list[float] = []
    replaced: list[int] = []
    with ThreadPoolExecutor(2, thread_name_prefix="impasto") as pool:
        decoding = pool.submit(_decode, session, chunk, decoded, clock)
        encoding = pool.submit(_encode, session, painted, clock)
        try:
            last_word = started
            if isinstance(scorer, Sequential):
                scorer.resume(_state_before(session, chunk))
                scorer.on_step = lambda share: on_progress(
                    Progress(chunk.index, name, len(frame_s), dict(clock.stage_s), share)
                )
            while pictures := decoded.take(scorer.batch_size):
                first = chunk.start + len(frame_s)
                before = clock.stage_s["score"]
                with clock.busy("score"):
                    frames, bad = _apply(scorer, np.stack(pictures), plan.spec.on_error)
                replaced += [first + place for place in bad]
                frame_s += [(clock.stage_s["score"] - before) / len(frames)] * len(frames)
                for frame in frames:
                    painted.put(frame)
                if time.perf_counter() - last_word >= _PROGRESS_EVERY_S:
                    last_word = time.perf_counter()
                    on_progress(Progress(chunk.index, name, len(frame_s), dict(clock.stage_s)))
        except _Closed:
            pass  # the encoder failed; its error is raised below
        finally:
            decoded.abandon()
            painted.end()
        decoding.result()
        segment = encoding.result()
    if len(frame_s) != len(chunk):
        raise RunFailed(f"chunk {chunk.index} has {len(chunk)} frames, but {len(frame_s)} came out")
    done = Done(
        chunk=chunk.index,
        worker=name,
        segment=hashlib.sha256(segment).hexdigest(),
        frames=len(chunk),
        wall_s=time.perf_counter() - started,
        stage_s=dict(clock.stage_s),
        frame_s=tuple(round(s, 6) for s in frame_s),
        device=scorer.device,
        replaced=tuple(replaced),
        notes=tuple(scorer.notes),
        peak_memory_mb=peak_memory_mb(),
    )
    key = segment_key(plan, chunk)
    if isinstance(scorer, Sequential):
        session.store.put(f"{key}.state", scorer.state())
    # The record goes first: a segment that is listed always has one.
    session.store.put(f"{key}.json", to_json(done))
    session.store.put_new(f"{key}.mkv", segment)
    # Another user's run of the same plan shows this log too, and a name may be private.
    printed = output.take().replace(address(session.source), "the source")
    keep_attempt(session.store, run_id(plan.spec), done, printed, chunks=len(plan.chunks))
    return done


def _state_before(session: _Session, chunk: Chunk) -> bytes | None:
    """What the chunk before left for this one; None for the first."""
    if chunk.index == 0:
        return None
    try:
        return session.store.get(
            f"{segment_key(session.plan, session.plan.chunks[chunk.index - 1])}.state"
        )
    except FileNotFoundError:
        raise RunFailed(
            f"chunk {chunk.index} starts from chunk {chunk.index - 1}, which is not scored yet"
        ) from None


def _decode(session: _Session, chunk: Chunk, out: _Channel[Picture], clock: _Clock) -> None:
    frames = session.reader.read(chunk.start, chunk.stop)
    try:
        while True:
            with clock.busy("decode"):
                frame = next(frames, None)
                if frame is None:
                    return
                picture = session.to_rgb(frame)
            out.put(picture)
    except _Closed:
        return  # the scorer or the encoder failed and says so itself
    finally:
        frames.close()
        out.end()


def _encode(session: _Session, pictures: _Channel[Picture], clock: _Clock) -> bytes:
    waited_s = 0.0

    def taken() -> Iterator[Picture]:
        nonlocal waited_s
        while True:
            before = time.perf_counter()
            got = pictures.take(1)
            waited_s += time.perf_counter() - before
            clock.stage_s["encode"] = time.perf_counter() - started - waited_s
            if not got:
                return
            yield got[0]

    started = time.perf_counter()
    try:
        return encode_segment(map(session.to_yuv, taken()), session.plan.spec.encode)
    finally:
        clock.stage_s["encode"] = time.perf_counter() - started - waited_s
        pictures.abandon()


def _apply(
    scorer: Scorer, frames: NDArray[np.uint8], on_error: str
) -> tuple[NDArray[np.uint8], list[int]]:
    """Score a batch; under pass-through a frame that can't be scored stays as it is.

    Returns:
        The frames, and the places in the batch that were replaced.
    """
    try:
        return scorer(frames), []
    except OutOfMemory:
        raise
    except Exception:
        if on_error != "pass-through":
            raise
    out, replaced = frames.copy(), []
    for place in range(len(frames)):
        try:
            out[place] = scorer(frames[place : place + 1])[0]
        except OutOfMemory:
            raise
        except Exception:  # noqa: BLE001 - the policy is to go on, and the report counts it
            replaced.append(place)
    return out, replaced
