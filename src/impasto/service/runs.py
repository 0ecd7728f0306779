"""Every run of the service: accepted, looked up, listed, cancelled, retried; one transaction each.

A run is accepted when `submit` returns: it stands in the database then, and will be carried out
whatever happens to this process. What carries it out changes it through `queue.Queue`.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from impasto.errors import Conflict, NotFound, RequestError
from impasto.keys import digest
from impasto.service.database import Database
from impasto.service.limits import Quota, next_arrival, refuse_open, refuse_size
from impasto.service.records import (
    OPEN,
    Page,
    RunEvent,
    RunProgress,
    RunState,
    ServiceRun,
    Submission,
)
from impasto.service.submissions import check
from impasto.service.tables import events_table, runs_table, turns_table

_MAX_PAGE = 500

_WHO: sa.BindParameter[str] = sa.bindparam("who")
_CHARGED = sa.select(
    sa.select(turns_table.c.arrival)
    .where(turns_table.c.user == _WHO)
    .scalar_subquery()
    .label("arrival"),
    sa.select(sa.func.count())
    .select_from(runs_table)
    .where(runs_table.c.user == _WHO, runs_table.c.state.in_(OPEN))
    .scalar_subquery()
    .label("open_runs"),
)
_RECORDING = sa.insert(events_table)
_LISTED = [
    column if column.name != "report" else sa.null().label("report") for column in runs_table.c
]

Along = Callable[[sa.Connection, ServiceRun], None]
"""What is done with a run in the transaction that accepts it."""


class Runs:
    """The runs in a database; safe from any thread and several processes.

    Args:
        database: where they are kept; the tables are made when missing.
        quota: what one user may ask for.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        quota: Quota | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.quota = quota or Quota()
        self.clock = clock
        database.create(runs_table, events_table, turns_table)
        # Built once: building costs as much as executing.
        adding = database.insert(runs_table).on_conflict_do_nothing()
        self._adding = adding.returning(runs_table.c.seq)
        turn = database.insert(turns_table)
        self._taking_turn = turn.on_conflict_do_update(
            index_elements=["user"], set_={"arrival": turn.excluded.arrival}
        )

    def submit(
        self, submission: Submission, *, also: Along | None = None
    ) -> tuple[ServiceRun, bool]:
        """Accept a run: it is durable when this returns.

        Args:
            submission: what is asked for.
            also: does what else is to be durable with it, in the same transaction.

        Returns:
            The run, and whether it was newly made; False where the same idempotency key or content
            has one already.

        Raises:
            RequestError: the submission is wrong, or its idempotency key belongs to another.
            LimitExceeded: the user has asked for too much.
        """
        check(submission)
        same = _digest(submission)
        now = self.clock()

        def accept(connection: sa.Connection) -> tuple[ServiceRun, bool]:
            run, new = self._accept(connection, submission, same, now)
            if also is not None:
                also(connection, run)
            return run, new

        return self.database.grouped(accept, lock=f"user {submission.user}")

    def _accept(
        self, connection: sa.Connection, submission: Submission, same: str, now: float
    ) -> tuple[ServiceRun, bool]:
        if (found := _known(connection, submission, same)) is not None:
            return found, False
        refuse_size(submission.source_bytes, self.quota)
        self._charge(connection, submission.user, now)
        run = _queued(submission, now)
        if connection.execute(self._adding, _row(run, submission, same)).first() is None:
            # With PostgreSQL another user's may have added the same content.
            found = _known(connection, submission, same)
            assert found is not None
            return found, False
        record(connection, run.run_id, now, "state", {"state": "queued"})
        return run, True

    def known(self, submission: Submission) -> bool:
        """Whether this submission has made a run before, by its idempotency key or content.

        Raises:
            RequestError: its idempotency key belongs to another.
        """
        with self.database.read() as connection:
            return _known(connection, submission, _digest(submission)) is not None

    def get(self, run_id: str) -> ServiceRun:
        """One run.

        Raises:
            NotFound: there is none of that id.
        """
        with self.database.read() as connection:
            return as_run(_one(connection, run_id))

    def page(
        self,
        *,
        user: str | None = None,
        state: RunState | None = None,
        style: str | None = None,
        source: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Some runs, the latest first, without their reports.

        Args:
            user: only this user's.
            state: only those in this state.
            style: only those of this style, or model's path.
            source: only those whose source begins so.
            after: cursor: `next` of the page before.
            limit: runs on a page, 1…500.

        Raises:
            RequestError: a wrong limit or cursor.
        """
        if not 1 <= limit <= _MAX_PAGE:
            raise RequestError(f"limit must lie between 1 and {_MAX_PAGE}, got {limit}")
        query = sa.select(*_LISTED).order_by(runs_table.c.seq.desc()).limit(limit + 1)
        exact = {"user": user, "state": state, "style_name": style}
        for column, value in exact.items():
            if value is not None:
                query = query.where(runs_table.c[column] == value)
        if source is not None:
            query = query.where(runs_table.c.source.startswith(source, autoescape=True))
        if after is not None:
            query = query.where(runs_table.c.seq < _cursor(after))
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        shown = rows[:limit]
        return Page(tuple(map(as_run, shown)), str(shown[-1].seq) if len(rows) > limit else None)

    def cancel(self, run_id: str) -> ServiceRun:
        """Cancel a run: at once while it waits; otherwise its process is told to stop.

        Raises:
            NotFound: there is none of that id.
            Conflict: it is finished.
        """
        now = self.clock()
        with self.database.transaction(lock="queue") as connection:
            run = _one(connection, run_id, lock=True)
            if run.state not in OPEN:
                raise Conflict(f"run {run_id} has {run.state} and can't be cancelled any more")
            if run.owner is None:
                change(connection, run_id, state="cancelled", finished_at=now)
                record(connection, run_id, now, "state", {"state": "cancelled"})
            elif not run.cancelling:
                change(connection, run_id, cancelling=True)
                record(connection, run_id, now, "note", {"text": "it is being cancelled"})
            return as_run(_one(connection, run_id))

    def retry(self, run_id: str) -> ServiceRun:
        """Queue a run again that failed, was set aside or cancelled; it goes on where it stopped.

        It counts against its user's quota as a submission does.

        Raises:
            NotFound: there is none of that id.
            Conflict: it waits, runs or has succeeded.
            LimitExceeded: the user has asked for too much.
        """
        now, user = self.clock(), self.get(run_id).user
        with self.database.transaction(lock=f"user {user}") as connection:
            run = _one(connection, run_id, lock=True)
            if run.state not in {"failed", "cancelled", "set_aside"}:
                raise Conflict(f"run {run_id} is {run.state}; only one that has ended is retried")
            self._charge(connection, user, now)
            change(
                connection, run_id, state="queued", attempts=0, error=None, finished_at=None,
                cancelling=False, generation=run.generation + 1,
                # It was refused, maybe for a target that is somebody else's: it looks again.
                plan_id=None if run.state == "failed" else run.plan_id,
            )  # fmt: skip
            record(connection, run_id, now, "state", {"state": "queued"})
            return as_run(_one(connection, run_id))

    def events(self, run_id: str, *, after: int = 0, limit: int = 500) -> tuple[RunEvent, ...]:
        """What happened to a run since the event `after`, the earliest first.

        Raises:
            NotFound: there is none of that id.
        """
        table = events_table
        query = (
            sa.select(table)
            .where(table.c.run_id == run_id, table.c.id > after)
            .order_by(table.c.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            found = connection.execute(query).all()
            if not found:
                _one(connection, run_id)
        return tuple(RunEvent(row.id, row.at, row.kind, row.data) for row in found)

    def counts(self, user: str | None = None) -> dict[RunState, int]:
        """How many runs there are in each state, of one user or of all."""
        query = sa.select(runs_table.c.state, sa.func.count().label("runs")).group_by(
            runs_table.c.state
        )
        if user is not None:
            query = query.where(runs_table.c.user == user)
        with self.database.read() as connection:
            return {row.state: row.runs for row in connection.execute(query)}

    def _charge(self, connection: sa.Connection, user: str, now: float) -> None:
        """Count one more run against a user's quota, or raise LimitExceeded."""
        charged = connection.execute(_CHARGED, {"who": user}).one()
        arrival = next_arrival(charged.arrival, now, self.quota)
        refuse_open(charged.open_runs, self.quota)
        connection.execute(self._taking_turn, {"user": user, "arrival": arrival})


def change(connection: sa.Connection, run_id: str, **values: Any) -> None:
    """Change a run's row."""
    connection.execute(sa.update(runs_table).where(runs_table.c.run_id == run_id).values(**values))


def record(
    connection: sa.Connection, run_id: str, at: float, kind: str, data: dict[str, Any]
) -> None:
    """Append an event to a run's, whose row this transaction has made or locked.

    PostgreSQL gives ids before it commits. With the lock a run's events are there in the order of
    their ids, so that whoever asks for those after the last one misses none.
    """
    connection.execute(_RECORDING, {"run_id": run_id, "at": at, "kind": kind, "data": data})


def as_run(row: Any) -> ServiceRun:
    """A row of the table as what the rest of the service sees."""
    return ServiceRun(
        run_id=row.run_id,
        state=row.state,
        user=row.user,
        source=row.source,
        style=row.style,
        model=row.model,
        target=row.target,
        options=row.options,
        priority=row.priority,
        origin=row.origin,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=RunProgress(row.frames_done, row.frames_total, row.stage),
        attempts=row.attempts,
        error=row.error,
        report=row.report,
        plan_id=row.plan_id,
        cancelling=row.cancelling,
    )


def _queued(submission: Submission, now: float) -> ServiceRun:
    return ServiceRun(
        run_id=f"{int(now * 1000):011x}{secrets.token_hex(4)}",
        state="queued",
        user=submission.user,
        source=submission.source,
        style=submission.style,
        model=submission.model,
        target=submission.target,
        options=submission.options,
        priority=submission.priority,
        origin=submission.origin,
        created_at=now,
    )


def _row(run: ServiceRun, submission: Submission, same: str) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "state": run.state,
        "user": run.user,
        "source": run.source,
        "style": run.style,
        "style_name": _scorer(submission),
        "model": run.model,
        "target": run.target,
        "options": run.options,
        "priority": run.priority,
        "origin": run.origin,
        "idempotency_key": submission.idempotency_key,
        "request": same,
        "content": submission.content,
        "created_at": run.created_at,
    }


def _scorer(submission: Submission) -> str | None:
    if isinstance(submission.style, dict):
        from impasto.styles import name_of

        return name_of(submission.style)
    return submission.style or submission.model


def _digest(submission: Submission) -> str:
    """What tells a submission from others with its idempotency key."""
    return digest([submission.source, submission.style, submission.model, submission.target,
                   submission.options])  # fmt: skip


def _known(connection: sa.Connection, submission: Submission, same: str) -> ServiceRun | None:
    """The run that this submission has made before."""
    if submission.content is not None:
        row = connection.execute(
            sa.select(runs_table).where(runs_table.c.content == submission.content)
        ).one_or_none()
        if row is not None:
            return as_run(row)
    if submission.idempotency_key is None:
        return None
    row = connection.execute(
        sa.select(runs_table).where(
            runs_table.c.user == submission.user,
            runs_table.c.idempotency_key == submission.idempotency_key,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.request != same:
        raise RequestError(
            f"the idempotency key {submission.idempotency_key!r} belongs to run {row.run_id}, "
            "which was asked for something else; take a new key"
        )
    return as_run(row)


def _where(run_id: str) -> sa.Select[Any]:
    return sa.select(runs_table).where(runs_table.c.run_id == run_id)


def _one(connection: sa.Connection, run_id: str, *, lock: bool = False) -> Any:
    """The row of a run; with `lock` nobody else changes it until the transaction ends."""
    asked = _where(run_id).with_for_update() if lock else _where(run_id)
    row = connection.execute(asked).one_or_none()
    if row is None:
        raise NotFound(f"there is no run {run_id!r}")
    return row


def _cursor(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise RequestError(f"{text!r} is no cursor; take the `next` of the page before")
    return int(text)
