"""Old finished runs go, with what the system store keeps of them; targets are never touched."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from impasto.errors import RequestError
from impasto.frames import unused
from impasto.service.database import Database, sqlite_path
from impasto.service.records import OPEN
from impasto.service.runs import Runs
from impasto.service.tables import events_table, runs_table
from impasto.stores import Entry, Store

log = logging.getLogger(__name__)

DAY_S = 86_400.0
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed, or would be."""

    runs: tuple[str, ...]
    objects: int
    bytes: int


def clean_database(url: str, system: Store, *, ended_before: float, dry_run: bool) -> Removed:
    """Remove old runs from the database of a service, which may be running; see `Retention.remove`.

    Raises:
        RequestError: there is no such database.
    """
    if url.startswith("sqlite:") and not sqlite_path(url).is_file():
        raise RequestError(f"there is no database {str(sqlite_path(url))!r}")
    database = Database(url)
    try:
        retention = Retention(Runs(database), system, keep_s=0)
        return retention.remove(ended_before=ended_before, dry_run=dry_run)
    finally:
        database.close()


class Retention:
    """Removes runs that ended long ago.

    Args:
        runs: all of them.
        system: the store that keeps their plans, segments and logs.
        keep_s: how long after its end a run is kept; 0 keeps it for ever.
    """

    def __init__(self, runs: Runs, system: Store, *, keep_s: float) -> None:
        self._database = runs.database
        self._clock = runs.clock
        self._system = system
        self._keep_s = keep_s

    def tidy(self) -> None:
        """Remove what is older than it is kept."""
        if self._keep_s:
            removed = self.remove(ended_before=self._clock() - self._keep_s)
            if removed.runs:
                log.info("%d old runs removed, %d bytes", len(removed.runs), removed.bytes)

    def remove(self, *, ended_before: float, dry_run: bool = False) -> Removed:
        """Remove the runs that ended before then, with their objects in the system store.

        So goes what frames were joined into, where it is as old and no run that is left reads it.

        The objects go first: what is left of an interrupted removal is removed by the next.

        Args:
            ended_before: seconds since the epoch.
            dry_run: only say what would go.
        """
        gone: list[str] = []
        objects = freed = after = 0
        while batch := self._ended(ended_before, after):
            after = batch[-1].seq
            for old in batch:
                for entry in self._objects(old.run_id, old.plan_id):
                    objects, freed = objects + 1, freed + entry.bytes
                    if not dry_run:
                        self._system.delete(entry.key)
            if not dry_run:
                self._forget([old.run_id for old in batch])
            gone += [old.run_id for old in batch]
        aged = datetime.fromtimestamp(ended_before, UTC)
        for entry in unused(self._system, lambda plan: self._stays(plan, ended_before), aged):
            objects, freed = objects + 1, freed + entry.bytes
            if not dry_run:
                self._system.delete(entry.key)
        return Removed(tuple(gone), objects, freed)

    def _stays(self, plan_id: str, before: float) -> bool:
        """Whether a run that goes back to this plan did not end before then."""
        table = runs_table.c
        open_or_young = sa.or_(table.state.in_(OPEN), table.finished_at >= before)
        query = sa.select(table.seq).where(table.plan_id == plan_id, open_or_young)
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _ended(self, before: float, after: int) -> list[sa.Row[Any]]:
        table = runs_table.c
        query = (
            sa.select(table.seq, table.run_id, table.plan_id)
            .where(table.finished_at < before, table.state.not_in(OPEN), table.seq > after)
            .order_by(table.seq)
            .limit(_AT_ONCE)
        )
        with self._database.read() as connection:
            return list(connection.execute(query))

    def _objects(self, run_id: str, plan_id: str | None) -> list[Entry]:
        found = list(self._system.list(f"runs/{run_id}"))
        if plan_id is not None and not self._needed(plan_id, run_id):
            found += self._system.list(f"runs/{plan_id}")
        return found

    def _needed(self, plan_id: str, run_id: str) -> bool:
        """Whether another run goes back to this plan."""
        query = sa.select(runs_table.c.seq).where(
            runs_table.c.plan_id == plan_id, runs_table.c.run_id != run_id
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _forget(self, run_ids: list[str]) -> None:
        with self._database.transaction() as connection:
            for table in (events_table, runs_table):
                connection.execute(sa.delete(table).where(table.c.run_id.in_(run_ids)))
