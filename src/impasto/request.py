"""From what a person asks for to the spec of a run: sizes, times, codecs, the target's name."""

import hashlib
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from impasto.errors import RequestError, Way
from impasto.fleet import Tail
from impasto.media.container import opened, reason
from impasto.media.encode import choose_encode, refuse_size, target_aspect
from impasto.media.publish import refuse, refuse_source
from impasto.media.stitch import MUXERS, unsupported
from impasto.plan import default_cut
from impasto.records import Codec, Encode, Ledger, PixelScale, ScorerSpec, Source, Spec
from impasto.runtimes import cpu, onnx_file
from impasto.scorers.optimise import check_frames
from impasto.scorers.optimise import software as optimising_software
from impasto.settings import Limits
from impasto.stores import Place, address
from impasto.surroundings import Surroundings

_MAX_SIDE = 16384
_OPTIMISED_FRAMES = 12
"""Per chunk: each takes seconds to minutes, and a chunk is what an interruption costs."""
_ASPECTLESS = MUXERS.keys() - {".mp4"}
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything about a run beyond its source, its scorer and its target."""

    strength: float = 1.0
    """0 is the source, 1 the full style."""
    keep_colors: bool = False
    """Luma from the style, chroma from the source."""
    size: str = "source"
    """"1280x720", "720p" (that height, the source's shape) or "source"."""
    rate: str | float | None = None
    """Frames per second of a folder of frames: "24", "23.976" or "30000/1001"; None is 25. A video
    has its own."""
    start: str | None = None
    """"12.5", "90s" or "00:01:02.5" after the first frame; None is the beginning."""
    end: str | None = None
    """Likewise; the frame at that moment is no longer part of it."""
    method: Literal["network", "optimise"] = "network"
    """What paints: a trained network, or an optimisation of each frame's pixels (Gatys et al.)."""
    steps: int | None = None
    """Of "optimise" alone, as are the next five; None takes the default in `records.Optimise`."""
    style_weight: float | None = None
    content_weight: float | None = None
    temporal_weight: float | None = None
    painting_size: int | None = None
    perceptual: str | None = None
    """Name or path of the perceptual network; None takes the configured one, or VGG-19."""
    quality: str = "balanced"
    pixels: PixelScale = "0..255"
    """What a model of one's own takes and gives; styles know it themselves."""
    codec: Codec | None = None
    """None takes what the container is for: h264, or vp9 in WebM."""
    crf: int | None = None
    preset: str | None = None
    engine: str | None = None
    """None takes "mpi" among ranks that mpiexec or srun started, or else "local"."""
    workers: int | None = None
    ray_address: str | None = None
    """Of a Ray cluster; None takes the configured one, or starts one on this machine."""
    cores_per_worker: int | None = None
    """That an actor of Ray asks for; None takes eight, or as many as the largest node has."""
    device: str = "auto"
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"
    chunk_frames: int | Literal["auto"] | None = None
    """None takes what suits the picture's size; "auto" computes what suits the workers, from what a
    trial takes. The first start's answer holds for every resume."""
    preemptions_per_hour: float = 0.0
    """How often a worker's machine is taken away; for "auto" alone."""
    price: str | None = None
    """Of a machine for an hour, to price the run: a number, or a name in [prices]."""
    on_error: Literal["fail", "pass-through"] = "fail"
    restarts: int = 0
    """Times that an engine without any worker left is started again."""
    work: str | None = None
    """URL or path of the system store; None takes the configured one."""
    keep: bool = False
    """Keep the segments of a finished run."""
    force: bool = False
    """Overwrite an existing target."""
    resumed: bool = False
    """An earlier start may have published the target: begin though there is one, and succeed at the
    end if it is the same, byte for byte."""
    log: str | None = None
    """Id under which the driver keeps its log, where users share what is scored but not who asked
    for it; None takes the run's own."""

    def around(self, surroundings: Surroundings) -> Surroundings:
        """The surroundings, with what these options say of the Ray cluster."""
        address = surroundings.ray.address if self.ray_address is None else self.ray_address
        cluster = replace(surroundings.ray, address=address, cores_per_worker=self.cores_per_worker)
        return replace(surroundings, ray=cluster)


@dataclass(frozen=True, slots=True)
class Request:
    """A run as it was asked for."""

    source: Place
    """The video that is read; of a folder of frames the one that they were joined into."""
    target: Place | None
    scorer: ScorerSpec
    asked: dict[str, Any]
    """{"style": name or weights} or {"model": path}, as given, to ask again on resume."""
    options: Options
    folder: Place | None = None
    """The folder of frames that was asked for."""

    @property
    def named(self) -> Place:
        """The source by the name that it was asked for by."""
        return self.source if self.folder is None else self.folder


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request with every open question settled against its source."""

    spec: Spec
    target: Place
    force: bool
    notes: tuple[str, ...]


def resolve(request: Request, source: Source, *, max_pixels: int = Limits().max_pixels) -> Resolved:
    """Settle size, part, codec, container and name of the target.

    Raises:
        RequestError: they don't go together, or the target exists.
    """
    options = request.options
    refuse_device(options)
    start, stop = select_frames(source.ledger, options.start, options.end)
    width, height = target_size(source, options.size)
    if width * height > max_pixels:
        raise RequestError(
            f"{width}x{height} is over the limit of {max_pixels} pixels (max_pixels)"
        )
    optimised = request.scorer.optimise is not None
    if optimised:
        check_frames(width, height)
    if options.codec is not None:
        refuse_size(options.codec, width, height)  # before a container is sought for it
    square = target_aspect(source, width, height) == 1
    target, codec, notes = _target(request, source, square=square)
    encode, more = choose_encode(
        source, codec=codec, crf=options.crf, preset=options.preset, width=width, height=height
    )
    chunk_frames, tail = _cut(options.chunk_frames, encode, optimised=optimised)
    spec = Spec(
        source=source.digest,
        scorer=request.scorer,
        encode=encode,
        start=start,
        stop=stop,
        chunk_frames=chunk_frames,
        tail=tail,
        precision=options.precision,
        on_error=options.on_error,
        software=software(request.scorer),
    )
    return Resolved(spec, target, options.force, (*notes, *more))


def _cut(
    asked: int | Literal["auto"] | None, encode: Encode, *, optimised: bool
) -> tuple[int, Tail | None]:
    """The chunk size, 0 where it is to be computed, and how it falls towards the end."""
    if isinstance(asked, int):
        return asked, None
    if optimised:  # its chunks are scored one after the other, whoever is there
        return _OPTIMISED_FRAMES, None
    if asked == "auto":
        return 0, None
    return default_cut(width=encode.width, height=encode.height)


def refuse_device(options: Options) -> None:
    """Raise RequestError when the device asked for is none that executes networks here."""
    if options.device not in {"auto", "cpu"}:
        raise RequestError(
            f"device {options.device!r} is not supported by this version; use auto or cpu"
        )


def scorer_spec(
    name: str, model: bytes, options: Options, *, pixels: PixelScale = "0..255"
) -> ScorerSpec:
    """What is applied: `model` under the name `name`, with the strength and colours asked for."""
    digest = hashlib.sha256(model).hexdigest()
    return ScorerSpec(name, digest, options.strength, options.keep_colors, pixels)


def software(scorer: ScorerSpec) -> str:
    """Name what else decides about bits: versions, and the processor's arithmetic."""
    packages = [f"{name} {version(name)}" for name in ("impasto", "av", "openvino")]
    if scorer.optimise is not None:
        packages.append(optimising_software())
    return ", ".join([*packages, cpu.extension()])


def read_model(place: Place) -> bytes:
    """Return the bytes of an ONNX file.

    Raises:
        RequestError: it is not a file, too large, or can't be read.
    """
    name = str(place)
    try:
        if isinstance(place, Path) and not place.is_file():
            raise RequestError(f"can't read the model {name!r}: it is not a file")
        with opened(place) as file:
            data = file.read(onnx_file.MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"can't read the model {name!r}: {reason(error)}") from error
    if len(data) > onnx_file.MAX_BYTES:
        raise RequestError(f"{name!r} is larger than {onnx_file.MAX_BYTES >> 20} MiB")
    return data


def _target(request: Request, source: Source, *, square: bool) -> tuple[Place, Codec, list[str]]:
    """Choose the target's path and codec, and say where that differs from the plain wish."""
    wished, named = request.options.codec, request.target
    choices = [named] if named is not None else _beside(request)

    def problems(place: Place) -> list[str]:
        return _problems(source, place, wished or _usual_codec(place), square=square)

    target = next((place for place in choices if not problems(place)), None)
    if target is None:
        raise _unheld(source, choices[0], wished, square=square)
    refuse(target, force=request.options.force or request.options.resumed)
    refuse_source(target, request.named)
    moved = named is None and target.suffix.lower() != request.source.suffix.lower()
    notes = [f"the target is a {target.suffix} file, which holds all of it"] if moved else []
    return target, wished or _usual_codec(target), notes


def _beside(request: Request) -> list[Place]:
    """Where a target may go that nobody has named, the best first."""
    suffix = request.source.suffix.lower()
    stem = request.named.stem if request.folder is None else request.named.name
    stem += f".{request.scorer.name}{_part(request.options)}"
    suffixes = [*([suffix] if suffix in MUXERS else []), ".mp4", ".mkv"]
    return [request.named.with_name(stem + each) for each in dict.fromkeys(suffixes)]


def _part(options: Options) -> str:
    """What tells a part's name from the whole's: ".30s-end"."""
    if options.start is None and options.end is None:
        return ""

    def seconds(time: str) -> str:
        return f"{float(parse_time(time)):.3f}".rstrip("0").rstrip(".") + "s"

    first = "0s" if options.start is None else seconds(options.start)
    return f".{first}-{'end' if options.end is None else seconds(options.end)}"


def _unheld(source: Source, target: Place, wished: Codec | None, *, square: bool) -> RequestError:
    """That `target` can't hold what it should, and which other could."""
    found = ", ".join(_problems(source, target, wished or _usual_codec(target), square=square))
    message = f"a {target.suffix or 'nameless'} file can't hold {found}"
    others = [target.with_suffix(suffix) for suffix in MUXERS]
    for codec in dict.fromkeys([wished, None]):
        for other in others:
            if not _problems(source, other, codec or _usual_codec(other), square=square):
                if codec != wished:
                    message += f"; leave out codec {wished}"
                return RequestError(message, Way("target", str(other)))
    return RequestError(f"{message}, and no other container can")


def _usual_codec(target: Place) -> Codec:
    return "vp9" if target.suffix.lower() == ".webm" else "h264"


def _problems(source: Source, target: Place, codec: Codec, *, square: bool) -> list[str]:
    """What `target` can't hold, in pixels that are `square` or not."""
    problems = unsupported(source, target, codec)
    if (
        target.suffix.lower() in MUXERS
        and codec in {"vp9", "av1"}
        and not square
        and target.suffix.lower() != ".mp4"
    ):
        # These bitstreams have no aspect ratio, and PyAV can't set Matroska's display size.
        problems.append(f"{codec} with pixels that are not square")
    return problems


def target_size(source: Source, size: str) -> tuple[int, int]:
    """Return the target's width and height in pixels.

    Args:
        source: gives the shape.
        size: "source", "WIDTHxHEIGHT", or "HEIGHTp", which keeps the shape and an even width.

    Raises:
        RequestError: another form, or a side out of bounds.
    """
    width, height = source.display_width, source.display_height
    if size == "source":
        return width, height
    if re.fullmatch("[0-9]{1,5}p", size):
        wanted = int(size[:-1])
        pair = (max(2, round(Fraction(width * wanted, height) / 2) * 2), wanted)
    else:
        parts = size.lower().split("x")
        if len(parts) != 2 or not all(re.fullmatch("[0-9]{1,5}", part) for part in parts):
            raise RequestError(f"size must be source, 720p or 1280x720, got {size!r}")
        pair = (int(parts[0]), int(parts[1]))
    if not all(1 <= side <= _MAX_SIDE for side in pair):
        raise RequestError(f"size must be within 1 and {_MAX_SIDE} pixels a side, got {size!r}")
    return pair


def select_frames(ledger: Ledger, start: str | None, end: str | None) -> tuple[int, int]:
    """Return the frames `[start, stop)` whose display begins within `[start, end)`.

    Raises:
        RequestError: a time that can't be read, or no frame between them.
    """
    first_s = ledger.pts[0] * ledger.time_base

    def index(time: str) -> int:
        due_s = first_s + parse_time(time)
        ticks = due_s / ledger.time_base
        return next((i for i, pts in enumerate(ledger.pts) if pts >= ticks), len(ledger))

    begin = index(start) if start is not None else 0
    stop = index(end) if end is not None else len(ledger)
    if begin >= stop:
        length_s = float((ledger.pts[-1] + ledger.last_duration) * ledger.time_base - first_s)
        raise RequestError(
            f"no frame lies between {f'start {start}' if start else 'the start'} and "
            f"{f'end {end}' if end else 'the end'}; the video lasts {length_s:.3f} s"
        )
    return begin, stop


def parse_time(text: str) -> Fraction:
    """Read "12.5", "90s" or "00:01:02.5" as seconds.

    Raises:
        RequestError: another form, or a negative time.
    """
    parts = text.removesuffix("s").split(":")
    if len(parts) > 3 or not all(_DECIMAL.fullmatch(part) for part in parts):
        raise RequestError(f"a time reads 12.5, 90s or 00:01:02.5, got {text!r}")
    seconds = Fraction(0)
    for part in parts:
        seconds = seconds * 60 + Fraction(part)
    return seconds


def as_json(request: Request, target: Place) -> dict[str, Any]:
    """Return the request as it is kept beside its run, for `runs resume`."""
    from dataclasses import asdict

    options = asdict(request.options)
    if options["perceptual"] and Path(options["perceptual"]).is_file():  # or else a name
        options["perceptual"] = str(Path(options["perceptual"]).absolute())
    return {
        "source": address(request.named),
        "target": address(target),
        **request.asked,
        "options": options,
    }
