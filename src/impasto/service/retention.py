"""Old finished runs go, with what the system store keeps of them; targets are never touched."""

import logging
from collections.abc import Iterator
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
from impasto.settle import unused_models
from impasto.stores import Entry, Store

log = logging.getLogger(__name__)

DAY_S = 86_400.0
_AT_ONCE = 20
_RUN = runs_table.c


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
        removed = retention.remove(ended_before=ended_before, dry_run=dry_run)
        if not dry_run:
            system.sweep(datetime.fromtimestamp(ended_before, UTC))
        return removed
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

        So go networks and what frames were joined into, where it is as old and no run that is left
        needs it.

        The rows go first, so that a run which is retried in this moment stays whole, or is not
        found any more. Where the process dies in between, a few runs' objects are left over, which
        `impasto runs clean --work` finds by their age.

        Args:
            ended_before: seconds since the epoch.
            dry_run: only say what would go.
        """
        gone: list[str] = []
        objects = freed = 0
        for entry in self._leaving(ended_before, gone, dry_run=dry_run):
            objects, freed = objects + 1, freed + entry.bytes
            if not dry_run:
                self._system.delete(entry.key)
        return Removed(tuple(gone), objects, freed)

    def _leaving(self, before: float, gone: list[str], *, dry_run: bool) -> Iterator[Entry]:
        """Yield what is to be removed; the ids of the runs that go are put into `gone`."""
        after = 0
        plans: set[str | None] = {None}
        while batch := self._ended(before, after) if dry_run else self._forget(before):
            after = batch[-1].seq
            gone += [old.run_id for old in batch]
            aged = {old.plan_id for old in batch} - plans
            plans |= aged
            unneeded = [plan for plan in aged if plan is not None and not self._stays(plan, before)]
            for each in [*(old.run_id for old in batch), *unneeded]:
                yield from list(self._system.list(f"runs/{each}"))
        aged_at = datetime.fromtimestamp(before, UTC)
        yield from unused(self._system, lambda plan: self._stays(plan, before), aged_at)
        yield from unused_models(self._system, self._plans(before), aged_at)

    def _plans(self, before: float) -> list[str]:
        """Of the runs that did not end before then."""
        query = sa.select(_RUN.plan_id).where(
            _RUN.plan_id.is_not(None), sa.not_(_ended_before(before))
        )
        with self._database.read() as connection:
            return list(connection.scalars(query.distinct()))

    def _stays(self, plan_id: str, before: float) -> bool:
        """Whether a run that goes back to this plan did not end before then."""
        query = sa.select(_RUN.seq).where(_RUN.plan_id == plan_id, sa.not_(_ended_before(before)))
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _ended(self, before: float, after: int) -> list[sa.Row[Any]]:
        """The next runs that ended before then."""
        query = (
            sa.select(_RUN.seq, _RUN.run_id, _RUN.plan_id)
            .where(_ended_before(before), _RUN.seq > after)
            .order_by(_RUN.seq)
            .limit(_AT_ONCE)
        )
        with self._database.read() as connection:
            return list(connection.execute(query))

    def _forget(self, before: float) -> list[sa.Row[Any]]:
        """Remove the rows of some runs that ended before then, but of none that is retried now."""
        seqs = [old.seq for old in self._ended(before, 0)]
        with self._database.transaction() as connection:
            removing = (
                sa.delete(runs_table)
                .where(_RUN.seq.in_(seqs), _ended_before(before))
                .returning(_RUN.seq, _RUN.run_id, _RUN.plan_id)
            )
            gone: list[sa.Row[Any]] = list(connection.execute(removing))
            run_ids = [old.run_id for old in gone]
            connection.execute(sa.delete(events_table).where(events_table.c.run_id.in_(run_ids)))
        return sorted(gone, key=lambda old: old.seq)


def _ended_before(moment: float) -> sa.ColumnElement[bool]:
    return sa.and_(_RUN.state.not_in(OPEN), _RUN.finished_at < moment)
