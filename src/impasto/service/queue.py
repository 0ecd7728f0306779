"""Whose run is next, who has it, and what became of it; one transaction each.

Users take turns: whoever has the fewest runs under way is next, and among those whoever was served
longest ago. So a flood of one user's delays another's run by one running job at most. Every step of
a run's names its generation, which `Runs.retry` raises: what a process says late is not heard.
"""

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from impasto.service.database import metadata
from impasto.service.records import OPEN, ServiceRun
from impasto.service.runs import Runs, as_run, change, record
from impasto.service.tables import runs_table, turns_table

_LOSSES = 10
"""Times that a run may take the service's process with it without a chunk done in between."""

processes_table = sa.Table(
    "processes",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("heard_at", sa.Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Handed:
    """A run that a process has taken to carry it out."""

    run_id: str
    generation: int

    @property
    def workflow_id(self) -> str:
        """Name of the workflow that carries it out."""
        return f"{self.run_id}-{self.generation}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended."""

    kind: Literal["succeeded", "refused", "failed", "cancelled"]
    """`refused`: the request is wrong, and no other attempt would help."""
    error: str | None = None
    report: dict[str, Any] | None = None


class Queue:
    """The runs that wait, as those see them who carry them out; safe from several processes.

    Args:
        runs: all of them.
        process: name of this process, unlike every other's, now and before.
        lost_after_s: how long a process may be silent before it is taken for dead.
    """

    def __init__(self, runs: Runs, process: str, *, lost_after_s: float = 30.0) -> None:
        self._runs = runs
        self._database = runs.database
        self._clock = runs.clock
        self.process = process
        self._lost_after_s = lost_after_s
        self._heard_at = self._steady_since = 0.0
        """When this process was heard last, and since when without a long pause."""
        self._database.create(processes_table)

    def now(self) -> float:
        """Seconds since the epoch, by the clock that all this is counted in."""
        return self._clock()

    def join(self) -> None:
        """Say that this process is there."""
        now = self._clock()
        with self._database.transaction() as connection:
            connection.execute(sa.insert(processes_table).values(name=self.process, heard_at=now))
        self._heard_at = self._steady_since = now

    def beat(self) -> bool:
        """Say that this process lives; False when it was taken for dead, and its runs are gone."""
        table, now = processes_table, self._clock()
        with self._database.transaction() as connection:
            known = connection.execute(
                sa.update(table).where(table.c.name == self.process).values(heard_at=now)
            )
        if now - self._heard_at > self._lost_after_s / 2:
            self._steady_since = now
        self._heard_at = now
        return bool(known.rowcount)

    def processes(self) -> dict[str, float]:
        """Every process of the service that lives or died untidily, and when it was heard last."""
        with self._database.read() as connection:
            return {
                row.name: row.heard_at for row in connection.execute(sa.select(processes_table))
            }

    def take(self, room: int) -> list[Handed]:
        """Take waiting runs until this process has `room` runs, each by the rule of turns."""
        with self._database.read() as connection:  # mostly there is nothing, and no lock is needed
            if connection.execute(_waiting().limit(1)).first() is None:
                return []
        taken = []
        with self._database.transaction(lock="queue") as connection:
            mine = connection.scalar(
                sa.select(sa.func.count())
                .select_from(runs_table)
                .where(runs_table.c.owner == self.process)
            )
            for _ in range(room - (mine or 0)):
                user = _next_user(connection)
                if user is None:
                    break
                taken.append(self._take(connection, user))
        return taken

    def _take(self, connection: sa.Connection, user: str) -> Handed:
        row = connection.execute(
            sa.select(runs_table.c.run_id, runs_table.c.generation)
            .where(runs_table.c.state == "queued", runs_table.c.owner.is_(None))
            .where(runs_table.c.user == user)
            .order_by(runs_table.c.priority.desc(), runs_table.c.seq)
            .limit(1)
        ).one()
        change(connection, row.run_id, owner=self.process)
        connection.execute(
            sa.update(turns_table).where(turns_table.c.user == user).values(served_at=self._clock())
        )
        return Handed(row.run_id, row.generation)

    def adopt(self, *, alone: bool = False) -> list[Handed]:
        """Take over the runs of processes that have left or are dead; those are forgotten.

        Dead is who was not heard of for `lost_after_s` while this process was. What silences this
        one, such as a database that was away, has maybe silenced all: then they have as long again.

        Whoever adopts must see to it that each is carried out, though it may be under way: what
        belongs to this process is adopted by the next if it dies in the midst of that.

        Args:
            alone: no other process can be using this database, so every other one is dead.
        """
        table, silent_since = processes_table, self._clock() - self._lost_after_s
        if alone:
            silent_since = float("inf")
        elif self._steady_since > silent_since:
            silent_since = float("-inf")
        with self._database.transaction(lock="queue") as connection:
            dead = list(
                connection.scalars(
                    sa.select(table.c.name).where(
                        table.c.heard_at < silent_since, table.c.name != self.process
                    )
                )
            )
            living = sa.select(table.c.name).where(table.c.name.notin_(dead))
            orphaned = runs_table.c.owner.is_not(None) & runs_table.c.owner.notin_(living)
            orphans = connection.execute(
                sa.select(runs_table.c.run_id, runs_table.c.generation).where(orphaned)
            ).all()
            if orphans:
                connection.execute(sa.update(runs_table).where(orphaned).values(owner=self.process))
            connection.execute(sa.delete(table).where(table.c.name.in_(dead)))
        return [Handed(row.run_id, row.generation) for row in orphans]

    def begin(self, handed: Handed, attempt: int) -> ServiceRun | None:
        """Say that this process makes an attempt now; None when there is nothing to do any more.

        An attempt that was begun before has lost its process. It may be what kills: after too many
        such losses in a row the run is set aside.
        """
        now = self._clock()
        with self._database.transaction() as connection:
            row = _open(connection, handed)
            if row is None:
                return None
            losses = row.losses + (row.begun == attempt)
            if row.cancelling:
                self._end(connection, handed.run_id, "cancelled", now)
                return None
            if losses > _LOSSES:
                error = f"the service's process ended {losses} times while this run was under way"
                self._end(connection, handed.run_id, "set_aside", now, error=error)
                return None
            change(
                connection, handed.run_id, state="running", owner=self.process, losses=losses,
                begun=attempt, started_at=row.started_at or now,
            )  # fmt: skip
            if row.state != "running":
                record(connection, handed.run_id, now, "state", {"state": "running"})
            return as_run(row)

    def tell(self, handed: Handed, kind: str, data: dict[str, Any], **columns: Any) -> None:
        """Append an event to a run's and change its row, both or neither."""
        with self._database.transaction() as connection:
            if _open(connection, handed) is None:
                return
            if columns:
                change(connection, handed.run_id, **columns)
            record(connection, handed.run_id, self._clock(), kind, data)

    def count_attempt(self, handed: Handed, attempt: int, error: str) -> None:
        """Say that attempt number `attempt`, from 1 up, has failed; saying it again is harmless."""
        with self._database.transaction() as connection:
            row = _open(connection, handed)
            if row is None or row.attempts >= attempt:
                return
            change(connection, handed.run_id, attempts=attempt, error=error)
            data = {"attempt": attempt, "error": error}
            record(connection, handed.run_id, self._clock(), "attempt", data)

    def settle(self, handed: Handed, ended: Ended) -> None:
        """Say how a run ended, for good; saying it again is harmless."""
        with self._database.transaction() as connection:
            row = _open(connection, handed)
            if row is None:
                return
            now, run_id = self._clock(), handed.run_id
            match ended.kind:
                case "succeeded":
                    frames = (ended.report or {}).get("frames", row.frames_total)
                    self._end(connection, run_id, "succeeded", now, error=None,
                              report=ended.report, frames_done=frames)  # fmt: skip
                case "refused":
                    self._end(connection, run_id, "failed", now, error=ended.error)
                case "failed":
                    self._end(connection, run_id, "set_aside", now, error=ended.error)
                case "cancelled":
                    self._end(connection, run_id, "cancelled", now)

    def _end(
        self, connection: sa.Connection, run_id: str, state: str, now: float, **columns: Any
    ) -> None:
        change(
            connection, run_id, state=state, finished_at=now, owner=None, cancelling=False,
            losses=0, begun=0, **columns,
        )  # fmt: skip
        told = {"state": state}
        if columns.get("error"):
            told["error"] = columns["error"]
        record(connection, run_id, now, "state", told)

    def cancelling(self) -> set[str]:
        """The runs of this process that somebody has cancelled."""
        query = sa.select(runs_table.c.run_id).where(
            runs_table.c.owner == self.process, runs_table.c.cancelling
        )
        with self._database.read() as connection:
            return set(connection.scalars(query))

    def owned(self) -> list[Handed]:
        """The runs that this process has taken, and no other has begun since."""
        query = sa.select(runs_table.c.run_id, runs_table.c.generation)
        with self._database.read() as connection:
            rows = connection.execute(query.where(runs_table.c.owner == self.process)).all()
        return [Handed(row.run_id, row.generation) for row in rows]

    def release(self, handed: Handed) -> bool:
        """Give a run back to those that wait: what carried it out broke off.

        Returns:
            False where it has ended meanwhile.
        """
        with self._database.transaction(lock="queue") as connection:
            if _open(connection, handed) is None:
                return False
            change(
                connection, handed.run_id, state="queued", owner=None,
                generation=handed.generation + 1,
            )  # fmt: skip
            return True

    def shared(self, plan_id: str, run_id: str) -> bool:
        """Whether another run that has not ended works with the same plan and segments."""
        query = sa.select(runs_table.c.seq).where(
            runs_table.c.plan_id == plan_id,
            runs_table.c.run_id != run_id,
            runs_table.c.state.in_(OPEN),
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def leave(self) -> None:
        """Say that this process ends: whatever it had may be adopted at once."""
        table = processes_table
        with self._database.transaction() as connection:
            connection.execute(sa.delete(table).where(table.c.name == self.process))


def _open(connection: sa.Connection, handed: Handed) -> Any:
    """The row of a run that is of this generation and has not ended; nobody else changes it."""
    return connection.execute(
        sa.select(runs_table)
        .where(
            runs_table.c.run_id == handed.run_id,
            runs_table.c.generation == handed.generation,
            runs_table.c.state.in_(OPEN),
        )
        .with_for_update()
    ).one_or_none()


def _waiting() -> sa.Select[Any]:
    return sa.select(runs_table.c.user).where(
        runs_table.c.state == "queued", runs_table.c.owner.is_(None)
    )


def _next_user(connection: sa.Connection) -> str | None:
    """Whose turn it is among those who have a run waiting."""
    waiting = _waiting().distinct().subquery()
    busy = (
        sa.select(runs_table.c.user, sa.func.count().label("runs"))
        .where(runs_table.c.owner.is_not(None))
        .group_by(runs_table.c.user)
        .subquery()
    )
    return connection.scalar(
        sa.select(waiting.c.user)
        .join(busy, busy.c.user == waiting.c.user, isouter=True)
        .join(turns_table, turns_table.c.user == waiting.c.user, isouter=True)
        .order_by(sa.func.coalesce(busy.c.runs, 0), turns_table.c.served_at, waiting.c.user)
        .limit(1)
    )
