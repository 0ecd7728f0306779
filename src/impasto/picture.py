"""A picture instead of a video: probe → plan → score → write → verify, all in this process."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from impasto.errors import RequestError, RunFailed
from impasto.keys import digest
from impasto.media.pixels import Picture
from impasto.media.publish import publishing, refuse, refuse_source
from impasto.media.still import encode_jpeg, encode_png, read_still, upright
from impasto.protocols import Scorer, Sequential
from impasto.records import (
    Check,
    Chunk,
    ChunkCounts,
    Done,
    Event,
    Noted,
    Planned,
    Progress,
    Report,
    Source,
    StageBegan,
)
from impasto.request import Request, refuse_device, software, target_size
from impasto.scorers import open_scorer, psnr_db
from impasto.scorers.optimise import check_frames
from impasto.settings import Limits, Settings
from impasto.settle import choose_precision
from impasto.stores import Place
from impasto.worker import peak_memory_mb, worker_name

_ENCODERS = {".png": encode_png, ".jpg": encode_jpeg, ".jpeg": encode_jpeg}
_LEAST_JPEG_DB = 25.0
"""PSNR in dB that a JPEG file must have against what was painted; noise alone comes near it."""
_OF_VIDEOS = ("start", "end", "codec", "crf", "preset", "chunk_frames")
_TRANSPARENT = frozenset({"rgba", "rgba64be", "ya8", "ya16be", "yuva420p", "argb", "bgra"})
_ENGINE = "inline"


def paint_picture(
    request: Request, model: bytes, settings: Settings, on_event: Callable[[Event], None]
) -> Report:
    """Paint a picture into a picture, and see that the file holds what was painted.

    The target is upright, as the source is shown; its other metadata stays behind.

    Args:
        request: what was asked for; the source is a picture that `read_still` takes.
        model: bytes that `request.scorer.model` is the digest of.
        settings: limits.
        on_event: hears what happens, from this thread.

    Raises:
        RequestError: a wrong request; nothing was begun.
        RunFailed: the file is not what was painted, so it was not kept.
    """
    options, scorer = request.options, request.scorer
    for name in _OF_VIDEOS:
        if getattr(options, name) is not None:
            raise RequestError(f"{name} is for videos, and {str(request.source)!r} is a picture")
    refuse_device(options)
    target = _target(request)
    clock = _Clock(on_event)
    with publishing(target, force=options.force, resumed=options.resumed) as unfinished:
        with clock.stage("probe"):
            source, frame = read_still(request.source, settings.limits)
            width, height = _size(request, source, settings.limits)
            picture = upright(source, frame, width=width, height=height)
        with clock.stage("plan"):
            precision, gate = choose_precision(options.precision, scorer, model, lambda: picture)
            run_id = digest([source.digest, scorer, width, height, precision, software(scorer)])[
                :16
            ]
        with clock.stage("score"):
            chunk = Chunk(0, 0, 1, 0)
            on_event(Planned(run_id, source, (chunk,), (), _ENGINE, 1, precision, str(target)))
            opened = open_scorer(scorer, model, width=width, height=height, precision=precision)
            painted = _paint(opened, picture, on_event)
        with clock.stage("stitch"):
            unfinished.write_bytes(_ENCODERS[target.suffix.lower()](painted))
        with clock.stage("verify"):
            checks = _verify(unfinished, painted, settings.limits, target.suffix.lower())
    notes = ("transparency is left out",) if source.pixel_format in _TRANSPARENT else ()
    for note in (*notes, *opened.notes):
        on_event(Noted(note))
    return Report(
        run_id=run_id,
        source=str(request.source),
        target=str(target),
        scorer=scorer.name,
        frames=1,
        wall_s=round(clock.wall_s, 3),
        frames_per_s=round(1 / clock.wall_s, 3),
        chunks=ChunkCounts(total=1),
        replaced_frames=0,
        engine=_ENGINE,
        workers=1,
        runtime="openvino" if scorer.optimise is None else "pytorch",
        device=opened.device,
        precision=precision,
        stage_s={name: round(seconds, 3) for name, seconds in clock.stage_s.items()},
        verified=True,
        checks=checks,
        notes=(*notes, *opened.notes),
        gate_db=gate,
        peak_memory_mb=peak_memory_mb(),
        frame_s=dict.fromkeys(("min", "median", "max"), clock.stage_s["score"]),
    )


def _target(request: Request) -> Place:
    """Choose the target's path.

    Raises:
        RequestError: it is not a kind of picture that is written, or is there already.
    """
    target, suffix = request.target, request.source.suffix.lower()
    if target is None:
        kind = request.source.suffix if suffix in _ENCODERS else ".png"
        target = request.source.with_name(f"{request.source.stem}.{request.scorer.name}{kind}")
    if target.suffix.lower() not in _ENCODERS:
        raise RequestError(f"a picture becomes a .png or .jpg file, got {str(target)!r}")
    refuse(target, force=request.options.force or request.options.resumed)
    refuse_source(target, request.source)
    return target


def _size(request: Request, source: Source, limits: Limits) -> tuple[int, int]:
    width, height = target_size(source, request.options.size)
    if width * height > limits.max_pixels:
        raise RequestError(
            f"{width}x{height} is over the limit of {limits.max_pixels} pixels (max_pixels)"
        )
    if request.scorer.optimise is not None:
        check_frames(width, height)
    return width, height


def _paint(scorer: Scorer, picture: Picture, on_event: Callable[[Event], None]) -> Picture:
    name, started = worker_name(), time.perf_counter()
    if isinstance(scorer, Sequential):
        scorer.on_step = lambda share: on_event(Progress(0, name, 0, {}, share))
    painted: Picture = scorer(picture[None])[0]
    wall_s = time.perf_counter() - started
    on_event(Done(0, name, "", 1, wall_s, {"score": wall_s}, (wall_s,), scorer.device))
    return painted


def _verify(path: Path, painted: Picture, limits: Limits, suffix: str) -> tuple[Check, ...]:
    """Read the unfinished file like any stranger's.

    Raises:
        RunFailed: it is not what was painted.
    """
    source, frame = read_still(path, limits)
    found = upright(source, frame)
    height, width = painted.shape[:2]
    same_size = found.shape == painted.shape
    db = psnr_db(found, painted) if same_size else 0.0
    if suffix == ".png":
        equal = bool(np.array_equal(found, painted))
        pixels = Check("pixels", equal, "equal", "equal" if equal else f"{db:.1f} dB")
    else:
        wanted = f">= {_LEAST_JPEG_DB:.0f} dB"
        pixels = Check("pixels", db >= _LEAST_JPEG_DB, wanted, f"{db:.1f} dB")
    checks = (
        Check("frame_count", True, 1, 1),
        Check("display_size", same_size, [width, height], [found.shape[1], found.shape[0]]),
        pixels,
    )
    wrong = [f"{c.name}: {c.expected} became {c.found}" for c in checks if not c.ok]
    if wrong:
        raise RunFailed(f"the target is not right ({'; '.join(wrong)}), so it was not kept")
    return checks


class _Clock:
    """Tells of the stages, and keeps their seconds."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.stage_s: dict[str, float] = {}
        self._hear = on_event
        self._started = time.perf_counter()

    @property
    def wall_s(self) -> float:
        return time.perf_counter() - self._started

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        self._hear(StageBegan(name))
        before = time.perf_counter()
        yield
        self.stage_s[name] = time.perf_counter() - before
