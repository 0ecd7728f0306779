"""Help pages: what a command does, its options in groups, examples; without boxes."""

from collections.abc import Iterator
from typing import Any, ClassVar

import typer
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from impasto.cli.look import out

WIDTH = 100
"""Lines longer than this are hard to read, however wide the terminal."""

# Typer types a context by a private class, so `Any` stands for it here.


class Command(TyperCommand):
    """A command whose help is our page."""

    one_of: ClassVar[tuple[str, ...]] = ()
    """Options of which one must be given."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """Print the page."""
        show(self, ctx)


class Group(TyperGroup):
    """A group of commands whose help is our page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """Print the page."""
        show(self, ctx)


def show(command: Command | Group, ctx: Any) -> None:
    """Print the page of `command` on standard output."""
    console = out()
    width = min(console.width, WIDTH)
    # Rich pads tables with blanks up to the widest row; they only annoy whoever copies the page.
    with console.capture() as drawn:
        console.print(page(command, ctx), width=width)
    typer.echo(trimmed(drawn.get()), nl=False)


def trimmed(text: str) -> str:
    """`text` without blanks at line ends and blank lines at its end."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def page(command: Command | Group, ctx: Any) -> Stack:
    """The help page of `command` as something that Rich draws."""
    return Stack(*_parts(command, ctx))


def _parts(command: Command | Group, ctx: Any) -> Iterator[RenderableType]:
    yield Text.assemble(("Usage: ", "heading"), (ctx.command_path, "name"), _usage(command, ctx))
    yield Text()
    for paragraph in (command.help or "").split("\n\n"):
        yield _indented(Text(paragraph.replace("\n", " ")))
    if isinstance(command, Group):
        yield _section("Commands", _commands(command, ctx))
    sections = _sections(command, ctx)
    general = sections.pop("Options", [])  # these come last, wherever they were declared
    for heading, rows in [*sections.items(), ("Options", general)]:
        yield _section(heading, rows)
    if command.epilog:
        yield Text("Examples", style="heading")
        yield _indented(_examples(command.epilog))


def _usage(command: Command | Group, ctx: Any) -> str:
    """What must be given, in its order; the rest is "options"."""
    if isinstance(command, Group):
        return " COMMAND"
    words, choice = [], []
    for parameter in command.get_params(ctx):
        if parameter.param_type_name == "argument":
            words.append(_value_name(parameter, ctx))
        elif parameter.required:
            words.append(f"{parameter.opts[0]} {_value_name(parameter, ctx)}")
        elif parameter.opts[0] in command.one_of:
            choice.append(f"{parameter.opts[0]} {_value_name(parameter, ctx)}")
    if choice:
        words.append(f"({' | '.join(choice)})")
    return "".join(f" {word}" for word in [*words, "[options]"])


def _value_name(parameter: Any, ctx: Any) -> str:
    if getattr(parameter, "is_bool_flag", False):
        return ""
    return str(parameter.metavar or parameter.display_type(ctx).strip("<>"))


def _indented(inner: RenderableType) -> Padding:
    return Padding(inner, (0, 0, 1, 2), expand=False)


def _section(heading: str, rows: list[tuple[str, str]]) -> Stack:
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="key", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in rows:
        table.add_row(Text(name), Text(words))
    return Stack(Text(heading, style="heading"), _indented(table))


def _commands(group: Group, ctx: Any) -> list[tuple[str, str]]:
    found = ((name, group.get_command(ctx, name)) for name in group.list_commands(ctx))
    return [
        (name, command.get_short_help_str(limit=WIDTH).rstrip("."))
        for name, command in found
        if command is not None and not command.hidden
    ]


def _sections(command: Command | Group, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Rows by heading, in the order of declaration."""
    sections: dict[str, list[tuple[str, str]]] = {}
    parameter: Any  # Typer's options and arguments have more than their common base says
    for parameter in command.get_params(ctx):
        if getattr(parameter, "hidden", False):
            continue
        is_argument = parameter.param_type_name == "argument"
        value = _value_name(parameter, ctx)
        name = value if is_argument else " ".join([*_spellings(parameter), value]).rstrip()
        words = (parameter.help or "").rstrip(".")
        if isinstance(parameter.default, str | int | float) and parameter.default is not False:
            words += f" (default: {parameter.default})"
        heading = getattr(parameter, "rich_help_panel", None)
        sections.setdefault(heading or ("Arguments" if is_argument else "Options"), []).append(
            (name, words)
        )
    return sections


def _spellings(parameter: Any) -> list[str]:
    """The short spelling first; Typer keeps those of --help in a set, in no order."""
    return sorted(parameter.opts, key=len)


def _examples(epilog: str) -> Text:
    lines = epilog.strip().splitlines()
    return Text("\n").join(
        Text(line.strip(), style="soft" if line.strip().startswith("#") else "") for line in lines
    )
