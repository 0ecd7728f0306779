"""Live progress for many: one poll of the database feeds all who follow runs in this process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from impasto.errors import ImpastoError
from impasto.service.records import OPEN, RunEvent
from impasto.service.runs import Runs
from impasto.service.tables import events_table

log = logging.getLogger("impasto.service.api")

_EVERY_S = 0.5
_BATCH = 2000
_RUNS_AT_A_TIME = 300
"""In one statement: SQLite takes expressions up to a depth of 1000."""
_BACKLOG = 1000
"""Events that wait for one slow follower; then its stream ends, and it may come again."""


@dataclass(slots=True)
class _Feed:
    """One run that somebody follows."""

    position: int
    """Id of its last event that was handed out, or that was there before anybody followed. It is
    kept for each run by itself: across runs PostgreSQL commits ids out of their order, and within
    one `record` sees to it that it doesn't."""
    queues: set[asyncio.Queue[RunEvent | None]] = field(default_factory=set)


class Followers:
    """Whoever follows a run through this process; to be used from one event loop.

    Nobody following costs nothing: the poll stops with the last one.
    """

    def __init__(self, runs: Runs, *, every_s: float = _EVERY_S) -> None:
        self._runs = runs
        self._every_s = every_s
        self._feeds: dict[str, _Feed] = {}
        self._polling: asyncio.Task[None] | None = None

    async def follow(self, run_id: str, *, after: int = 0) -> AsyncGenerator[RunEvent]:
        """Yield what happens to a run, from the event that follows `after` to its end.

        Raises:
            NotFound: there is no such run.
        """
        position = await run_in_threadpool(self._newest, run_id)
        with self._queue(run_id, position) as queue:  # first, so that nothing falls in between
            again = True
            while again:
                # The state comes first: what ends the run after it is among the events then.
                ended = (await run_in_threadpool(self._runs.get, run_id)).state not in OPEN
                again = False
                async for event in self._past(run_id, after):
                    yield event
                    after, again = event.id, _ends(event)
                if ended:
                    return
            while (news := await queue.get()) is not None:
                if news.id > after:
                    yield news
                    after = news.id
                    if _ends(news):
                        return

    async def _past(self, run_id: str, after: int) -> AsyncGenerator[RunEvent]:
        while events := await run_in_threadpool(self._runs.events, run_id, after=after):
            for event in events:
                yield event
            after = events[-1].id

    def close(self) -> None:
        """End every stream."""
        for feed in self._feeds.values():
            for queue in feed.queues:
                _end(queue)

    @contextmanager
    def _queue(self, run_id: str, position: int) -> Generator[asyncio.Queue[RunEvent | None]]:
        queue: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        feed = self._feeds.setdefault(run_id, _Feed(position))
        feed.queues.add(queue)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield queue
        finally:
            feed.queues.discard(queue)
            if not feed.queues:
                del self._feeds[run_id]
            if not self._feeds and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            positions = [(run_id, feed.position) for run_id, feed in self._feeds.items()]
            for first in range(0, len(positions), _RUNS_AT_A_TIME):
                asked = positions[first : first + _RUNS_AT_A_TIME]
                try:
                    news = await run_in_threadpool(self._news, asked)
                except ImpastoError as error:
                    log.warning("followers wait: %s", error)
                    continue
                for run_id, event in news:
                    self._hand_out(run_id, event)

    def _hand_out(self, run_id: str, event: RunEvent) -> None:
        feed = self._feeds.get(run_id)
        if feed is None or event.id <= feed.position:
            return
        feed.position = event.id
        for queue in feed.queues:
            if queue.qsize() < _BACKLOG:
                queue.put_nowait(event)
            else:
                _end(queue)

    def _news(self, positions: list[tuple[str, int]]) -> list[tuple[str, RunEvent]]:
        table = events_table
        newer = [
            sa.and_(table.c.run_id == run_id, table.c.id > position)
            for run_id, position in positions
        ]
        asked = sa.select(table).where(sa.or_(*newer)).order_by(table.c.id).limit(_BATCH)
        with self._runs.database.read() as connection:
            rows = connection.execute(asked).all()
        return [(row.run_id, RunEvent(row.id, row.at, row.kind, row.data)) for row in rows]

    def _newest(self, run_id: str) -> int:
        table = events_table
        asked = sa.select(sa.func.max(table.c.id)).where(table.c.run_id == run_id)
        with self._runs.database.read() as connection:
            return connection.scalar(asked) or 0


def _ends(event: RunEvent) -> bool:
    return event.kind == "state" and event.data.get("state") not in OPEN


def _end(queue: asyncio.Queue[RunEvent | None]) -> None:
    """One who can't keep up loses the stream, and no event within it."""
    queue.put_nowait(None)
