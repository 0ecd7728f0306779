"""`impasto submit`: the same run, on a Ray cluster that is reached from outside."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from impasto.cli import summary
from impasto.cli.look import err, out
from impasto.cli.optimise import OPTIMISE
from impasto.cli.options import FLOW, MACHINE, Json, Quiet, Source, Target, settings, with_flow
from impasto.cli.pages import Command
from impasto.cli.text import clean
from impasto.cli.video import Blend, Quality, Style, parse_style
from impasto.errors import Interrupted, RunFailed
from impasto.keys import from_json
from impasto.records import Report

if TYPE_CHECKING:
    from impasto.engines.jobs import Jobs
    from impasto.request import Options

_OURS: dict[str, tuple[Any, Any]] = {
    "engine": (Annotated[str, typer.Option("--engine", hidden=True)], "ray"),
    "ray_address": (Annotated[str | None, typer.Option(
        "--ray-address", metavar="URL", rich_help_panel=MACHINE,
        help="The cluster's job API, such as http://head:8265; default: the configured one.")],
        None),
}  # fmt: skip
"""Options that mean something else here, or nothing."""
_TABLE = FLOW | OPTIMISE | _OURS

EXAMPLES = """
# a cluster that wants a token: RAY_AUTH_MODE=token RAY_AUTH_TOKEN=…
impasto submit az://films/holiday.mp4 --style starry_night --ray-address http://head:8265
# only begin it
impasto submit az://films/holiday.mp4 --style starry_night --no-wait
"""


class _Submit(Command):
    one_of = ("--style", "--blend")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(cls=_Submit, epilog=EXAMPLES)(with_flow(submit, OPTIMISE | _OURS))


def submit(
    source: Source,
    *,
    style: Style = None,
    blend: Blend = None,
    target: Target = None,
    quality: Quality = "balanced",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Only send it, and print the job's id.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    options: "Options",
) -> int:
    """Send a run to a Ray cluster through its job API, and follow it.

    It is `impasto stylize … --engine ray`, run by the cluster's head: paths are paths there, and
    every node must see them. The exit code is the run's. Ctrl-C stops the run, and what is done is
    kept; on a terminal it asks first.
    """
    from impasto.engines.jobs import Jobs

    parse_style(style, blend)
    jobs = Jobs(options.ray_address or settings().surroundings.ray.jobs)
    named = {"--style": style, "--blend": blend, "--output": target, "--quality": quality}
    given = [f"{flag}={value}" for flag, value in named.items() if value is not None]
    job = jobs.submit(
        ["impasto", "stylize", *given, *_arguments(options), "--engine=ray", "--json", "--", source]
    )
    if no_wait:
        _tell_id(jobs, job, json=json)
        return 0
    if not quiet:
        err().print(Text(f"job {clean(job)} at {clean(jobs.url)}"), soft_wrap=True)
    return _follow(jobs, job, json=json, quiet=quiet)


def _arguments(options: "Options") -> Iterator[str]:
    """The options that were given, as they are written; never two words for one."""
    for name, (_, default) in _TABLE.items():
        value = getattr(options, name)
        if name in _OURS or value == default:
            continue
        flag = f"--{name.replace('_', '-')}"
        yield flag if value is True else f"{flag}={value}"


def _tell_id(jobs: "Jobs", job: str, *, json: bool) -> None:
    if json:
        summary.print_json({"job": job, "ray_address": jobs.url})
    else:
        typer.echo(job)


def _follow(jobs: "Jobs", job: str, *, json: bool, quiet: bool) -> int:
    """Show what the job says, render its report, and name its exit code."""
    report: list[str] = []
    try:
        for line in _plain_lines(jobs.follow(job), report):
            if not quiet:
                err().print(Text(clean(line)), soft_wrap=True)
        ended = jobs.end(job)
    except KeyboardInterrupt:
        if not _to_be_stopped():
            _tell_id(jobs, job, json=json)
            return 0
        jobs.stop(job)
        ended = jobs.end(job)
    if ended.stopped:
        raise Interrupted(f"the job {job} was stopped; the same command goes on from there")
    if ended.exit_code is None:
        raise RunFailed(f"the job {job} has failed: {ended.why or 'Ray does not say why'}")
    _show("\n".join(report), json=json, quiet=quiet)
    return ended.exit_code


def _to_be_stopped() -> bool:
    """Whether Ctrl-C was meant for the run, too; where nobody can be asked, it was."""
    if not (err().is_terminal and sys.stdin.isatty()):
        return True
    try:
        return typer.confirm("\nStop the run, too? It goes on otherwise", err=True)
    except (KeyboardInterrupt, typer.Abort):
        return True


def _plain_lines(lines: Iterable[str], report: list[str]) -> Iterator[str]:
    """The lines that are not part of the last JSON object, whose lines go into `report`."""
    within = False
    for line in lines:
        if line == "{":
            within = True
            report.clear()
        if within:
            report.append(line)
            within = line != "}"
        else:
            yield line


def _show(report: str, *, json: bool, quiet: bool) -> None:
    if json:
        typer.echo(report)
    elif not quiet:
        try:
            done = from_json(report.encode(), Report)
        except ValueError:
            return  # of an error, which was told by a line
        summary.report(out(), done, None)
