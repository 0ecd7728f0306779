"""The process that makes one run at a time: python -m impasto.service.job.

Whatever a video or a network does to the process that opens it, it does it to this one, which holds
itself to limits and dies alone. Orders come in by line, what happens goes out by line, all JSON; at
the end of its input it ends, so that it never outlives the service. SIGTERM stops a run in good
order: what is done is kept.
"""

import contextlib
import datetime as dt
import os
import queue
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from impasto.config import load_settings
from impasto.errors import ImpastoError, Interrupted, RequestError, Unavailable, worded
from impasto.frames import video_at
from impasto.keys import from_json, to_json
from impasto.observe import output
from impasto.records import Done, Event, Failed, Noted, Planned, Progress, Report, StageBegan
from impasto.request import Options
from impasto.runtimes.onnx_file import MAX_BYTES
from impasto.service.settings import JobLimits
from impasto.service.submissions import read_options
from impasto.service.words import WAYS, in_api_words
from impasto.settings import Settings
from impasto.stores import open_store
from impasto.train.paintings import is_painting, learn_painting

_PROGRESS_EVERY_S = 1.0
_MAX_LINE = 2000
_LAST_CPU_S = 5
"""Between the signal that says that the processor time is over, and the one that can't be heard."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The first line: what the process is held to."""

    limits: JobLimits
    config_file: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Make a run."""

    media: str
    """URL or path of the media store, within which the paths lie."""
    system: str
    source: str
    style: str | dict[str, float] | None
    model: str | None
    target: str | None
    options: dict[str, Any]
    engine: str
    workers: int | None
    resumed: bool
    """An earlier start may have published the target, and died before it said so."""
    log: str | None = None
    """Id of the run, whose log is its own though its plan may be another's, too."""


@dataclass(frozen=True, slots=True)
class Said:
    """Something happened: an event of the run's, and how far it is."""

    kind: str
    data: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)
    """Of the run's row, that it changes."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The last line of a run: how it ended, and for the next one whether to ask this process."""

    kind: str  # succeeded, refused, failed or interrupted
    error: str | None = None
    report: dict[str, Any] | None = None


def pack(message: Said | Ending) -> bytes:
    """Write a message as one line, with its end."""
    return type(message).__name__.encode() + b" " + to_json(message) + b"\n"


def unpack(line: bytes) -> Said | Ending:
    """Read a message back.

    Raises:
        ValueError: the line is none.
    """
    kind, _, body = line.partition(b" ")
    kinds: dict[bytes, type[Said | Ending]] = {b"Said": Said, b"Ending": Ending}
    if kind not in kinds:
        raise ValueError(f"no message: {line[:80]!r}")
    return from_json(body, kinds[kind])


class _Teller:
    """Tells the run's events as the service keeps them, and progress not too often."""

    def __init__(self, order: Order, tell: Callable[[Said], None]) -> None:
        self._order = order
        self._tell = tell
        self._done: dict[int, int] = {}
        self._begun: dict[int, int] = {}
        self._total = 0
        self._told_at = 0.0

    def hear(self, event: Event) -> None:
        match event:
            case StageBegan():
                self._say("stage", {"name": event.name}, stage=event.name)
            case Planned():
                self._plan(event)
            case Progress():
                self._begun[event.chunk] = event.frames_done
                if time.monotonic() - self._told_at >= _PROGRESS_EVERY_S:
                    self._say("progress", self._so_far(), frames_done=self._frames())
            case Done():
                self._finish(event)
            case Failed():
                self._begun.pop(event.chunk, None)
                data = {"chunk": event.chunk, "worker": event.worker, "error": event.error,
                        "lost_worker": event.lost_worker}  # fmt: skip
                self._say("chunk_failed", data)
            case Noted():
                self._say("note", {"text": worded(event.text, event.ways, WAYS)})

    def _plan(self, event: Planned) -> None:
        chunks = {chunk.index: len(chunk) for chunk in event.chunks}
        self._done = {index: chunks[index] for index in event.reused}
        self._total = sum(chunks.values())
        self._say(
            "plan",
            {"plan_id": event.run_id, "frames": self._total, "chunks": len(chunks),
             "reused": len(event.reused), "engine": event.engine, "workers": event.workers,
             "precision": event.precision},
            plan_id=event.run_id, resolved_target=_key_of(self._order, event.target),
            frames_total=self._total, frames_done=self._frames(),
        )  # fmt: skip

    def _finish(self, event: Done) -> None:
        self._done[event.chunk] = event.frames
        self._begun.pop(event.chunk, None)
        self._say(
            "chunk",
            {"chunk": event.chunk, "worker": event.worker, "frames": event.frames,
             "wall_s": event.wall_s, "stage_s": event.stage_s, **self._so_far()},
            frames_done=self._frames(), losses=0,
        )  # fmt: skip

    def _frames(self) -> int:
        return sum(self._done.values()) + sum(self._begun.values())

    def _so_far(self) -> dict[str, Any]:
        return {"frames_done": self._frames(), "frames_total": self._total}

    def _say(self, kind: str, data: dict[str, Any], **columns: Any) -> None:
        self._told_at = time.monotonic()
        self._tell(Said(kind, data, columns))


def make(order: Order, settings: Settings, tell: Callable[[Said], None]) -> Ending:
    """Make the run that is ordered; every error becomes an ending."""
    try:
        report = _make(order, settings, _Teller(order, tell).hear)
    except RequestError as error:
        # What a run needs around it may be there at the next attempt.
        kind = "failed" if isinstance(error, Unavailable) else "refused"
        return Ending(kind, _line(error, order))
    except (Interrupted, KeyboardInterrupt):
        return Ending("interrupted")
    except ImpastoError as error:
        return Ending("failed", _line(error, order))
    except MemoryError:
        traceback.print_exc()
        return Ending("failed", "the run needs more memory than one is given here")
    except Exception as error:  # noqa: BLE001 - a surprise is this run's end and not the service's
        traceback.print_exc()
        return Ending("failed", f"{type(error).__name__}: {_line(error, order)}")
    return Ending("succeeded", report=_as_json(order, report))


def _make(order: Order, settings: Settings, hear: Callable[[Event], None]) -> Report:
    from impasto import run

    options = replace(
        read_options(order.options),
        engine=order.engine,
        workers=order.workers,
        work=order.system,
        keep=True,  # another run may be at work on the same segments: the service removes them
        resumed=order.resumed,
        log=order.log,
    )
    source = place_of(order.media, order.source)
    _refuse_links(order, source)
    target = place_of(order.media, order.target, new=True) if order.target else None
    if order.model is not None:
        with _file(order, order.model, settings) as model:
            return run.score(source, model=model, target=target, options=options,
                             settings=settings, on_event=hear)  # fmt: skip
    assert order.style is not None
    style = order.style
    if isinstance(style, str) and is_painting(style):
        style = _learned(order, style, options, settings, hear)
    return run.stylize(
        source, style=style, target=target, options=options, settings=settings, on_event=hear
    )


def _learned(
    order: Order, style: str, options: Options, settings: Settings, hear: Callable[[Event], None]
) -> str:
    """The name of a painting's style; it is learned at first use, from frames of the source."""
    with _file(order, style, settings) as painting:
        return learn_painting(
            painting,
            quality=options.quality,
            settings=settings,
            today=dt.datetime.now(dt.UTC).date(),
            source=video_at(
                place_of(order.media, order.source), settings, rate=options.rate, work=order.system
            ),
            report=lambda line: hear(Noted(line)),
        )


def _refuse_links(order: Order, source: str) -> None:
    """Raise RequestError when a link among the frames of a folder leads out of the store."""
    if "://" not in source and os.path.isdir(source):  # noqa: PTH112 - whatever the name is
        with os.scandir(source) as found:
            for one in found:
                if one.is_symlink():
                    place_of(order.media, f"{order.source}/{one.name}")


@contextlib.contextmanager
def _file(order: Order, key: str, settings: Settings) -> Generator[Path]:
    """A network or a painting as a file; it is fetched from where there are no files."""
    place = place_of(order.media, key)
    if "://" not in place:
        yield Path(place)
        return
    store = open_store(order.media, settings.access)
    try:
        size = store.head(key).bytes
        if size > MAX_BYTES:
            raise RequestError(f"{key!r} is larger than {MAX_BYTES >> 20} MiB")
        data = store.get_range(key, 0, size)
    except FileNotFoundError:
        raise RequestError(f"there is no {key!r} in the media store") from None
    with tempfile.TemporaryDirectory(prefix="impasto-") as folder:
        path = Path(folder) / key.rpartition("/")[2]
        path.write_bytes(data)
        yield path


def place_of(media: str, path: str, *, new: bool = False) -> str:
    """The full path or URL of what lies at `path` in the media store.

    Args:
        media: URL or path of the store.
        path: within it.
        new: make the folder that it is to stand in.

    Raises:
        RequestError: a link leads out of the store, or a file is where the folder should be.
        Unavailable: the folder can't be made.
    """
    if "://" in media and not media.startswith("file://"):
        return f"{media.rstrip('/')}/{path}"
    root = Path(media.removeprefix("file://")).resolve()
    place = root / path
    if not place.resolve().is_relative_to(root):
        raise RequestError(f"{path!r} is a link that leads out of the media store")
    if new:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise RequestError(f"can't make the folder of {path!r}: {error.strerror}") from error
        except OSError as error:  # a disk that is full, or not there to be written to
            raise Unavailable(f"can't make the folder of {path!r}: {error.strerror}") from error
    return str(place)


def _as_json(order: Order, report: Report) -> dict[str, Any]:
    """The report as a user sees it: its paths are those within the media store."""
    plain: dict[str, Any] = from_json(to_json(report), dict)
    return {**plain, "source": order.source, "target": _key_of(order, plain["target"])}


def _key_of(order: Order, target: str) -> str:
    """The path within the media store of what lies at a path or URL."""
    return target.removeprefix(place_of(order.media, "")).lstrip("/")


def _line(error: BaseException, order: Order) -> str:
    """One line of it, with paths as users know them: where the store is is not their matter."""
    root = place_of(order.media, "").rstrip("/")
    return " ".join(in_api_words(error).split()).replace(f"{root}/", "")[:_MAX_LINE]


def restrain(limits: JobLimits) -> None:
    """Hold this process, and all that it starts, to `limits`; POSIX systems know them."""
    try:
        import resource
    except ImportError:
        return
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in wanted.items():
        _, most = resource.getrlimit(kind)
        hard = limit + _LAST_CPU_S if kind == resource.RLIMIT_CPU else limit
        known = most != resource.RLIM_INFINITY
        resource.setrlimit(kind, (min(limit, most), min(hard, most)) if known else (limit, hard))


def main() -> None:
    """Make the runs that come in by line until the input ends."""
    # Whatever a library prints must not get between the messages.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    output.keep(sys.stderr.fileno())  # a file of the service's, which reads it when this one dies
    setup = from_json(sys.stdin.buffer.readline(), Setup)
    restrain(setup.limits)
    settings = load_settings(os.environ, Path(setup.config_file) if setup.config_file else None)
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()

    def tell(message: Said | Ending) -> None:
        out.write(pack(message))
        out.flush()

    while True:
        tell(make(orders.get(), settings, tell))


def _listen(orders: "queue.SimpleQueue[Order]") -> None:
    for line in sys.stdin.buffer:
        orders.put(from_json(line, Order))
    # The service is done with this process, or dead: nobody waits for what is under way.
    os._exit(0)


if __name__ == "__main__":
    main()
