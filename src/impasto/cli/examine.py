"""Commands that look at videos: preview, compare, verify, probe."""

from collections.abc import Mapping
from typing import Annotated, Literal

import typer

from impasto.cli import summary
from impasto.cli.look import out
from impasto.cli.options import (
    Force,
    Json,
    Quiet,
    Rate,
    Source,
    locate,
    parse_blend,
    settings,
    video_at,
)
from impasto.cli.pages import Command
from impasto.cli.text import clean
from impasto.errors import RequestError
from impasto.media.publish import refuse

Made = Annotated[
    str, typer.Argument(metavar="TARGET", help="What was made of it.", show_default=False)
]

PREVIEW_EXAMPLES = """
impasto preview holiday.mp4 --styles starry_night --strengths 0.5,1 -o sheet.png
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(cls=_Preview, epilog=PREVIEW_EXAMPLES)(preview)
    for command in (compare, verify, probe):
        app.command(cls=Command)(command)


class _Preview(Command):
    one_of = ("--styles", "--blend")


def preview(
    source: Source,
    *,
    target: Annotated[str, typer.Option("-o", "--output", metavar="TARGET", help="A PNG file.")],
    styles: Annotated[
        str | None, typer.Option("--styles", metavar="A,B", help="Styles, one row each.")
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option("--blend", metavar="A:0.7,B:0.3", help="A row of several styles at once."),
    ] = None,
    quality: Annotated[
        Literal["fast", "balanced", "best"],
        typer.Option("--quality", help="Which network, where a style has several."),
    ] = "balanced",
    strengths: Annotated[
        str, typer.Option("--strengths", metavar="X,Y", help="Strengths, one column each.")
    ] = "0.5,1",
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="One frame; default: one per scene.")
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", metavar="N", help="Of the longest scenes.", min=1, max=24)
    ] = 3,
    rate: Rate = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Make a contact sheet on frames of real scenes: styles by strengths."""
    from impasto.preview import preview as make_sheet

    rows: list[str | Mapping[str, float]] = [
        name.strip() for name in (styles or "").split(",") if name.strip()
    ]
    if blend is not None:
        rows.append(parse_blend(blend))
    if not rows:
        raise RequestError("--styles names no style; see impasto styles list")
    sheet = locate(target)
    refuse(sheet, force=force)
    made = make_sheet(
        locate(source, or_folder=True), styles=rows, rate=rate,
        strengths=_strengths(strengths), frames=frames, at=at, quality=quality,
        target=sheet, settings=settings(), force=force,
    )  # fmt: skip
    if json:
        summary.print_json(made)
    elif not quiet:
        summary.sheet(out(), made)
    return 0


def _strengths(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number <= 1 for number in numbers):
        raise RequestError(f"--strengths must be numbers between 0 and 1, got {text!r}")
    return numbers


def compare(
    source: Source,
    target: Made,
    *,
    video: Annotated[
        str, typer.Option("-o", "--output", metavar="VIDEO", help="Where the comparison goes.")
    ],
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Where a painted part begins.")
    ] = None,
    rate: Rate = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Show a source and its target side by side in one video."""
    out_file = locate(video)
    refuse(out_file, force=force)
    from impasto.media.compare import compare as side_by_side
    from impasto.request import parse_time

    notes = side_by_side(
        video_at(source, rate), locate(target), out_file, limits=settings().limits, force=force,
        start_s=None if start is None else parse_time(start),
    )  # fmt: skip
    if json:
        summary.print_json({"target": video, "notes": notes})
    elif not quiet:
        summary.say(out(), (clean(video), "name"))
        for note in notes:
            summary.say(out(), clean(note))
    return 0


def verify(
    source: Source,
    target: Made,
    *,
    rate: Rate = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="As it was painted.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Likewise.")] = None,
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="Likewise.")] = "source",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Prove that a target has lost nothing of its source."""
    from impasto.media.probe import probe as examine
    from impasto.media.verify import Expectation
    from impasto.media.verify import verify as prove
    from impasto.request import select_frames, target_size

    film, limits = video_at(source, rate), settings().limits
    probed = examine(film, limits=limits)
    first, stop = select_frames(probed.ledger, start, end)
    width, height = target_size(probed, size)
    expect = Expectation(start=first, stop=stop, width=width, height=height)
    found = prove(film, locate(target), source=probed, expect=expect, limits=limits)
    ok = all(check.ok for check in found)
    if json:
        summary.print_json({"ok": ok, "checks": found})
    elif not quiet:
        summary.checks(out(), found)
    if not ok and (start, end, size) == (None, None, "source") and not json:
        summary.complain(
            "if only a part or another size was painted, give the same --start, --end, --size"
        )
    return 0 if ok else summary.not_right(target, found)


def probe(source: Source, rate: Rate = None, json: Json = False) -> int:
    """Show what a video is: frames, timing, colour, streams."""
    from impasto.media.probe import probe as examine

    found = examine(video_at(source, rate), limits=settings().limits)
    if json:
        summary.print_json(summary.source_facts(found))
    else:
        summary.source_page(out(), source, found)
    return 0
