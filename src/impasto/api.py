"""The Python interface: the same calls as the command line, typed.

    import impasto

    report = impasto.stylize("clip.mp4", style="starry_night", target="painted.mp4")
    assert report.verified

and the pieces, for those who build something else of them:

    source = impasto.probe("clip.mp4")
    chunks = impasto.plan(source.ledger, start=0, stop=len(source.ledger), chunk_frames=120)
    scorer = impasto.open_scorer("starry_night", width=640, height=360)
    painted = scorer(frames)                      # uint8 (N, 360, 640, 3) → the same shape
    checks = impasto.verify("clip.mp4", "painted.mp4")
"""

import datetime as dt
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from impasto import run
from impasto.config import load_settings
from impasto.engines import together
from impasto.frames import video_at
from impasto.media.probe import probe as _probe
from impasto.media.publish import refuse
from impasto.media.verify import Expectation
from impasto.media.verify import verify as _verify
from impasto.painting import refuse_knobs
from impasto.plan import plan_chunks as plan
from impasto.protocols import Scorer
from impasto.records import Check, Event, Noted, Precision, Report, ScorerSpec, Source
from impasto.request import Options, select_frames, target_size
from impasto.runtimes.openvino import best_precision
from impasto.scorers import open_scorer as _open_scorer
from impasto.settings import Settings
from impasto.stores import Place, locate
from impasto.styles import Blend, find_style
from impasto.train.paintings import is_painting, learn_painting

__all__ = ["Options", "open_scorer", "plan", "probe", "score", "stylize", "verify"]


def stylize(
    source: str | Place,
    *,
    style: str | Blend,
    target: str | Place | None = None,
    options: Options | None = None,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] = run.ignore,
) -> Report:
    """Paint a video in a style, and prove that nothing was lost.

    Args:
        source: path or URL of the video, of a folder of frames, or of a picture.
        style: name of a shipped or own style, or a blend of several: {"a": 0.7, "b": 0.3}. Its
            weights are divided by their sum. The path of a picture of any painting is learned at
            first use, from frames of the source.
        target: where the painting goes; `<stem>.<style>.<ext>` beside the source when None.
        options: everything else, as on the command line.
        settings: folders, stores and limits; from the environment and the user's file when None.
        on_event: hears what happens, from this thread.

    Returns:
        The report; the target is finished and verified.

    Raises:
        RequestError: a wrong request; nothing was begun.
        RunFailed: it could not be finished; finished segments are kept for the next start.
        Interrupted: stopped by a signal; likewise.
    """
    settings, options = settings or load_settings(os.environ), options or Options()

    def paint() -> Report:
        chosen = style
        if isinstance(chosen, str) and options.method == "network" and is_painting(chosen):
            refuse_knobs(options)  # now, not after the minutes that learning takes
            if target is not None:
                refuse(locate(target, settings.access), force=options.force)
            chosen = learn_painting(
                Path(chosen),
                quality=options.quality,
                settings=settings,
                source=video_at(source, settings, rate=options.rate, work=options.work),
                today=dt.datetime.now(dt.UTC).date(),
                report=lambda line: on_event(Noted(line)),
            )
        return run.stylize(
            source,
            style=chosen,
            target=target,
            options=options,
            settings=settings,
            on_event=on_event,
        )

    return together(paint, options.engine, options.workers, settings.surroundings.ranks)


def score(
    source: str | Place,
    *,
    model: str | Place,
    target: str | Place | None = None,
    options: Options | None = None,
    settings: Settings | None = None,
    on_event: Callable[[Event], None] = run.ignore,
) -> Report:
    """Run any network, frames → frames, over a video; otherwise as `stylize`.

    Args:
        source: path or URL of the video, or of a folder of frames.
        model: path or URL of an ONNX file with one input and one output, float [N, 3, H, W], RGB,
            0..255.
        target: as in `stylize`, and so are the others.
        options: everything else, as on the command line.
        settings: folders, stores and limits.
        on_event: hears what happens.

    Raises:
        RequestError, RunFailed, Interrupted: as `stylize` does.
    """
    settings, options = settings or load_settings(os.environ), options or Options()

    def paint() -> Report:
        return run.score(
            source,
            model=model,
            target=target,
            options=options,
            settings=settings,
            on_event=on_event,
        )

    return together(paint, options.engine, options.workers, settings.surroundings.ranks)


def probe(
    source: str | Place, *, rate: str | float | None = None, settings: Settings | None = None
) -> Source:
    """Decode a video from end to end and return what it holds, its frame ledger above all.

    Args:
        source: path or URL of the video, or of a folder of frames, which are joined in the system
            store first.
        rate: of a folder's frames per second, as in `Options`.
        settings: limits and stores.

    Raises:
        SourceRefused: not a video that Impasto opens, or beyond a limit.
    """
    settings = settings or load_settings(os.environ)
    return _probe(video_at(source, settings, rate=rate), settings.limits)


def verify(
    source: str | Place,
    target: str | Place,
    *,
    rate: str | float | None = None,
    start: str | None = None,
    end: str | None = None,
    size: str = "source",
    settings: Settings | None = None,
) -> tuple[Check, ...]:
    """Decode a target from end to end and compare it with its source; all checks must be `ok`.

    Args:
        source: the original.
        target: its painting.
        rate: of the source, where it is a folder of frames.
        start: where the painted part begins, as in `Options`.
        end: where it ends.
        size: what size was asked for.
        settings: limits.

    Raises:
        SourceRefused: one of them is not a video that Impasto opens.
        RequestError: a time or a size that can't be read.
    """
    settings = settings or load_settings(os.environ)
    original = video_at(source, settings, rate=rate)
    made = locate(target, settings.access)
    limits = settings.limits
    probed = _probe(original, limits)
    first, stop = select_frames(probed.ledger, start, end)
    width, height = target_size(probed, size)
    expect = Expectation(start=first, stop=stop, width=width, height=height)
    return _verify(original, made, source=probed, expect=expect, limits=limits)


def open_scorer(
    style: str | Blend,
    *,
    width: int,
    height: int,
    strength: float = 1.0,
    keep_colors: bool = False,
    quality: str = "balanced",
    precision: Precision | None = None,
    settings: Settings | None = None,
) -> Scorer:
    """Return a style as a callable: uint8 RGB frames (N, height, width, 3) → the same shape.

    Args:
        style: a name or a blend, as in `stylize`; a painting must have been learned before.
        width: of the frames, pixels.
        height: of the frames, pixels.
        strength: 0 is the source, 1 the full style.
        keep_colors: luma from the style, chroma from the source.
        quality: which network, where the style has several.
        precision: None takes the fastest that the processor computes in.
        settings: the folder of the user's own styles.

    Raises:
        RequestError: an unknown style or quality, or a strength outside 0..1.
        OutOfMemory: no room for the network.
    """
    settings = settings or load_settings(os.environ)
    found, model = find_style(style, quality, user_styles=settings.user_styles)
    spec = ScorerSpec(found.name, hashlib.sha256(model).hexdigest(), strength, keep_colors)
    return _open_scorer(
        spec,
        model,
        width=width,
        height=height,
        precision=precision or best_precision(),
    )
