"""Attempts and their outcome, durable: DBOS carries a run on where a process that died left it.

Which run is next, the queue says; what it hands out becomes a workflow of two kinds of steps, the
attempts at the run and the settling of its outcome. A step that has ended is never made again. One
that a process died in is: an attempt is safe to repeat, since a run resumes from its segments.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from impasto.service.carrier import Carrier
from impasto.service.database import make_private
from impasto.service.queue import Ended, Handed

_QUEUE = "runs"
_VERSION = "1"
"""Of the workflow below: DBOS carries on none that was begun by another version of it."""
_POLL_S = 0.1
_FORGET_AT_ONCE = 500


class Workflows:
    """Carries runs out, so many at a time, each in a thread of its own.

    Args:
        url: of the database; SQLite's is a file beside the service's own.
        process: name of this process.
        carrier: makes the attempts.
        slots: runs at a time.
        attempts: how often a run is tried.
        pause_s: between the first two attempts; it doubles with each.
    """

    def __init__(
        self, url: str, process: str, carrier: Carrier, *, slots: int, attempts: int, pause_s: float
    ) -> None:
        from dbos import DBOS, DBOSConfig

        self._dbos = DBOS
        self._attempts, self._pause_s = attempts, pause_s
        logging.getLogger("dbos").setLevel(logging.WARNING)
        config = DBOSConfig(
            name="impasto",
            system_database_url=workflow_url(url),
            executor_id=process,
            application_version=_VERSION,
            enable_otlp=False,
            log_level="WARNING",
            max_executor_threads=slots + 8,
        )
        DBOS(config=config)
        self._carry_out = _define(carrier)
        DBOS.launch()
        DBOS.register_queue(
            _QUEUE,
            worker_concurrency=slots,
            polling_interval_sec=_POLL_S,
            on_conflict="always_update",
        )

    def start(self, handed: Handed) -> None:
        """Have a run carried out; one that has begun already goes on."""
        from dbos import SetWorkflowID

        with SetWorkflowID(handed.workflow_id):
            self._dbos.enqueue_workflow(
                _QUEUE, self._carry_out, handed.run_id, handed.generation,
                self._attempts, self._pause_s,
            )  # fmt: skip

    def state(self, handed: Handed) -> str | None:
        """What DBOS says of a run: ENQUEUED, PENDING, SUCCESS, ERROR …; None before its start."""
        found = self._dbos.list_workflows(
            workflow_ids=[handed.workflow_id], load_input=False, load_output=False
        )
        return found[0].status if found else None

    def resume(self, handed: Handed) -> None:
        """Have a run that a dead process had carried on by whoever has room."""
        self._dbos.resume_workflow(handed.workflow_id, queue_name=_QUEUE)

    def forget(self) -> int:
        """Remove what DBOS keeps of workflows that have ended: the queue knows their outcome."""
        ended = self._dbos.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            limit=_FORGET_AT_ONCE,
            load_input=False,
            load_output=False,
        )
        self._dbos.delete_workflows([one.workflow_id for one in ended])
        return len(ended)


def _define(carrier: Carrier) -> Any:
    from dbos import DBOS

    @DBOS.step(name="attempt")
    def attempt(run_id: str, generation: int, number: int) -> dict[str, Any] | None:
        ended = carrier.attempt(Handed(run_id, generation), number)
        return None if ended is None else dataclasses.asdict(ended)

    @DBOS.step(name="settle")
    def settle(run_id: str, generation: int, ended: dict[str, Any]) -> None:
        carrier.settle(Handed(run_id, generation), msgspec.convert(ended, Ended))

    @DBOS.workflow(name="carry_out", max_recovery_attempts=None)  # the queue counts what is lost
    def carry_out(run_id: str, generation: int, attempts: int, pause_s: float) -> None:
        for number in range(1, attempts + 1):
            ended = attempt(run_id, generation, number)
            if ended is None:
                return
            if ended["kind"] != "failed" or number == attempts:
                settle(run_id, generation, ended)
                return
            DBOS.sleep(pause_s * 2 ** (number - 1))

    return carry_out


def workflow_url(url: str) -> str:
    """Where DBOS keeps its tables: with PostgreSQL a schema of its own, otherwise another file."""
    made = sa.make_url(url)
    if made.get_backend_name() != "sqlite":
        return url
    path = Path(f"{made.database}.workflows")
    make_private(path)
    return made.set(database=str(path)).render_as_string(hide_password=False)
