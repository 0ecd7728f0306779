"""The audit log: who did what, when, from where, and what came of it.

The table only grows: the database itself refuses to change an entry, and to remove one that is not
old. No secret comes here, for nothing of a request does but its route, its subject and its sender.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from impasto.service.database import Database, Identity, metadata
from impasto.service.settings import LEAST_AUDIT_DAYS

_LONGEST = 500
"""Characters of a field that others choose."""

table = sa.Table(
    "audit",
    metadata,
    sa.Column("id", Identity, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("user", sa.String(256), nullable=False, index=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("token", sa.String(12), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("action", sa.String(100), nullable=False),
    sa.Column("subject", sa.String(_LONGEST), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
)

_LEAST_S = LEAST_AUDIT_DAYS * 86_400
_AT_ONCE = 1000

_ONLY_GROWS = {
    "sqlite": (
        """CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
           BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END""",
        f"""CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
           WHEN OLD.at > CAST(strftime('%s', 'now') AS INTEGER) - {_LEAST_S}
           BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END""",
    ),
    "postgresql": (
        """CREATE OR REPLACE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'the audit log only grows'; END $$""",
        """CREATE TRIGGER audit_only_grows BEFORE UPDATE OR TRUNCATE ON audit
           FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()""",
        f"""CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit FOR EACH ROW
           WHEN (OLD.at > extract(epoch FROM now()) - {_LEAST_S})
           EXECUTE FUNCTION audit_only_grows()""",
    ),
}
"""What each database is told when the table is made."""


@sa.event.listens_for(table, "after_create")
def _guard(_table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    for statement in _ONLY_GROWS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that somebody did, or was refused."""

    user: str = ""
    """Empty for whom nobody knows."""
    role: str = ""
    token: str = ""
    """Id of the API token; empty for an identity provider's."""
    address: str = ""
    """The peer of the connection."""
    action: str
    """Method and route: "POST /v1/runs/{run_id}/cancel"."""
    subject: str = ""
    """What it was done to: a run's, a token's or an upload's name."""
    status: int
    """Of the HTTP response."""


_FIELDS = tuple(field.name for field in fields(Entry))
_ADDING = sa.insert(table).inline()  # whoever writes an entry needs no id of it


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as it stands in the log."""

    id: int
    at: float
    """Seconds since the epoch."""
    entry: Entry


class AuditLog:
    """The log in the database; every method may be called from any thread."""

    def __init__(self, database: Database, *, clock_s: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock_s = clock_s
        database.create(table)

    def append(self, entry: Entry) -> None:
        """Write an entry; it is durable when this returns."""
        self._database.grouped(
            lambda connection: self.add(connection, entry), lock=f"audit {entry.user}"
        )

    def add(self, connection: sa.Connection, entry: Entry) -> None:
        """Write an entry in a transaction of what it tells of; both are durable, or neither is."""
        row = {name: _line(getattr(entry, name)) for name in _FIELDS}
        connection.execute(_ADDING, {"at": self._clock_s(), **row})

    def remove(self, *, before: float) -> int:
        """Remove the entries that were written before then; return how many there were.

        Raises:
            RunFailed: some of them are younger than the database lets go, or it does not answer.
        """
        oldest = sa.select(table.c.id, table.c.at).order_by(table.c.id).limit(_AT_ONCE)
        removed = 0
        while True:
            with self._database.transaction(lock="audit") as connection:
                rows = connection.execute(oldest).all()
                old = [row.id for row in rows if row.at < before]
                connection.execute(sa.delete(table).where(table.c.id.in_(old)))
            removed += len(old)
            if len(old) < _AT_ONCE:
                return removed

    def page(
        self, *, before: int | None = None, limit: int = 100, user: str | None = None
    ) -> tuple[Recorded, ...]:
        """Return entries, the latest first, those that are older than the id `before`."""
        asked = sa.select(table).order_by(table.c.id.desc()).limit(limit)
        if before is not None:
            asked = asked.where(table.c.id < before)
        if user is not None:
            asked = asked.where(table.c.user == user)
        with self._database.read() as connection:
            rows = [dict(row) for row in connection.execute(asked).mappings()]
        return tuple(Recorded(row.pop("id"), row.pop("at"), Entry(**row)) for row in rows)


def _line(value: object) -> object:
    """One line of bounded length; what others wrote must not look like another entry."""
    if not isinstance(value, str):
        return value
    line = value[:_LONGEST]
    if line.isprintable():
        return line
    return "".join(sign if sign.isprintable() else "?" for sign in line)
