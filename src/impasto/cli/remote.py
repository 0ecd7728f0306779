"""Commands on a service elsewhere: what --server does."""

import dataclasses
import hashlib
import itertools
import json as json_module
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.text import Text

from impasto.cli import summary
from impasto.cli.look import out
from impasto.cli.options import settings
from impasto.cli.text import age, clean, unique_length
from impasto.config import load_token
from impasto.errors import Interrupted, RequestError, RunFailed
from impasto.media.publish import publishing, refuse
from impasto.records import Chunk, Done, Event, Failed, Noted, Planned, Progress, Report, StageBegan
from impasto.styles import name_of

if TYPE_CHECKING:
    from impasto.client import Server, ServerEvent
    from impasto.observe.logs import Line
    from impasto.request import Options

NO_SERVER = "none"
_LISTED = 1000
_ENDED_BADLY = {"failed", "set_aside", "cancelled"}
_COLORS = {"succeeded": "good", "failed": "bad", "set_aside": "bad", "running": "running"}

ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL|none",
                 help="Have a service do it; its token is in IMPASTO_TOKEN, or a file that "
                 "IMPASTO_TOKEN_FILE names; default: `server` of the configuration."),
]  # fmt: skip


def server_of(given: str | None) -> str | None:
    """The server that a command is for; None where it is for this machine."""
    chosen = given or settings().server
    return None if chosen in {None, "", NO_SERVER} else chosen


@contextmanager
def connected(url: str) -> Iterator["Server"]:
    """The service at `url`, as whoever the token says.

    Raises:
        RequestError: a URL that is none, or no token.
    """
    try:
        from impasto.client import Server
    except ImportError as error:
        raise RequestError(f"--server needs: pip install 'impasto[serve]' ({error.name} is "
                           "missing)") from error  # fmt: skip
    token = load_token(os.environ)
    if token is None:
        raise RequestError(
            "--server needs a token: set IMPASTO_TOKEN, or IMPASTO_TOKEN_FILE to the file with it"
        )
    with Server(url, token) as server:
        yield server


def stylize_there(
    url: str,
    source: str,
    style: str | Mapping[str, float],
    target: str | None,
    options: "Options",
    hear: Callable[[Event], None],
) -> Report:
    """Have the service at `url` paint a video, and fetch the result where it belongs.

    A file of this machine is uploaded, and its painting comes back beside it or to `target`.
    Anything else is a path in the service's media store, and so is its painting then, which is
    fetched when `target` says where to.

    Raises:
        RequestError, RunFailed: it ended otherwise.
        Interrupted: nobody wants to see it any more; it goes on there.
    """
    from impasto.train.paintings import is_painting

    file = _local_path(source)
    here = file if file.is_file() else None
    goes_to = _local_target(here, target, name_of(style), force=options.force)
    with connected(url) as server:
        if here is not None:
            hear(StageBegan("upload"))
        if isinstance(style, str) and is_painting(style) and Path(style).is_file():
            style = server.upload(Path(style))
        asked = _asked(source.rstrip("/") if here is None else server.upload(here), style, options)
        run_id = server.submit(asked, key=_key(asked) if here and not options.force else None)
        if here and server.run(run_id)["state"] in _ENDED_BADLY:
            server.retry(run_id)  # the same command goes on where the last one stopped
        report = _followed(server, run_id, hear)
        if goes_to is None and here is not None:
            goes_to = here.with_name(PurePosixPath(report.target).name)
        if goes_to is not None:
            hear(StageBegan("fetch"))
            with publishing(goes_to, force=options.force) as unfinished:
                server.fetch(run_id, unfinished)
    found = report.target if goes_to is None else str(goes_to)
    return dataclasses.replace(report, run_id=run_id, source=source, target=found)


def _local_path(text: str) -> Path:
    """The path that `text` names, given as one or as a file URL.

    Raises:
        RequestError: it is a URL of another kind, which a service's users have no key to.
    """
    from impasto.stores.backends import local_path, scheme_of

    if scheme_of(text) not in {"", "file"}:
        raise RequestError(f"{text!r} is not on this machine: give a path or a file:/// URL")
    return local_path(text)


def _local_target(here: Path | None, target: str | None, style: str, *, force: bool) -> Path | None:
    """Where the result is fetched to, as far as that is known; refused before anything is sent."""
    if target is not None:
        refuse(_local_path(target), force=force)
        return _local_path(target)
    if here is not None:
        refuse(here.with_name(f"{here.stem}.{style}{here.suffix}"), force=force)
    return None


def _asked(source: str, style: str | Mapping[str, float], options: "Options") -> dict[str, Any]:
    from impasto.request import Options

    usual = dataclasses.asdict(Options())
    given = {
        name: value for name, value in dataclasses.asdict(options).items() if value != usual[name]
    }
    plain = style if isinstance(style, str) else dict(style)
    return {"source": source, "style": plain, "options": given}


def _key(asked: dict[str, Any]) -> str:
    """An upload's path holds its digest, so the same request is the same run."""
    text = json_module.dumps(asked, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _followed(server: "Server", run_id: str, hear: Callable[[Event], None]) -> Report:
    """Show a run until it ends; return its report.

    Raises:
        RequestError, RunFailed: it ended otherwise.
        Interrupted: nobody wants to see it any more.
    """
    interpreter = _Interpreter(run_id, hear)
    try:
        for event in server.follow(run_id):
            interpreter.take(event)
    except KeyboardInterrupt:
        raise Interrupted(
            f"run {run_id} goes on at {server.url}, impasto runs cancel {run_id} ends it; "
            "stopped following"
        ) from None
    run = server.run(run_id)
    if run["state"] == "succeeded" and run["report"] is not None:
        return _report(run_id, run["report"])
    said = f"run {run_id}: {run['error'] or run['state']}"
    raise RequestError(said) if run["state"] == "failed" else RunFailed(said)


def _report(run_id: str, found: dict[str, Any]) -> Report:
    try:
        return msgspec.convert(found, Report)
    except msgspec.ValidationError as error:
        raise RunFailed(f"run {run_id} has a report of another version: {error}") from error


class _Interpreter:
    """Tells the display what a service says of a run, in the display's own words.

    The service tells how many chunks and frames there are; the display wants to know which. They
    are cut evenly here, which is near enough for a picture.
    """

    def __init__(self, run_id: str, hear: Callable[[Event], None]) -> None:
        self._run_id = run_id
        self._hear = hear
        self._chunks: tuple[Chunk, ...] = ()
        self._done: set[int] = set()

    def take(self, event: "ServerEvent") -> None:
        """Pass an event on."""
        data = event.data
        match event.kind:
            case "stage":
                self._hear(StageBegan(str(data["name"])))
            case "plan":
                self._plan(data)
            case "chunk" if self._chunks:
                self._finish(int(data["chunk"]), data["stage_s"])
            case "progress" if self._chunks:
                self._advance(int(data["frames_done"]))
            case "chunk_failed":
                self._hear(Failed(int(data["chunk"]), str(data["worker"]), str(data["error"])))
            case "note":
                self._hear(Noted(str(data["text"])))
            case "attempt":
                self._hear(Noted(f"attempt {data['attempt']} failed: {data['error']}"))
            case "state" if data["state"] == "queued":
                self._hear(StageBegan("queue"))
            case _:
                pass

    def _plan(self, data: dict[str, Any]) -> None:
        frames, count = int(data["frames"]), max(1, int(data["chunks"]))
        edges = [place * frames // count for place in range(count + 1)]
        self._chunks = tuple(Chunk(n, edges[n], edges[n + 1], 0) for n in range(count))
        reused = tuple(range(min(int(data["reused"]), count)))
        self._done = set(reused)
        self._hear(Planned(self._run_id, None, self._chunks, reused, str(data["engine"]),
                           int(data["workers"]), data["precision"]))  # fmt: skip

    def _finish(self, index: int, stage_s: dict[str, float]) -> None:
        if index < len(self._chunks):
            self._done.add(index)
            frames = len(self._chunks[index])
            self._hear(Done(index, "", "", frames, 0.0, stage_s, (), ""))

    def _advance(self, frames_done: int) -> None:
        """Give what the finished chunks don't explain to the first that is not."""
        left = frames_done - sum(len(self._chunks[index]) for index in self._done)
        for chunk in self._chunks:
            if chunk.index not in self._done and left > 0:
                self._hear(Progress(chunk.index, "", min(left, len(chunk)), {}))
                left -= len(chunk)


def list_there(url: str, *, json: bool) -> int:
    """List the runs that the token's bearer may see, the latest first."""
    with connected(url) as server:
        rows = list(itertools.islice(server.runs(limit="500"), _LISTED))
    if json:
        summary.print_json({"runs": rows})
        return 0
    table = summary.listing("run", "state", "frames", "source", "style", "user", "age",
                            elastic={"source", "style", "user"})  # fmt: skip
    shown = unique_length([row["run_id"] for row in rows])
    now = time.time()
    for row in rows:
        done = row["progress"]
        table.add_row(
            clean(row["run_id"][:shown]),
            Text(clean(_state(row)), style=_COLORS.get(row["state"], "")),
            summary.so_far(done["frames_done"], done["frames_total"]),
            summary.shortened(PurePosixPath(row["source"]).name), summary.shortened(_scorer(row)),
            summary.shortened(row["user"]), age(now - row["created_at"]),
        )  # fmt: skip
    if rows:
        summary.show(out(), table)
    else:
        summary.say(out(), ("no runs", "soft"))
    return 0


def show_there(url: str, run_id: str, *, json: bool) -> int:
    """Show a run of the service's."""
    with connected(url) as server:
        run = server.run(server.find(run_id))
    if json:
        summary.print_json(run)
        return 0
    table = summary.grid()
    for key in ("run_id", "state", "user", "source", "target", "error"):
        if run[key]:
            shown = _state(run) if key == "state" else str(run[key])
            table.add_row(key.replace("_", " "), Text(clean(shown)))
    table.add_row("style", Text(clean(_scorer(run))))
    done = run["progress"]
    table.add_row("frames", summary.so_far(done["frames_done"], done["frames_total"]))
    options = ", ".join(f"{name} {value}" for name, value in run["options"].items())
    table.add_row("options", Text(clean(options) or "none"))
    summary.show(out(), table)
    if run["report"]:
        summary.report(out(), _report(run_id, run["report"]), None)
    return 0


def log_there(url: str, run_id: str, *, follow: bool) -> "Iterator[Line]":
    """Yield the log of a run of the service's."""
    from impasto.observe.logs import Line

    with connected(url) as server:
        found = server.find(run_id)
        for line in server.logs(found, follow=follow):
            yield msgspec.convert(line | {"run": found}, Line)


def cancel_there(url: str, run_id: str, *, json: bool) -> int:
    """End a run of the service's."""
    with connected(url) as server:
        run = server.cancel(server.find(run_id))
    if json:
        summary.print_json(run)
    else:
        word = "is being cancelled" if run["cancelling"] else f"is {run['state']}"
        summary.say(out(), f"run {clean(run['run_id'])} {word}")
    return 0


def resume_there(url: str, run_id: str, *, json: bool, quiet: bool) -> int:
    """Have the service go on with a run that ended badly."""
    with connected(url) as server:
        run = server.retry(server.find(run_id))
    if json:
        summary.print_json(run)
    elif not quiet:
        summary.say(out(), f"run {clean(run['run_id'])} is {run['state']}")
    return 0


def _state(run: dict[str, Any]) -> str:
    """The state of a run, or that it was asked to stop and has not yet."""
    return "cancelling" if run["cancelling"] else str(run["state"])


def _scorer(run: dict[str, Any]) -> str:
    style = run["style"]
    return name_of(style) if isinstance(style, dict) else str(style or run["model"])
