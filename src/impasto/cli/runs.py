"""Commands on runs: what the system store keeps of them."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from impasto.cli import pages, remote, summary
from impasto.cli.look import out
from impasto.cli.options import Json, Quiet, Work, settings
from impasto.cli.remote import ServerOption, server_of
from impasto.cli.text import age, clean, size, unique_length
from impasto.cli.video import score_again, stylize_again
from impasto.errors import RequestError
from impasto.keys import from_json
from impasto.records import Plan, Report
from impasto.wording import plural

if TYPE_CHECKING:
    from impasto.stores import Entry, Store

T = TypeVar("T")

AGE_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = typer.Typer(
    cls=pages.Group,
    help="See, resume and clean what the system store keeps of runs.",
    rich_markup_mode=None,
)

RunId = Annotated[
    str, typer.Argument(metavar="ID", help="A run's id, or its beginning.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, as a run keeps it to be resumed: request.json."""

    source: str
    style: str | dict[str, float] | None = None
    """A name, or names with their weights."""
    model: str | None = None
    target: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """One run in the store."""

    run_id: str
    entries: "tuple[Entry, ...]"

    @property
    def bytes(self) -> int:
        """Of everything that is kept."""
        return sum(entry.bytes for entry in self.entries)

    @property
    def modified(self) -> datetime:
        """When anything of it was written last."""
        return max(entry.modified for entry in self.entries)

    @property
    def segments(self) -> int:
        """How many chunks have a finished segment."""
        return sum(entry.key.endswith(".mkv") for entry in self.entries)

    def has(self, name: str) -> bool:
        """Whether the run keeps an object of that name."""
        return any(entry.key == f"runs/{self.run_id}/{name}" for entry in self.entries)


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _open(work: str | None) -> "Store":
    from impasto.stores import open_store

    around = settings()
    return open_store(work or around.system_store, around.access)


def _all(store: "Store") -> list[Kept]:
    """Every run in the store, the latest first."""
    found: dict[str, list[Entry]] = {}
    for entry in store.list("runs/"):
        parts = entry.key.split("/")
        if len(parts) > 2:
            found.setdefault(parts[1], []).append(entry)
    runs = [Kept(run_id, tuple(entries)) for run_id, entries in found.items()]
    return sorted(runs, key=lambda run: run.modified, reverse=True)


def _one(store: "Store", beginning: str) -> Kept:
    matching = [run for run in _all(store) if run.run_id.startswith(beginning)]
    exact = [run for run in matching if run.run_id == beginning]
    if exact:
        return exact[0]
    if not matching:
        raise RequestError(f"no run {beginning!r} in the store; see impasto runs list")
    if len(matching) > 1:
        ids = ", ".join(run.run_id for run in matching[:5])
        raise RequestError(f"{beginning!r} begins several runs: {ids}; give more of it")
    return matching[0]


def _read(store: "Store", run: Kept, name: str, kind: type[T]) -> T | None:
    """A record of the run; None where it was not written yet."""
    if not run.has(name):
        return None
    try:
        return from_json(store.get(f"runs/{run.run_id}/{name}"), kind)
    except ValueError as error:
        raise RequestError(
            f"run {run.run_id}: {name} was not written by this version of Impasto: {error}"
        ) from error


def _row(store: "Store", run: Kept) -> dict[str, Any]:
    """What `runs list` says of a run."""
    from impasto.observe import logs

    request = _read(store, run, "request.json", Request)
    report = _read(store, run, "report.json", Report)
    plan = _read(store, run, "plan.json", Plan) if report is None else None
    error = None
    if report is not None:
        state, chunks, finished = "done", report.chunks.total, report.chunks.total
        if not report.verified:
            state = "failed"
    else:
        last = logs.last(store, run.run_id)
        error = last.text if last is not None and last.level == "error" else None
        state, finished = "unfinished" if error is None else "failed", run.segments
        chunks = len(plan.chunks) if plan else 0
    return {
        "run_id": run.run_id,
        "state": state,
        "error": error,
        "chunks": chunks,
        "finished_chunks": finished,
        "source": request.source if request else "",
        "scorer": _scorer(request) if request else "",
        "modified": run.modified.isoformat(),
        "bytes": run.bytes,
    }


def _scorer(request: Request) -> str:
    if isinstance(request.style, dict):
        from impasto.styles import name_of

        return name_of(request.style)
    return request.style or request.model or ""


@app.command("list", cls=pages.Command)
def list_runs(work: Work = None, server: ServerOption = None, json: Json = False) -> int:
    """List the runs, the latest first."""
    if (url := server_of(server)) is not None:
        return remote.list_there(url, json=json)
    store = _open(work)
    # By the id of a service's run there is a log alone, where it came to a plan.
    rows = [_row(store, run) for run in _all(store) if run.has("request.json")]
    if json:
        summary.print_json({"runs": rows})
    elif not rows:
        summary.say(out(), ("no runs are kept", "soft"))
    else:
        summary.show(out(), _table(rows))
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    # Long names give way: an id that is cut short can't be given to `runs resume`.
    table = summary.listing("run", "state", "chunks", "source", "style", "age", "size",
                            elastic={"source", "style"})  # fmt: skip
    shown = unique_length([row["run_id"] for row in rows])
    now = datetime.now(UTC)
    styles = {"done": "good", "failed": "bad", "unfinished": "warn"}
    for row in rows:
        age_s = (now - datetime.fromisoformat(row["modified"])).total_seconds()
        table.add_row(
            clean(row["run_id"][:shown]), Text(row["state"], style=styles[row["state"]]),
            summary.so_far(row["finished_chunks"], row["chunks"]),
            summary.shortened(Path(row["source"]).name),
            summary.shortened(Path(row["scorer"]).name), age(age_s), size(row["bytes"]),
        )  # fmt: skip
    return table


@app.command("show", cls=pages.Command)
def show_run(
    run_id: RunId, work: Work = None, server: ServerOption = None, json: Json = False
) -> int:
    """Show what a run was asked for, and what became of it."""
    if (url := server_of(server)) is not None:
        return remote.show_there(url, run_id, json=json)
    store = _open(work)
    run = _one(store, run_id)
    row = _row(store, run)
    request = _read(store, run, "request.json", Request)
    report = _read(store, run, "report.json", Report)
    plan = _read(store, run, "plan.json", Plan)
    if json:
        summary.print_json({**row, "request": request, "spec": plan.spec if plan else None,
                            "report": report})  # fmt: skip
        return 0
    table = summary.grid()
    for key in ("run_id", "state", "error", "source", "scorer"):
        if row[key]:
            table.add_row(key.replace("_", " "), Text(clean(str(row[key]))))
    table.add_row("chunks", summary.so_far(row["finished_chunks"], row["chunks"]))
    table.add_row("kept", f"{size(row['bytes'])} in {plural(len(run.entries), 'object')}")
    if request:
        table.add_row("options", Text(clean(_given(request)) or "none"))
    summary.show(out(), table)
    if report:
        summary.report(out(), report, plan.source if plan else None)
    return 0


def _given(request: Request) -> str:
    """The options that are not at their default."""
    from impasto.request import Options

    usual = dataclasses.asdict(Options())
    return ", ".join(
        f"{name} {value}" for name, value in request.options.items() if value != usual.get(name)
    )


@app.command("logs", cls=pages.Command)
def show_logs(
    run_id: RunId,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the run has ended.")
    ] = False,
    work: Work = None,
    server: ServerOption = None,
    json: Json = False,
) -> int:
    """Print a run's log: what its driver and its workers said and printed.

    With --follow, --json gives a line of JSON for each line of the log.
    """
    from impasto.observe import logs

    if (url := server_of(server)) is not None:
        found = remote.log_there(url, run_id, follow=follow)
    else:
        store = _open(work)
        run_id = _one(store, run_id).run_id
        found = logs.follow(store, run_id) if follow else logs.lines(store, run_id)
    if json and not follow:
        summary.print_json({"run_id": run_id, "logs": list(found)})
        return 0
    empty = True
    for line in found:
        empty = False
        if json:
            summary.print_json(line, one_line=True)
        else:
            summary.log_line(out(), line)
    if empty and not json:
        shows = f"this run has no logs; impasto runs show {clean(run_id)} says what became of it"
        summary.say(out(), (shows, "soft"))
    return 0


@app.command("cancel", cls=pages.Command)
def cancel_run(run_id: RunId, server: ServerOption = None, json: Json = False) -> int:
    """End a run of a service's; one of this machine ends with Ctrl-C."""
    if (url := server_of(server)) is None:
        raise RequestError("runs cancel needs --server URL; a run of this machine ends with Ctrl-C")
    return remote.cancel_there(url, run_id, json=json)


@app.command("resume", cls=pages.Command)
def resume(
    run_id: RunId,
    *,
    work: Work = None,
    server: ServerOption = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Go on with a run that was interrupted or failed."""
    from impasto.request import Options

    if (url := server_of(server)) is not None:
        return remote.resume_there(url, run_id, json=json, quiet=quiet)
    store = _open(work)
    run = _one(store, run_id)
    report = _read(store, run, "report.json", Report)
    if report is not None:
        raise RequestError(f"run {run.run_id} is finished; its target is {report.target}")
    request = _read(store, run, "request.json", Request)
    if request is None or not (request.style or request.model):
        raise RequestError(f"run {run.run_id} kept no request; give its first command again")
    try:
        options = msgspec.convert(request.options, Options)
    except msgspec.ValidationError as error:
        raise RequestError(f"run {run.run_id}: its options are not ours: {error}") from error
    options = dataclasses.replace(options, work=work or options.work)
    if request.style:
        return stylize_again(request.source, request.style, request.target, options,
                             json=json, quiet=quiet)  # fmt: skip
    return score_again(request.source, request.model or "", request.target, options,
                       json=json, quiet=quiet)  # fmt: skip


@app.command("clean", cls=pages.Command)
def clean_runs(
    *,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Such as 12h or 7d.")
    ] = "7d",
    everything: Annotated[
        bool, typer.Option("--all", help="Every run, however young; not while one goes on.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="A service's: its runs that ended so long ago, and what --work has of them.",
        ),
    ] = None,
    work: Work = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Remove what old runs left in the system store; targets are never touched."""
    from impasto.frames import unused
    from impasto.settle import unused_models

    kept_for = timedelta(0) if everything else _age(older_than)
    store = _open(work)
    before = datetime.now(UTC) - kept_for
    if database is not None:
        from impasto.service.retention import clean_database

        gone = clean_database(database, store, ended_before=before.timestamp(), dry_run=dry_run)
        _say_removed(gone.runs, 0, gone.objects, gone.bytes, dry_run=dry_run, json=json,
                     quiet=quiet)  # fmt: skip
        return 0
    runs = _all(store)
    old = [run for run in runs if everything or run.modified < before]
    young = [run for run in runs if run not in old]
    entries = [entry for run in old for entry in run.entries]
    aged = datetime.max.replace(tzinfo=UTC) if everything else before
    entries += unused_models(store, [run.run_id for run in young], aged)
    entries += unused(store, {run.run_id for run in young}.__contains__, aged)
    if not dry_run:
        for entry in entries:
            store.delete(entry.key)
        store.sweep(before)
    unfinished = sum(not run.has("report.json") for run in old)
    freed = sum(entry.bytes for entry in entries)
    _say_removed([run.run_id for run in old], unfinished, len(entries), freed, dry_run=dry_run,
                 json=json, quiet=quiet)  # fmt: skip
    return 0


def _say_removed(
    run_ids: Sequence[str], unfinished: int, objects: int, freed: int, *, dry_run: bool, json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    if json:
        summary.print_json({"removed": list(run_ids), "unfinished": unfinished, "objects": objects,
                            "bytes": freed, "dry_run": dry_run})  # fmt: skip
    elif not quiet:
        verb = "would remove" if dry_run else "removed"
        which = f" ({unfinished} unfinished)" if unfinished else ""
        summary.say(out(), f"{verb} {plural(len(run_ids), 'run')}{which}, {size(freed)}")


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if not found:
        raise RequestError(f"--older-than must be a number and s, m, h or d, got {text!r}")
    return timedelta(seconds=int(found[1]) * AGE_UNITS_S[found[2]])
