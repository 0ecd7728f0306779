"""Commands on styles: list, show, import, train."""

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from impasto.cli import pages, summary
from impasto.cli.look import err, out
from impasto.cli.options import Force, Json, Quiet, settings
from impasto.cli.text import clean, size
from impasto.errors import RequestError

app = typer.Typer(cls=pages.Group, help="See, import and train styles.", rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A style.", show_default=False)]
NewName = Annotated[
    str, typer.Option("--name", metavar="NAME", help="What the style is called from now on.")
]


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list", cls=pages.Command)
def list_styles(json: Json = False) -> int:
    """List the styles: those that ship, and the user's own."""
    from impasto import styles

    found = styles.list_styles(settings().user_styles)
    if json:
        summary.print_json({"styles": [_facts(style) for style in found]})
        return 0
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="heading")
    for heading in ("style", "qualities", "size", ""):
        table.add_column(heading)
    for style in found:
        table.add_row(
            Text(clean(style.name), style="style"), Text(clean(", ".join(style.qualities))),
            size(style.bytes), Text("" if style.shipped else "your own", style="soft"),
        )  # fmt: skip
    summary.show(out(), table)
    return 0


def _facts(style: Any) -> dict[str, Any]:
    return {"name": style.name, "shipped": style.shipped, "bytes": style.bytes,
            "qualities": list(style.qualities)}  # fmt: skip


@app.command("show", cls=pages.Command)
def show_style(name: Name, json: Json = False) -> int:
    """Show a style's card: painting, licence, network."""
    from impasto import styles

    named = {style.name: style for style in styles.list_styles(settings().user_styles)}
    if name not in named:
        styles.find_style(name, user_styles=settings().user_styles)  # says what there is instead
    style = named[name]
    if json:
        summary.print_json(style)
        return 0
    table = summary.grid()
    table.add_row("style", Text(clean(style.name), style="style"))
    table.add_row("qualities", Text(clean(", ".join(style.qualities))))
    table.add_row("size", size(style.bytes))
    table.add_row("folder", Text(clean(str(style.folder))))
    for key in ("title", "artist", "year", "source", "licence", "network", "parameters", "sha256"):
        if value := getattr(style, key):
            table.add_row(clean(key.replace("_", " ")), Text(clean(str(value))))
    summary.show(out(), table)
    return 0


@app.command("import", cls=pages.Command)
def import_style(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="Weights: .pth, .npz or .onnx.", show_default=False
        ),
    ],
    *,
    name: NewName,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="For the card.")] = "",
    licence: Annotated[
        str, typer.Option("--licence", metavar="TEXT", help="Under which the weights may be used.")
    ] = "",
    origin: Annotated[
        str, typer.Option("--origin", metavar="TEXT", help="Where the weights come from.")
    ] = "",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Make a style of a published checkpoint."""
    from impasto import styles

    style = styles.import_checkpoint(
        checkpoint, name=name, user_styles=settings().user_styles, title=title, licence=licence,
        source=origin, force=force,
    )  # fmt: skip
    if json:
        summary.print_json(_facts(style))
    elif not quiet:
        summary.say(out(), "imported ", (clean(style.name), "style"))
    return 0


@app.command("train", cls=pages.Command)
def train_style(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A picture of the painting.", show_default=False)
    ],
    *,
    content: Annotated[
        Path, typer.Option("--content", metavar="DIR", help="A folder of photographs.")
    ],
    name: NewName,
    perceptual: Annotated[
        list[Path],
        typer.Option(
            "--perceptual",
            metavar="FILE",
            help="VGG-19 weights that judge; may be given several times.",
        ),
    ],
    iterations: Annotated[int, typer.Option("--iterations", metavar="N", min=1)] = 2000,
    device: Annotated[str, typer.Option("--device", metavar="cpu|cuda:0…")] = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Train a style of one's own on a painting.

    Given again after an interruption, the same command goes on from the last checkpoint.
    """
    from impasto.styles import check_name

    try:
        from impasto import train
    except ModuleNotFoundError as error:
        raise RequestError(
            f"training needs: pip install 'impasto[train]' ({error.name} is missing)"
        ) from error
    console = err()

    def told(line: str) -> None:
        if not quiet:
            console.print(Text(clean(line)), soft_wrap=True)

    made = train.train_style(
        image, content, settings().user_styles / check_name(name),
        train.TrainConfig(iterations=iterations, device=device),
        about=train.About(name=name, title=name, artist="", year="", source=image.name,
                          licence=""),
        judges=train.Judges(tuple(perceptual)),
        today=dt.datetime.now(dt.UTC).date(),
        report=told,
    )  # fmt: skip
    if json:
        summary.print_json({"name": name, "folder": str(made.folder),
                            "figures": dataclasses.asdict(made.figures)})  # fmt: skip
    elif not quiet:
        summary.say(out(), "trained ", (clean(name), "style"))
    return 0
