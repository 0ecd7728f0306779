"""The steps of a run whose plan is settled: score → stitch → verify → publish → report."""

import contextlib
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from impasto.attempts import Attempts, Scored
from impasto.driving import Driver
from impasto.errors import ImpastoError, RunFailed, SegmentGone
from impasto.fleet import Cost, cost_of
from impasto.frames import JoinedFolder, claim, release
from impasto.keys import from_json, run_id, segment_key, to_json
from impasto.media.probe import file_digest
from impasto.media.publish import publishing, refuse
from impasto.media.stitch import MUXERS, stitch
from impasto.media.verify import Expectation, verify
from impasto.observe import logs
from impasto.protocols import Engine
from impasto.records import (
    Check,
    Chunk,
    ChunkCounts,
    Done,
    Failed,
    Plan,
    Planned,
    Report,
    StageBegan,
    Task,
)
from impasto.request import Request, Resolved, as_json
from impasto.settings import Settings
from impasto.stopping import Stopping
from impasto.stores import Place, Store, StoredFile, address, etag_of, handed
from impasto.story import Story
from impasto.timesheet import Timesheet
from impasto.worker import peak_memory_mb, worker_name

_JOINS = 3
"""Times that segments may be gone when they are to be joined."""


@dataclass(frozen=True, slots=True)
class Run:
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
        """Of the run."""
        return run_id(self.plan.spec)

    def follow(self, engine: Engine, stopping: Stopping) -> Callable[[Driver], None]:
        """Say that another one drives this run, and how far it is."""
        seen = -1

        def look(other: Driver) -> None:
            nonlocal seen
            stopping.here("the plan was made")
            self.log.note(f"{other.name} is at work on run {self.id}; waiting for it")
            there = self.store.list(f"runs/{self.id}/segments")
            names = [entry.key.rpartition("/")[2] for entry in there]
            done = sorted(int(name[:6]) for name in names if name.endswith(".mkv"))
            if len(done) != seen:
                seen = len(done)
                self._tell_plan(engine, done)

        return look

    def make(self, engine: Timesheet, stopping: Stopping, per_hour: float | None) -> Report:
        """Score what is missing, join it, prove it and publish it."""
        options, target, log = self.request.options, self.resolved.target, self.log
        refuse(target, force=self.resolved.force or options.resumed)  # it may be another's by now
        if self.joined is not None:
            claim(self.store, self.joined, self.id, self.plan.source)
        self.put("request.json", as_json(self.request, target))
        log.journal.say(f"{self.request.named} becomes {target}")
        if options.log is None:
            self._forget_earlier()
            log.journal.keep_in(self.store, self.id)
        scored = self.score(engine, stopping)
        with publishing(target, force=self.resolved.force, resumed=options.resumed) as unfinished:
            scored = self.join(unfinished, engine, scored, stopping)
            checks = self.verify(unfinished)
        made = self.report(engine, scored, checks, per_hour)
        self.put("report.json", made)
        return made

    def _forget_earlier(self) -> None:
        """Remove the report and the log of an earlier one, whose target may be gone."""
        report = f"runs/{self.id}/report.json"
        if self.store.exists(report):
            self.store.delete(report)
            logs.forget(self.store, self.id)

    def put(self, name: str, record: Any) -> None:
        """Keep a record of the run."""
        self.store.put(f"runs/{self.id}/{name}", to_json(record))

    def score(self, engine: Engine, stopping: Stopping) -> Scored:
        """Have the engine score every chunk that has no segment yet; try a failed one again."""
        plan, log = self.plan, self.log
        scored = Scored(self._finished())
        scored.reused = frozenset(scored.done)
        log.hear(StageBegan("score"))
        self._tell_plan(engine, scored.done)
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

    def _tell_plan(self, engine: Engine, done: Collection[int]) -> None:
        plan = self.plan
        self.log.hear(
            Planned(self.id, plan.source, plan.chunks, tuple(done), engine.name,
                    engine.workers, plan.precision, str(self.resolved.target))
        )  # fmt: skip

    def _keep_log(self, failed: Failed) -> None:
        count = len(self.plan.chunks)
        try:
            kept = self.request.options.log or self.id
            logs.keep_attempt(self.store, kept, failed, failed.log, chunks=count)
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
                scored = scored.then(self.score(engine, stopping))
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

    def forget(self, *, keep_segments: bool) -> None:
        """Remove segments, and what frames were joined into: the target is finished and proven."""
        if self.joined is not None:
            release(self.store, self.joined, self.id)
        if keep_segments:
            return
        for entry in list(self.store.list(f"runs/{self.id}/segments")):
            self.store.delete(entry.key)


def _peak_memory_mb(done: Collection[Done]) -> float | None:
    peaks = {worker_name(): peak_memory_mb()}
    for each in done:
        peaks[each.worker] = max(peaks.get(each.worker) or 0.0, each.peak_memory_mb or 0.0)
    known = [peak for peak in peaks.values() if peak]
    return round(sum(known), 1) if known else None
