"""Commands on styles: list, show, import, learn, train."""

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from impasto.cli import pages, summary
from impasto.cli.look import err, out
from impasto.cli.options import Force, Json, Quiet, settings
from impasto.cli.text import clean, size
from impasto.cli.training import follow_training
from impasto.settings import Settings

app = typer.Typer(
    cls=pages.Group, help="See, import, learn and train styles.", rich_markup_mode=None
)

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

    style = styles.read_style(name, user_styles=settings().user_styles)
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


Image = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="A picture of the painting.", show_default=False)
]
Quality = Annotated[
    Literal["fast", "balanced", "best"],
    typer.Option("--quality", help="Which network: speed or detail."),
]
Perceptual = Annotated[
    str | None,
    typer.Option(
        "--perceptual", metavar="NAME|FILE",
        help="What judges: compressed, vgg19, or a VGG-19 of your own; fetched on first use.",
    ),
]  # fmt: skip
Title = Annotated[str, typer.Option("--title", metavar="TEXT", help="For the card.")]
Artist = Annotated[str, typer.Option("--artist", metavar="TEXT", help="For the card.")]
Licence = Annotated[str, typer.Option("--licence", metavar="TEXT", help="For the card.")]


@app.command("learn", cls=pages.Command)
def learn_style(
    image: Image,
    *,
    content: Annotated[
        Path | None,
        typer.Option("--content", metavar="DIR", help="Photographs to paint while learning."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="VIDEO", help="A video, whose frames do instead."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Default: by the file's name and digest."),
    ] = None,
    quality: Quality = "balanced",
    perceptual: Perceptual = None,
    iterations: Annotated[
        int | None, typer.Option("--iterations", metavar="N", min=1, help="At most.")
    ] = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Learn any painting, in minutes, as a style of the shipped networks.

    `impasto stylize --style IMAGE` does the same when it meets a new painting.
    """
    from impasto.train.paintings import is_learned, learn_painting, name_for

    known = not (name or force) and is_learned(name_for(image), quality, settings().user_styles)
    with follow_training(err(), image.name, quiet=quiet, sparse=json) as ears:
        learned = learn_painting(
            image, quality=quality, settings=_judged_by(perceptual), name=name, source=source,
            content=content, iterations=iterations, force=force, today=_today(),
            report=ears.report, on_step=ears.on_step,
        )  # fmt: skip
    style = _named(learned)
    if json:
        summary.print_json({**_facts(style), "folder": str(style.folder), "trained": style.trained})
    elif not quiet:
        told = "known already, --force learns it anew: " if known else "learned "
        summary.say(out(), told, (clean(learned), "style"))
    return 0


@app.command("train", cls=pages.Command)
def train_style(
    image: Image,
    *,
    content: Annotated[
        Path, typer.Option("--content", metavar="DIR", help="A folder of photographs.")
    ],
    name: NewName,
    quality: Quality = "balanced",
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="shipped|scratch|CHECKPOINT", help="Whose weights to begin with."
        ),
    ] = "shipped",
    perceptual: Perceptual = None,
    iterations: Annotated[int, typer.Option("--iterations", metavar="N", min=1)] = 2000,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Crops per iteration.")
    ] = 2,
    painting_px: Annotated[
        int,
        typer.Option(
            "--painting-px",
            metavar="N",
            min=64,
            max=4096,
            help="Shorter side of the painting: larger gives larger strokes.",
        ),
    ] = 720,
    content_weight: Annotated[
        float, typer.Option("--content-weight", metavar="X", min=0, help="More keeps more scene.")
    ] = 8.0,
    patience: Annotated[
        int,
        typer.Option(
            "--patience",
            metavar="N",
            min=0,
            help="Looks at held-out photographs without a better one before it ends; 0: never.",
        ),
    ] = 6,
    precision: Annotated[
        Literal["f32", "bf16", "fp16"], typer.Option("--precision", help="fp16 needs CUDA.")
    ] = "bf16",
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0)] = 0,
    device: Annotated[str, typer.Option("--device", metavar="cpu|cuda:0…")] = "cpu",
    title: Title = "",
    artist: Artist = "",
    licence: Licence = "",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Train a network of its own on one painting.

    Losses, curves, samples and checkpoints go to the style's folder. Given again after an
    interruption, the same command goes on from the last checkpoint.
    """
    from impasto.styles import check_name
    from impasto.train.paintings import need_torch

    check_name(name)
    train, config = need_torch("impasto.train.style"), need_torch("impasto.train.config")
    judged = _judged_by(perceptual)
    with follow_training(err(), f"{image.name} as {name}", quiet=quiet, sparse=json) as ears:
        made = train.train_style(
            image,
            content,
            config.TrainConfig(
                iterations=iterations, batch=batch, patience=patience, precision=precision,
                seed=seed, device=device,
                paintings=(config.PaintingConfig(px=painting_px, content_weight=content_weight),),
            ),
            name=name,
            user_styles=judged.user_styles,
            perceptual=need_torch("impasto.nets.perceptual").find_perceptual(
                judged.perceptual, cache=judged.cache, report=ears.report
            ),
            about=train.About(title=title or name, artist=artist, source=image.name,
                              licence=licence),
            today=_today(),
            start=start,
            quality=quality,
            force=force,
            listener=train.Listener(ears.report, ears.on_step),
        )  # fmt: skip
    if json:
        summary.print_json({"name": name, "folder": str(made.style.folder),
                            "skipped": len(made.skipped), "trained": made.trained})  # fmt: skip
    elif not quiet:
        summary.say(out(), "trained ", (clean(name), "style"))
    return 0


def _judged_by(perceptual: str | None) -> Settings:
    found = settings()
    return found if perceptual is None else dataclasses.replace(found, perceptual=perceptual)


def _named(name: str) -> Any:
    from impasto import styles

    return styles.read_style(name, user_styles=settings().user_styles)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
