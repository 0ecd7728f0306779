"""Commands that make a video of another: stylize, score."""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from impasto.cli import summary
from impasto.cli.display import Title, follow
from impasto.cli.look import err, out
from impasto.cli.optimise import OPTIMISE
from impasto.cli.options import (
    PICTURE,
    Json,
    Quiet,
    Source,
    Target,
    locate,
    parse_blend,
    settings,
    with_flow,
)
from impasto.cli.pages import Command
from impasto.cli.progress import RunProgress
from impasto.cli.remote import ServerOption, server_of, stylize_there
from impasto.cli.training import follow_training
from impasto.engines import follows, together
from impasto.errors import RequestError
from impasto.media.publish import refuse
from impasto.records import Event, PixelScale, Report
from impasto.records import Source as Probed
from impasto.styles import name_of
from impasto.wording import plural

if TYPE_CHECKING:
    from impasto.request import Options
    from impasto.stores import Place

REPLACED = 3
"""Exit code: done, with frames that the policy replaced."""

Style = Annotated[
    str | None,
    typer.Option("--style", metavar="STYLE",
                 help="A name from `impasto styles list`, or a picture of any painting.",
                 rich_help_panel=PICTURE),
]  # fmt: skip
Blend = Annotated[
    str | None,
    typer.Option("--blend", metavar="A:0.7,B:0.3",
                 help="Several styles at once, by weight; only the proportions count.",
                 rich_help_panel=PICTURE),
]  # fmt: skip
Quality = Annotated[
    Literal["fast", "balanced", "best"],
    typer.Option("--quality", help="Which network, where a style has several: speed or detail.",
                 rich_help_panel=PICTURE),
]  # fmt: skip
Model = Annotated[
    str,
    typer.Option("--model", metavar="MODEL",
                 help="Path or URL of an ONNX file, frames in and frames out.",
                 rich_help_panel=PICTURE),
]  # fmt: skip

Pixels = Annotated[
    PixelScale,
    typer.Option("--pixels", help="The model's numbers for black and white.",
                 rich_help_panel=PICTURE),
]  # fmt: skip

STYLIZE_EXAMPLES = """
# the whole video; the result stands beside it as holiday.starry_night.mp4
impasto stylize holiday.mp4 --style starry_night
# ten seconds of it
impasto stylize holiday.mp4 --style starry_night --start 30 --end 40
# any painting; it is learned at first use
impasto stylize holiday.mp4 --style my-painting.jpg
# two styles at once
impasto stylize holiday.mp4 --blend starry_night:0.7,the_scream:0.3
# a folder of frames
impasto stylize frames/ --style starry_night --rate 24 -o film.mp4
# a picture, straight from a painting, in minutes instead of moments
impasto stylize photo.jpg --style painting.jpg --method optimise
"""
SCORE_EXAMPLES = """
impasto score street.mp4 --model denoise.onnx -o clean.mp4
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(cls=_Stylize, epilog=STYLIZE_EXAMPLES)(with_flow(stylize, OPTIMISE))
    app.command(cls=Command, epilog=SCORE_EXAMPLES)(with_flow(score))


class _Stylize(Command):
    one_of = ("--style", "--blend")


def stylize(
    source: Source,
    *,
    style: Style = None,
    blend: Blend = None,
    target: Target = None,
    quality: Quality = "balanced",
    server: ServerOption = None,
    json: Json = False,
    quiet: Quiet = False,
    options: "Options",
) -> int:
    """Paint a video, or a picture, in a style.

    Every frame, timestamp and audio packet is proven to be there when it is done. An interrupted
    run goes on where it stopped when the same command is given again.
    """
    del quality  # it came in with the options
    chosen = parse_style(style, blend)
    if (url := server_of(server)) is not None:
        with follow(err(), Title(source, name_of(chosen)), quiet=quiet, sparse=json) as (_, hear):
            done = stylize_there(url, source, chosen, target, options, hear)
        return _told(done, None, json=json, quiet=quiet)
    return stylize_again(source, chosen, target, options, json=json, quiet=quiet)


def _learned(
    style: str,
    source: "Place",
    target: "Place | None",
    options: "Options",
    *,
    json: bool,
    quiet: bool,
) -> str:
    """A style's name as it is; for a painting, the name of what is learned of it at first use."""
    from impasto.frames import video_at
    from impasto.painting import refuse_knobs
    from impasto.train.paintings import is_painting, learn_painting

    if options.method != "network" or not is_painting(style):
        return style
    refuse_knobs(options)  # now, not after the minutes that learning takes
    if target is not None:
        refuse(target, force=options.force)
    with follow_training(err(), f"learning {Path(style).name}", quiet=quiet, sparse=json) as ears:
        return learn_painting(
            Path(style), quality=options.quality, settings=settings(),
            source=video_at(source, settings(), rate=options.rate, work=options.work),
            today=dt.datetime.now(dt.UTC).date(), report=ears.report, on_step=ears.on_step,
        )  # fmt: skip


def parse_style(style: str | None, blend: str | None) -> str | dict[str, float]:
    """What is to be painted in: a style's name or a painting's path, or weights by name.

    Raises:
        RequestError: none or both were given, or the blend can't be read.
    """
    if style is not None and blend is not None:
        raise RequestError("--style and --blend exclude each other; give one of them")
    chosen = style if blend is None else parse_blend(blend)
    if chosen is None:
        raise RequestError("missing option '--style' (or '--blend'); see: impasto styles list")
    return chosen


def score(
    source: Source,
    *,
    model: Model,
    target: Target = None,
    pixels: Pixels = "0..255",
    json: Json = False,
    quiet: Quiet = False,
    options: "Options",
) -> int:
    """Run any network over a video, frames to frames."""
    del pixels  # it came in with the options
    return score_again(source, model, target, options, json=json, quiet=quiet)


def stylize_again(
    source: str,
    style: str | Mapping[str, float],
    target: str | None,
    options: "Options",
    *,
    json: bool,
    quiet: bool,
) -> int:
    """Begin a stylize run, or go on with it; a painting that is not known is learned first."""
    from impasto import run

    video, result = locate(source, or_folder=True), locate(target) if target else None

    def begin() -> _Begun:
        chosen = style
        if isinstance(chosen, str):
            chosen = _learned(chosen, video, result, options, json=json, quiet=quiet)
        return Title(source, name_of(chosen)), lambda on_event: run.stylize(
            video, style=chosen, target=result, options=options, settings=settings(),
            on_event=on_event,
        )  # fmt: skip

    return _flow(begin, options, json=json, quiet=quiet)


def score_again(
    source: str, model: str, target: str | None, options: "Options", *, json: bool, quiet: bool
) -> int:
    """Begin a score run, or go on with it."""
    from impasto import run

    video, result = locate(source, or_folder=True), locate(target) if target else None

    def begin() -> _Begun:
        return Title(source, PurePath(model).name), lambda on_event: run.score(
            video, model=locate(model), target=result, options=options, settings=settings(),
            on_event=on_event,
        )  # fmt: skip

    return _flow(begin, options, json=json, quiet=quiet)


_Begun = tuple[Title, Callable[[Callable[[Event], None]], Report]]
"""What is shown of a run, and the call that makes it."""


def _flow(begin: Callable[[], _Begun], options: "Options", *, json: bool, quiet: bool) -> int:
    """Make the call while showing it, render its report, and name the exit code.

    Among ranks `begin` and the call are rank 0's alone, which speaks for all; what goes wrong in
    either ends every rank.
    """
    shown: list[RunProgress] = []
    ranks = settings().surroundings.ranks

    def lead() -> Report:
        title, call = begin()
        with follow(err(), title, quiet=quiet, sparse=json) as (progress, on_event):
            shown.append(progress)
            return call(on_event)

    done = together(lead, options.engine, options.workers, ranks)
    if follows(options.engine, options.workers, ranks):
        return REPLACED if done.replaced_frames else 0
    plan = shown[0].plan
    return _told(done, plan.source if plan else None, json=json, quiet=quiet)


def _told(done: Report, made_of: Probed | None, *, json: bool, quiet: bool) -> int:
    """Render a report, and name the exit code."""
    if json:
        summary.print_json(done)
    elif not quiet:
        summary.report(out(), done, made_of)
    if not done.verified:
        return summary.not_right(done.target, done.checks)
    if done.replaced_frames:
        summary.complain(
            f"{plural(done.replaced_frames, 'frame')} could not be scored and show the source "
            "instead; --on-error fail refuses that"
        )
        return REPLACED
    return 0
