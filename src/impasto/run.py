"""The whole flow of a run on one page: probe → plan → score → stitch → verify → report."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from impasto.driving import sole_driver
from impasto.engines import open_engine
from impasto.errors import RequestError
from impasto.fleet import find_price
from impasto.frames import JoinedFolder, find_folder, join_folder
from impasto.keys import run_id
from impasto.media.probe import probe
from impasto.media.publish import refuse
from impasto.media.still import is_still
from impasto.painting import prepare, refuse_knobs
from impasto.picture import paint_picture
from impasto.protocols import Engine
from impasto.records import Event, Noted, Report, ScorerSpec
from impasto.request import Options, Request, read_model, resolve, scorer_spec
from impasto.runtimes.rehearse import rehearse
from impasto.settings import Settings
from impasto.settle import chunk_notes, fleet_of, precision_notes, settle_plan
from impasto.steps import Run
from impasto.stopping import Stopping
from impasto.stores import Place, address, locate, open_store
from impasto.story import Story
from impasto.styles import Blend, find_style
from impasto.timesheet import Timesheet

__all__ = ["Options", "score", "stylize"]


def ignore(_: Event) -> None:
    """Do nothing with an event."""


def stylize(
    source: str | Place,
    *,
    style: str | Blend,
    target: str | Place | None = None,
    options: Options | None = None,
    settings: Settings,
    on_event: Callable[[Event], None] = ignore,
) -> Report:
    """Paint a video in a style, and prove that nothing was lost.

    Args:
        source: path or URL of the video, or of a picture.
        style: name of a shipped or own style, or several names with their weights; with the method
            "optimise", path of a picture of the painting.
        target: where the painting goes; `<stem>.<style>.<ext>` beside the source when None.
        options: everything else.
        settings: folders, stores and limits.
        on_event: hears what happens, from this thread.

    Returns:
        The report; the target is finished and verified.

    Raises:
        RequestError: a wrong request; nothing was begun.
        RunFailed: it could not be finished; finished segments are kept for the next start.
        Interrupted: stopped by a signal; likewise.
    """
    options = options or Options()
    if options.method == "optimise":
        scorer, model = prepare(style, options, settings, lambda line: on_event(Noted(line)))
        asked: dict[str, Any] = {"style": str(Path(str(style)).absolute())}
    else:
        refuse_knobs(options)
        found, model = find_style(style, options.quality, user_styles=settings.user_styles)
        scorer = scorer_spec(found.name, model, options)
        asked = {"style": style if isinstance(style, str) else dict(style)}
    return _run(source, scorer, model, target, asked, options, settings, on_event)


def score(
    source: str | Place,
    *,
    model: str | Place,
    target: str | Place | None = None,
    options: Options | None = None,
    settings: Settings,
    on_event: Callable[[Event], None] = ignore,
) -> Report:
    """Run any network, frames → frames, over a video; otherwise as `stylize`.

    Args:
        source: path or URL of the video.
        model: path or URL of an ONNX file with one input and one output, float [N, 3, H, W], RGB.
        target: as in `stylize`.
        options: everything else.
        settings: folders, stores and limits.
        on_event: hears what happens, from this thread.

    Raises:
        RequestError, RunFailed, Interrupted: as `stylize` does.
    """
    place = locate(model, settings.access)
    asked = {"model": address(place)}
    network = read_model(place)
    rehearse(network)  # in a process of its own: a crafted file can crash the one that reads it
    options = options or Options()
    scorer = scorer_spec(place.stem, network, options, pixels=options.pixels)
    return _run(source, scorer, network, target, asked, options, settings, on_event)


def _run(
    source: str | Place,
    scorer: ScorerSpec,
    model: bytes,
    target: str | Place | None,
    asked: dict[str, Any],
    options: Options,
    settings: Settings,
    on_event: Callable[[Event], None],
) -> Report:
    request = Request(
        locate(source, settings.access, or_folder=True),
        locate(target, settings.access) if target else None,
        scorer,
        asked,
        options,
    )
    folder = find_folder(request.source, options.rate)
    if folder is None and is_still(request.source):
        return paint_picture(request, model, settings, on_event)
    per_hour = find_price(options.price, settings.prices).per_hour if options.price else None
    engine = Timesheet(
        open_engine(
            options.engine,
            workers=1 if scorer.optimise else options.workers,
            surroundings=options.around(settings.surroundings),
        )
    )
    store = open_store(options.work or settings.system_store, settings.access)
    _refuse_memory(engine, store.url, str(request.source))
    log = Story(on_event)
    if request.target is not None:  # before the film is decoded
        refuse(request.target, force=options.force or options.resumed)
    joined: JoinedFolder | None = None
    with Stopping() as stopping, log.ending(), contextlib.ExitStack() as during:
        if options.log is not None:
            log.journal.keep_in(store, options.log)
        if folder is not None:
            with log.stage("join"):
                joined = join_folder(folder, store, options.rate, settings, stopping.here)
                log.note(*joined.notes)
            request = replace(request, source=joined.video, folder=folder.place)
        with log.stage("probe"):
            probed = probe(request.source, settings.limits)
            resolved = resolve(request, probed, max_pixels=settings.limits.max_pixels)
            log.note(*probed.damage, *resolved.notes)
        stopping.here("the source was probed")
        with log.stage("plan"):
            if not store.exists(f"runs/{run_id(resolved.spec)}/plan.json"):  # all is to be scored
                during.enter_context(engine.prepared())
            fleet = fleet_of(engine, settings.surroundings, options.preemptions_per_hour)
            plan = settle_plan(store, resolved.spec, probed, request.source, model, settings, fleet)
            log.note(*precision_notes(plan), *chunk_notes(plan))
        stopping.here("the plan was made")
        run = Run(request, resolved, settings, store, plan, log, joined)
        with sole_driver(store, run.id, run.follow(engine, stopping)) as awaited:
            report = run.make(engine, stopping, per_hour)
            if not options.keep:
                run.forget(keep_segments=awaited())
    return report


def _refuse_memory(engine: Engine, *urls: str) -> None:
    for url in urls:
        if url.startswith("memory://") and engine.name != "inline":
            raise RequestError(
                f"{url} is in the memory of this process alone, and engine {engine.name!r} has "
                "others; give --engine inline"
            )
