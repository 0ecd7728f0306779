"""What became of objects is forgotten, long after they are gone."""

from typing import Any

import sqlalchemy as sa

from impasto.service.database import Database
from impasto.service.triggers.arrivals import arrivals_table, content_of
from impasto.stores import Store

_AT_ONCE = 500


def forget_gone(database: Database, media: Store, *, now: float, keep_s: float) -> int:
    """Forget versions of objects that have been gone for `keep_s`; return how many.

    Each is looked up once in that time, so a store of any size costs little. One that is there is
    never forgotten, or it would start again; nor is one whose painting is there, by which that is
    known as ours.

    Args:
        database: of the service.
        media: where the objects are.
        now: seconds since the epoch.
        keep_s: between an object's being found gone, and its being forgotten if it still is.

    Raises:
        RunFailed, RequestError: the store or the database does not answer.
    """
    table = arrivals_table
    due = sa.select(table).where(table.c.at < now - keep_s).order_by(table.c.at).limit(_AT_ONCE)
    with database.read() as connection:
        rows = connection.execute(due).all()
    there = [row.content for row in rows if _is_needed(row, media)]
    gone = [row.content for row in rows if row.content not in there and not row.gone]
    forgotten = [row.content for row in rows if row.content not in there and row.gone]
    with database.transaction() as connection:
        for contents, found in ((there, False), (gone, True)):
            seen = sa.update(table).where(table.c.content.in_(contents))
            connection.execute(seen.values(at=now, gone=found))
        connection.execute(sa.delete(table).where(table.c.content.in_(forgotten)))
    return len(forgotten)


def _is_needed(row: sa.Row[Any], media: Store) -> bool:
    if _version_at(media, row.key) == row.content:
        return True
    return row.target is not None and _version_at(media, row.target) is not None


def _version_at(media: Store, key: str) -> str | None:
    try:
        return content_of(media.head(key))
    except FileNotFoundError:
        return None
