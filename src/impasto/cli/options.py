"""Options that several commands share, each described once."""

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from impasto.config import load_settings
from impasto.errors import RequestError
from impasto.records import Codec
from impasto.settings import Settings

if TYPE_CHECKING:
    from impasto.request import Options
    from impasto.stores import Place

PICTURE, CUT, FILE, MACHINE, RUN = (
    "Picture", "Which frames", "Target file", "Where it runs", "How it runs",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress and no summary.")]
Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="Path or URL of a video, or of a folder of frames.",
                   show_default=False),
]  # fmt: skip
Target = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="TARGET",
                 help="Where the result goes; default: beside the source."),
]  # fmt: skip
Rate = Annotated[
    str | None,
    typer.Option("--rate", metavar="24|30000/1001",
                 help="Frames per second of a folder of frames; default: 25.",
                 rich_help_panel=CUT),
]  # fmt: skip
Work = Annotated[
    str | None,
    typer.Option("--work", metavar="URL", help="The system store; default: the user's cache.",
                 rich_help_panel=RUN),
]  # fmt: skip
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing target.")]


def _option(*names: str, panel: str, metavar: str | None = None, help: str, **more: Any) -> Any:  # noqa: A002
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **more)


FLOW: dict[str, tuple[Any, Any]] = {
    "strength": (Annotated[float, _option(
        "--strength", panel=PICTURE, metavar="0…1",
        help="How much of the effect: 0 is the source.")], 1.0),
    "keep_colors": (Annotated[bool, _option(
        "--keep-colors", panel=PICTURE, help="Keep the source's colours, take only strokes.")],
        False),
    "size": (Annotated[str, _option(
        "--size", panel=PICTURE, metavar="1280x720|720p|source", help="Size of the target.")],
        "source"),
    "rate": (Rate, None),
    "start": (Annotated[str | None, _option(
        "--start", panel=CUT, metavar="TIME", help="From here on: 12.5, 90s or 00:01:02.5.")],
        None),
    "end": (Annotated[str | None, _option(
        "--end", panel=CUT, metavar="TIME", help="Up to here.")], None),
    "codec": (Annotated[Codec | None, _option(
        "--codec", panel=FILE, help="Video codec; default: h264, or vp9 in WebM.")], None),
    "crf": (Annotated[int | None, _option(
        "--crf", panel=FILE, metavar="N", help="Quality of the encoder: lower is better.",
        min=0, max=63)], None),
    "preset": (Annotated[str | None, _option(
        "--preset", panel=FILE, metavar="P", help="Speed of the encoder.")], None),
    "force": (Annotated[bool, _option(
        "--force", panel=FILE, help="Overwrite an existing target.")], False),
    "engine": (Annotated[Literal["inline", "local", "mpi", "ray"] | None, _option(
        "--engine", panel=MACHINE,
        help="This process, processes of this machine, MPI ranks, or a Ray cluster; default: "
        "local, or mpi under mpiexec.")], None),
    "workers": (Annotated[int | None, _option(
        "--workers", panel=MACHINE, metavar="N", help="Processes that score; default: by cores.",
        min=1)], None),
    "ray_address": (Annotated[str | None, _option(
        "--ray-address", panel=MACHINE, metavar="HOST:PORT|auto",
        help="The Ray cluster; default: the configured one, or one of this machine's own.")], None),
    "cores_per_worker": (Annotated[int | None, _option(
        "--cores-per-worker", panel=MACHINE, metavar="N",
        help="That a worker asks Ray for; default: 8, or as many as the largest node has.",
        min=1)], None),
    "device": (Annotated[str, _option(
        "--device", panel=MACHINE, metavar="auto|cpu|cuda:0…", help="What executes the network.")],
        "auto"),
    "precision": (Annotated[Literal["auto", "f32", "bf16", "f16"], _option(
        "--precision", panel=MACHINE, help="auto: the fastest that looks the same.")], "auto"),
    "chunk_frames": (Annotated[str | None, _option(
        "--chunk-frames", panel=RUN, metavar="N|auto",
        help="Frames that are done or lost at once; auto: computed for these workers, from a short "
        "trial; default: by the picture's size alone.")], None),
    "preemptions_per_hour": (Annotated[float, _option(
        "--preemptions-per-hour", panel=RUN, metavar="R",
        help="How often a machine is taken away, for --chunk-frames auto.", min=0, max=3600)], 0.0),
    "price": (Annotated[str | None, _option(
        "--price", panel=RUN, metavar="P",
        help="Of a machine for an hour: a number, or a name in [prices] of the configuration; "
        "NAME:spot is its spot price.")], None),
    "on_error": (Annotated[Literal["fail", "pass-through"], _option(
        "--on-error", panel=RUN, help="A frame that can't be scored: fail, or keep the source's.")],
        "fail"),
    "restarts": (Annotated[int, _option(
        "--restarts", panel=RUN, metavar="N", help="Start an engine that lost its workers again.",
        min=0, max=1000)], 0),
    "work": (Work, None),
    "keep": (Annotated[bool, _option(
        "--keep", panel=RUN, help="Keep the finished run's segments.")], False),
}  # fmt: skip
"""Name in Options → type with its help, default."""


def with_flow(
    command: Callable[..., int], more: dict[str, tuple[Any, Any]] | None = None
) -> Callable[..., int]:
    """Give `command` one parameter for every option of a run; it receives them as `options`.

    Keyword parameters of its own that are fields of Options, quality and pixels, are folded in too,
    and so are the options in `more`, which is a table like FLOW.
    """
    table = FLOW | (more or {})
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    folded = [p.name for p in own if p.name in {"quality", "pixels"}]

    def expanded(**given: Any) -> int:
        chosen = {name: given.pop(name) for name in [*table, *folded]}
        return command(**given, options=build(**chosen))

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in table.items()
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    # Typer reads both: the order and the defaults here, the types there.
    expanded.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
    expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
    return expanded


def build(*, strength: float, chunk_frames: str | None, **rest: Any) -> "Options":
    """The options of a run, with what a type alone can't check."""
    from impasto.request import Options

    if not 0 <= strength <= 1:  # NaN too: a range of Typer's lets it pass
        raise RequestError(f"--strength must lie between 0 and 1, got {strength}")
    rate = rest.get("preemptions_per_hour", 0.0)
    if not rate >= 0:
        raise RequestError(f"--preemptions-per-hour must be a number from 0 up, got {rate}")
    return Options(strength=strength, chunk_frames=parse_chunk_frames(chunk_frames), **rest)


def parse_chunk_frames(text: str | None) -> "int | Literal['auto'] | None":
    """Read "auto" or a number of frames.

    Raises:
        RequestError: another form, or no frame at all.
    """
    if text is None or text == "auto":
        return text if text is None else "auto"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise RequestError(f"--chunk-frames must be auto or a number above zero, got {text!r}")
    return int(text)


def parse_blend(text: str) -> dict[str, float]:
    """Read "starry_night:0.7,the_scream:0.3": weights by name, as they were given.

    Raises:
        RequestError: another form, or a style named twice.
    """
    blend: dict[str, float] = {}
    for part in text.split(","):
        name, colon, weight = part.strip().partition(":")
        try:
            number = float(weight)
        except ValueError:
            number = None
        if not name or not colon or number is None:
            raise RequestError(
                f"--blend reads starry_night:0.7,the_scream:0.3, a weight for each; got {text!r}"
            )
        if name in blend:
            raise RequestError(f"--blend names {name!r} twice; give each style one weight")
        blend[name] = number
    return blend


def settings() -> Settings:
    """Settings from this process's environment and the user's configuration file."""
    return load_settings(os.environ)


def locate(text: str, *, or_folder: bool = False) -> "Place":
    """The file that a path or URL names, or the folder, with the configured credentials.

    Raises:
        RequestError: a URL of another kind, or one that carries a secret.
    """
    from impasto.stores import locate as find

    return find(text, settings().access, or_folder=or_folder)


def video_at(text: str, rate: str | None) -> "Place":
    """The video that a path or URL names; a folder's frames are joined into one first.

    Raises:
        RequestError: as `locate` does; or a folder that can't be joined, or a rate for a video.
    """
    from impasto.frames import video_at as find

    return find(text, settings(), rate=rate)
