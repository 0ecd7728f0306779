"""docs/cli.md from the help pages: `python -m impasto.cli.reference docs/cli.md`."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from impasto.cli import app
from impasto.cli.look import THEME
from impasto.cli.pages import Group, page, trimmed

WIDTH = 88

HEAD = """# Command line

<!-- Written by: python -m impasto.cli.reference docs/cli.md -->

Exit codes: 0 done and verified; 1 the run failed; 2 the request is wrong (arguments, an unreadable
or refused source, an unknown style); 3 done, with frames replaced under `--on-error pass-through`;
130 interrupted: what is done is kept, and the same command goes on from there.

A failure is one line on standard error; `--debug`, with any command, adds the traceback. `--json`
prints one JSON object on standard output, of the error too; progress goes to standard error.

SOURCE and TARGET are paths or `file:///` URLs. Without `-o` a target stands beside its source as
`<stem>.<style>.<ext>`, and an existing one is never overwritten without `--force`.
"""


def reference() -> str:
    """The whole document."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("impasto", ["--"], resilient_parsing=True)
    return "\n".join([HEAD, *_sections(command, context)])


def _sections(command: Any, context: Any) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```\n{_drawn(command, context)}\n```\n"
    if isinstance(command, Group):
        for name in command.list_commands(context):
            inner: Any = command.get_command(context, name)
            inside = inner.make_context(name, [], parent=context, resilient_parsing=True)
            yield from _sections(inner, inside)


def _drawn(command: Any, context: Any) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, theme=THEME)
    with console.capture() as drawn:
        console.print(page(command, context))
    return trimmed(drawn.get())


def main() -> None:
    """Write the document to the path that is given."""
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
