"""One attempt at a run, from the queue's words to the process that makes it and back."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from impasto.errors import ImpastoError
from impasto.keys import from_json, segment_key, to_json
from impasto.observe import logs
from impasto.observe.redact import redact
from impasto.records import Done, Plan
from impasto.service.job import Order, Said
from impasto.service.jobs import Jobs, Made
from impasto.service.queue import Ended, Handed, Queue
from impasto.service.records import ServiceRun
from impasto.service.service import Service

log = logging.getLogger(__name__)

_TOLD = {"stage": str, "plan_id": str, "resolved_target": str, "frames_total": int,
         "frames_done": int, "losses": int}  # fmt: skip
"""What a run's process may change of its row: it has opened a stranger's file."""

_STATES = {"refused": "failed", "failed": "set_aside"}
"""What a run's state is called where the kind of its last attempt's end has another name."""


class Carrier:
    """Makes attempts at runs; from many threads.

    Args:
        service: its stores and settings.
        queue: of this process.
        jobs: the processes in which runs are made.
    """

    def __init__(self, service: Service, queue: Queue, jobs: Jobs) -> None:
        self._service = service
        self._queue = queue
        self._jobs = jobs
        self._stopping = threading.Event()
        self.on_settled: Callable[[], None] = lambda: None
        """Is called when there is room for another run."""

    def stop(self, *, within_s: float) -> None:
        """Have every run stop in good order; no attempt that is under way returns after this."""
        self._stopping.set()
        self._jobs.close(within_s=within_s)

    def attempt(self, handed: Handed, number: int) -> Ended | None:
        """Make attempt `number`, from 1 up; None when there was nothing to do any more."""
        run = self._queue.begin(handed, number)
        if run is None:
            return None
        if number == 1 and run.attempts == 0:
            log.info("run %s of %s begins: %r", run.run_id, run.user, run.source)

        def hear(said: Said) -> None:
            columns = {
                name: value
                for name, value in said.columns.items()
                if isinstance(value, _TOLD.get(name, ()))
            }
            self._queue.tell(handed, said.kind, said.data, **columns)

        made = self._jobs.make(run.run_id, self._order(run), hear, user=run.user)
        if self._stopping.is_set():
            # This process ends now. The attempt must not end before it, in whatever way: it is
            # under way until the next process begins it again.
            threading.Event().wait()
        return self._ended(handed, number, made)

    def _order(self, run: ServiceRun) -> Order:
        settings = self._service.settings
        return Order(
            media=self._service.media.url,
            system=self._service.system.url,
            source=run.source,
            style=run.style,
            model=run.model,
            target=run.target,
            options=run.options,
            engine=self.engine,
            workers=settings.workers,
            resumed=run.plan_id is not None,
            log=run.run_id,
        )

    @property
    def engine(self) -> str:
        """Name of the engine that makes runs: the configured one.

        Else in the run's own process where a single worker does, and no key is in its reach. It
        drives the run, so it holds the keys of remote stores; workers of "local" don't.
        """
        from impasto.engines.local import LocalEngine

        settings = self._service.settings
        if settings.engine is not None:
            return settings.engine
        remote = any("://" in store.url for store in (self._service.media, self._service.system))
        return "local" if remote or LocalEngine(settings.workers).workers > 1 else "inline"

    def _ended(self, handed: Handed, number: int, made: Made) -> Ended:
        ending = made.ending
        if ending is not None and ending.kind == "succeeded":
            return Ended("succeeded", report=ending.report)
        if handed.run_id in self._queue.cancelling():
            return Ended("cancelled")
        self._keep_log(handed, number, made)
        if ending is not None and ending.kind == "refused":
            return Ended("refused", redact(made.error))
        error = redact(made.error) or "the run's process was told to stop by somebody else"
        self._queue.count_attempt(handed, number, error)
        log.warning("run %s failed, attempt %d: %s", handed.run_id, number, error)
        return Ended("failed", error)

    def _keep_log(self, handed: Handed, number: int, made: Made) -> None:
        """Put what the process printed and nobody took into the run's log."""
        run = self._service.runs.get(handed.run_id)
        base = logs.Line(time=logs.now(), run=run.run_id, text="", stage=run.progress.stage,
                         attempt=number)  # fmt: skip
        printed = redact(made.log.decode(errors="replace")).splitlines()
        lines = [replace(base, text=text, printed=True) for text in printed]
        lines.append(replace(base, text=redact(made.error), level="error"))
        key = f"{logs.folder(run.run_id)}/job-{handed.generation}-{number}.jsonl"
        system = self._service.system
        try:
            system.put(key, b"".join(map(logs.encode, lines)))
            system.put(f"runs/{run.run_id}/request.json", to_json(self._request(run)))
        except ImpastoError as error:  # the attempt's outcome counts for more than its log
            log.warning("run %s: its log is lost: %s", handed.run_id, error)

    def _request(self, run: ServiceRun) -> dict[str, Any]:
        """What was asked for, as a run keeps it."""
        media = self._service.media.url.rstrip("/")
        asked = {"model": run.model} if run.style is None else {"style": run.style}
        target = run.target and f"{media}/{run.target}"
        source = f"{media}/{run.source}"
        return {"source": source, "target": target, **asked, "options": run.options}

    def settle(self, handed: Handed, ended: Ended) -> None:
        """Write down how a run ended, for good, and remove what nobody needs any more."""
        if ended.kind == "succeeded":
            self._forget_segments(handed.run_id)
        self._queue.settle(handed, ended)
        state = _STATES.get(ended.kind, ended.kind)
        why = f": {ended.error}" if ended.error else ""
        log.info("run %s has ended: %s%s", handed.run_id, state, why)
        self.on_settled()

    def _forget_segments(self, run_id: str) -> None:
        """Remove a finished run's segments, keeping what they say of each frame's time."""
        plan_id = self._service.runs.get(run_id).plan_id
        if plan_id is None or self._queue.shared(plan_id, run_id):
            return
        system = self._service.system
        try:
            plan = from_json(system.get(f"runs/{plan_id}/plan.json"), Plan)
            done = [
                from_json(system.get(f"{segment_key(plan, c)}.json"), Done) for c in plan.chunks
            ]
            system.put(f"runs/{plan_id}/timings.json", to_json(_timings(plan, done)))
            for entry in list(system.list(f"runs/{plan_id}/segments")):
                system.delete(entry.key)
        except (FileNotFoundError, ValueError):
            return  # a picture has no plan, and what another run has removed is gone already
        except ImpastoError as error:  # retention removes them with the run
            log.warning("run %s: its segments stay for now: %s", run_id, error)


def _timings(plan: Plan, done: list[Done]) -> dict[str, Any]:
    return {
        "chunks": [
            {"chunk": one.chunk, "start": chunk.start, "stop": chunk.stop, "worker": one.worker,
             "wall_s": one.wall_s, "stage_s": one.stage_s, "frame_s": one.frame_s}
            for chunk, one in zip(plan.chunks, done, strict=True)
        ]
    }  # fmt: skip
