"""The command line: arguments → one call → rendered result."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from impasto.cli import estimate, examine, keys, pages, runs, shell, styles, submit, video
from impasto.cli.doctor import doctor
from impasto.cli.serve import serve

__all__ = ["app", "main"]

EXAMPLES = """
impasto stylize holiday.mp4 --style starry_night
impasto preview holiday.mp4 --styles starry_night -o sheet.png
impasto verify holiday.mp4 holiday.starry_night.mp4
impasto styles list
"""

app = typer.Typer(
    cls=pages.Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"impasto {version('impasto')}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=EXAMPLES, options_metavar="")
def _root(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on failure.")] = False,
) -> None:
    """Turn videos into paintings, and prove that no frame was lost."""
    del show_version, debug  # answered before this is called
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


video.register(app)
examine.register(app)
submit.register(app)
estimate.register(app)
app.add_typer(styles.app, name="styles")
app.add_typer(runs.app, name="runs")
app.add_typer(keys.app, name="keys")
app.command(cls=pages.Command)(serve)
app.command(cls=pages.Command)(doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default this process's; returns the exit code.

    0 done and verified, 1 the run failed, 2 the request is wrong, 3 done with replaced frames,
    130 interrupted.
    """
    return shell.run(app, sys.argv[1:] if arguments is None else arguments)
