"""The whole flow of a run on one page: probe → plan → score → stitch → verify → report."""

import contextlib
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from impasto.attempts import Attempts, Scored
from impasto.engines import open_engine
from impasto.errors import ImpastoError, RequestError, RunFailed, SegmentGone
from impasto.fleet import Cost, cost_of, find_price
from impasto.frames import JoinedFolder, claim, find_folder, join_folder, release
from impasto.keys import from_json, run_id, segment_key, to_json
from impasto.media.probe import file_digest, probe
from impasto.media.publish import publishing, refuse
from impasto.media.still import is_still
from impasto.media.stitch import MUXERS, stitch
from impasto.media.verify import Expectation, verify
from impasto.observe import logs
from impasto.painting import prepare, refuse_knobs
from impasto.picture import paint_picture
from impasto.protocols import Engine
from impasto.records import (
    Check,
    Chunk,
    ChunkCounts,
    Done,
    Event,
    Failed,
    Noted,
    Plan,
    Planned,
    Report,
    ScorerSpec,
    Settings,
    StageBegan,
    Task,
)
from impasto.request import Options, Request, Resolved, as_json, read_model, resolve, scorer_spec
from impasto.runtimes.rehearse import rehearse
from impasto.settle import chunk_notes, fleet_of, precision_notes, settle_plan
from impasto.stopping import Stopping
from impasto.stores import Place, Store, StoredFile, address, etag_of, handed, locate, open_store
from impasto.story import Story
from impasto.styles import Blend, find_style
from impasto.timesheet import Timesheet
from impasto.worker import peak_memory_mb, worker_name

__all__ = ["Options", "score", "stylize"]

_JOINS = 3
"""Times that segments may be gone when they are to be joined."""


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
    with Stopping() as stopping, log.ending():
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
            fleet = fleet_of(engine, settings.surroundings, options.preemptions_per_hour)
            plan = settle_plan(store, resolved.spec, probed, request.source, model, settings, fleet)
            log.note(*precision_notes(plan), *chunk_notes(resolved.spec, plan))
        stopping.here("the plan was made")
        run = _Run(request, resolved, settings, store, plan, log, joined)
        if joined is not None:
            claim(store, joined, run.id, probed)
        run.put("request.json", as_json(request, resolved.target))
        if store.exists(f"runs/{run.id}/report.json"):  # of an earlier one; its target may be gone
            store.delete(f"runs/{run.id}/report.json")
            logs.forget(store, run.id)
        log.journal.say(f"{request.named} becomes {resolved.target}")
        log.journal.keep_in(store, run.id)
        scored = run.score(engine, stopping)
        with publishing(
            resolved.target, force=resolved.force, resumed=options.resumed
        ) as unfinished:
            scored = run.join(unfinished, engine, scored, stopping)
            checks = run.verify(unfinished)
    report = run.report(engine, scored, checks, per_hour)
    run.put("report.json", report)
    if not options.keep:
        run.forget()
    return report


def _refuse_memory(engine: Engine, *urls: str) -> None:
    for url in urls:
        if url.startswith("memory://") and engine.name != "inline":
            raise RequestError(
                f"{url} is in the memory of this process alone, and engine {engine.name!r} has "
                "others; give --engine inline"
            )


@dataclass(frozen=True, slots=True)
class _Run:
    """A run whose plan is settled."""

    request: Request
    resolved: Resolved
    settings: Settings
    store: Store
    plan: Plan
    log: Story
    joined: JoinedFolder | None  # where the source is a folder of frames

    @property
    def id(self) -> str:
        return run_id(self.plan.spec)

    def put(self, name: str, record: Any) -> None:
        self.store.put(f"runs/{self.id}/{name}", to_json(record))

    def score(self, engine: Engine, stopping: Stopping) -> Scored:
        """Have the engine score every chunk that has no segment yet; try a failed one again."""
        plan, log = self.plan, self.log
        scored = Scored(self._finished())
        scored.reused = frozenset(scored.done)
        log.hear(StageBegan("score"))
        log.hear(
            Planned(self.id, plan.source, plan.chunks, tuple(scored.done), engine.name,
                    engine.workers, plan.precision)
        )  # fmt: skip
        attempts = Attempts(
            engine,
            self._task(),
            plan,
            self.request.options.restarts,
            stopping,
            log.hear,
            log.note,
            self._keep_log,
        )
        attempts.make(scored)
        return scored

    def _keep_log(self, failed: Failed) -> None:
        count = len(self.plan.chunks)
        try:
            logs.keep_attempt(self.store, self.id, failed, failed.log, chunks=count)
        except ImpastoError as error:  # an attempt may succeed where its log can't be kept
            self.log.note(f"the log of chunk {failed.chunk} is lost: {error}")

    def _task(self) -> Task:
        return Task(
            run_id=self.id,
            source=address(self.request.source),
            etag=etag_of(self.request.source),
            system=self.store.url,
            limits=self.settings.limits,
            scheduled_events=self.settings.surroundings.scheduled_events,
            access=handed(self.request.source, self.store),
        )

    def _finished(self) -> dict[int, Done]:
        """Find the chunks that have their segment already."""
        there = {entry.key for entry in self.store.list(f"runs/{self.id}/segments")}
        keys = {chunk.index: segment_key(self.plan, chunk) for chunk in self.plan.chunks}
        found = {}
        for index, key in keys.items():
            if {f"{key}.mkv", f"{key}.json"} <= there:
                with contextlib.suppress(ValueError, FileNotFoundError):  # damaged: score it again
                    done = from_json(self.store.get(f"{key}.json"), Done)
                    segment = self.store.get(f"{key}.mkv")
                    if hashlib.sha256(segment).hexdigest() == done.segment:
                        found[index] = done
                        continue
                self.store.delete(f"{key}.mkv")
        return found

    def join(
        self, unfinished: Path, engine: Timesheet, scored: Scored, stopping: Stopping
    ) -> Scored:
        """Stitch, and score again what another run of the same spec removed when it was done."""
        for _ in range(_JOINS - 1):
            try:
                self.stitch(unfinished)
                return scored
            except SegmentGone as gone:
                self.log.note(f"{gone}, as another run with it has finished; scored again")
                scored = self.score(engine, stopping)
        self.stitch(unfinished)
        return scored

    def stitch(self, unfinished: Path) -> None:
        """Write what will become the target."""
        with self.log.stage("stitch"):
            notes = stitch(
                self.request.source,
                self.plan,
                lambda index: self._segment(self.plan.chunks[index]),
                unfinished,
                muxer=MUXERS[self.resolved.target.suffix.lower()],
                limits=self.settings.limits,
            )
            self.log.note(*notes)

    def _segment(self, chunk: Chunk) -> bytes:
        key = segment_key(self.plan, chunk)
        try:
            data, record = self.store.get(f"{key}.mkv"), self.store.get(f"{key}.json")
        except FileNotFoundError:
            raise SegmentGone(f"segment {chunk.index} is gone from the store") from None
        if hashlib.sha256(data).hexdigest() != from_json(record, Done).segment:
            self.store.delete(f"{key}.mkv")
            raise RunFailed(
                f"segment {chunk.index} was damaged in the store and removed; run again"
            )
        return data

    def verify(self, unfinished: Path) -> tuple[Check, ...]:
        """Prove that it holds everything.

        Raises:
            RunFailed: it does not, or the source is no longer the one that was probed.
        """
        spec, source = self.plan.spec, self.request.source
        expect = Expectation(
            start=spec.start, stop=spec.stop, width=spec.encode.width, height=spec.encode.height
        )
        limits = self.settings.limits
        with self.log.stage("verify"):
            checks = verify(
                source, unfinished, source=self.plan.source, expect=expect, limits=limits
            )
            wrong = [f"{c.name}: {c.expected} became {c.found}" for c in checks if not c.ok]
            if wrong:
                raise RunFailed(f"the target is not right ({'; '.join(wrong)}), so it was not kept")
            if self._changed(source):
                raise RunFailed(f"{str(self.request.named)!r} changed during the run; run again")
        return checks

    def _changed(self, source: Place) -> bool:
        if self.joined is not None and self.joined.folder.changed():
            return True
        if isinstance(source, StoredFile):  # all that was read had the etag of the probe
            return source.changed()
        return file_digest(source) != self.plan.source.digest

    def report(
        self,
        engine: Timesheet,
        scored: Scored,
        checks: tuple[Check, ...],
        per_hour: float | None,
    ) -> Report:
        """Sum up what was done."""
        plan, done = self.plan, scored.done.values()
        frames, wall_s = plan.spec.stop - plan.spec.start, self.log.wall_s
        busy = {
            name: sum(d.stage_s.get(name, 0.0) for d in done)
            for name in ("decode", "score", "encode")
        }
        stage_s = {"probe": 0.0, "plan": 0.0, **busy} | self.log.stage_s
        per_frame = sorted(s for d in done for s in d.frame_s)
        return Report(
            run_id=self.id,
            source=str(self.request.named),
            target=str(self.resolved.target),
            scorer=plan.spec.scorer.name,
            frames=frames,
            wall_s=round(wall_s, 3),
            frames_per_s=round(frames / wall_s, 3),
            chunks=ChunkCounts(len(plan.chunks), len(scored.reused), scored.retried, scored.failed),
            replaced_frames=sum(len(d.replaced) for d in done),
            engine=engine.name,
            workers=engine.workers,
            runtime="openvino" if plan.spec.scorer.optimise is None else "pytorch",
            device=next(d.device for d in done),
            precision=plan.precision,
            stage_s={name: round(seconds, 3) for name, seconds in stage_s.items()},
            verified=True,
            checks=checks,
            notes=tuple(self.log.notes),
            gate_db=plan.gate_db,
            peak_memory_mb=_peak_memory_mb([d for d in done if d.chunk not in scored.reused]),
            frame_s={"min": per_frame[0], "median": median(per_frame), "max": per_frame[-1]},
            restarts=scored.restarts,
            cost=self._cost(engine, per_hour),
        )

    def _cost(self, engine: Timesheet, per_hour: float | None) -> Cost:
        """Everything that no worker did was done by one machine, this one."""
        alone_s = sum(self.log.stage_s.values())
        used = cost_of({**engine.node_s(), "driver": alone_s}, per_hour)
        return replace(used, workers=engine.times())

    def forget(self) -> None:
        """Remove segments, and what frames were joined into: the target is finished and proven."""
        if self.joined is not None:
            release(self.store, self.joined, self.id)
        for entry in list(self.store.list(f"runs/{self.id}/segments")):
            self.store.delete(entry.key)


def _peak_memory_mb(done: Collection[Done]) -> float | None:
    peaks = {worker_name(): peak_memory_mb()}
    for each in done:
        peaks[each.worker] = max(peaks.get(each.worker) or 0.0, each.peak_memory_mb or 0.0)
    known = [peak for peak in peaks.values() if peak]
    return round(sum(known), 1) if known else None
