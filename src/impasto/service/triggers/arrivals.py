"""From an object that has come to a run, once for each version of it, whoever notices it first.

A version is a key and the store's ETag. What became of each is kept in the database, beyond the
life of the runs themselves: a restart neither misses nor repeats anything, and processes that watch
the same prefix, or hear of the same event, give one run.
"""

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa

from impasto.errors import (
    Conflict,
    LimitExceeded,
    NotFound,
    RequestError,
    Unavailable,
)
from impasto.service.database import metadata
from impasto.service.records import OPEN, Origin, ServiceRun, Submission
from impasto.service.runs import Runs, record
from impasto.service.tables import runs_table
from impasto.service.triggers.events import plain_etag
from impasto.service.triggers.names import SIDECAR, STILLS, STYLE_FOLDER, VIDEOS, without_suffix
from impasto.service.triggers.rules import MAX_SIDECAR_BYTES, Rule, Wish, match, read_sidecar
from impasto.service.words import in_api_words
from impasto.stores import Entry, Store

log = logging.getLogger("impasto.service.triggers")

Fate = Literal["run", "refused", "ours", "there_before", "sidecar", "trigger_file"]
"""`ours`: a target of a run. `there_before`: the watch was told to begin with what comes."""

arrivals_table = sa.Table(
    "arrivals",
    metadata,
    sa.Column("content", sa.String, primary_key=True),
    sa.Column("key", sa.String, nullable=False, index=True),
    sa.Column("fate", sa.String, nullable=False),
    sa.Column("run_id", sa.String),
    sa.Column("target", sa.String, index=True),
    sa.Column("at", sa.Float, nullable=False, index=True),  # dealt with, or last looked up
    sa.Column("gone", sa.Boolean, nullable=False, server_default=sa.false()),  # at that time
)
"""One row for each version of an object that was dealt with; see `gone` for its end."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a version of an object."""

    fate: str
    """A Fate."""
    run_id: str | None = None
    new: bool = False
    """Whether it was this call that made the run."""


class Arrivals:
    """Makes runs of objects; safe from any thread and several processes.

    Args:
        media: where the objects are.
        runs: the runs book; the table of arrivals is made in its database when missing.
        submit: accepts a submission: `Runs.submit`, or what checks more before it.
        rules: the first that matches counts.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        media: Store,
        runs: Runs,
        submit: Callable[[Submission], tuple[ServiceRun, bool]],
        rules: Sequence[Rule],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.media = media
        self.rules = tuple(rules)
        self.clock = clock
        self._runs = runs
        self._submit = submit
        self._database = runs.database
        self._database.create(arrivals_table)

    def rule_for(self, key: str, *, folder: bool = False) -> Rule | None:
        """The rule about `key`, or about a folder of frames there."""
        return match(self.rules, key, folder=folder)

    def known(self, contents: Collection[str]) -> set[str]:
        """Which of these versions were dealt with already."""
        if not contents:
            return set()
        query = sa.select(arrivals_table.c.content).where(arrivals_table.c.content.in_(contents))
        with self._database.read() as connection:
            return set(connection.scalars(query))

    def find(self, entry: Entry) -> Admitted | None:
        """What became of this version; None when it is new."""
        table = arrivals_table.c
        query = sa.select(table.fate, table.run_id).where(table.content == content_of(entry))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Admitted(row.fate, row.run_id)

    def remember(self, entries: Iterable[Entry], fate: Fate, *, run_id: str | None = None) -> None:
        """Write down what became of these versions, so that nobody deals with them again."""
        rows = [self._values(entry, fate, run_id=run_id) for entry in entries]
        if rows:
            with self._database.transaction() as connection:
                connection.execute(self._insert(), rows)

    def reconsider(self, sidecar: Entry) -> set[str]:
        """Forget that the videos beside a new sidecar were refused; return their keys."""
        table, stem = arrivals_table, without_suffix(sidecar.key)
        beside = {stem + form for kind in VIDEOS for form in (kind, kind.upper())}
        # A folder of frames that was refused is only forgotten: its trigger file is to come again.
        refused = (table.c.fate == "refused") & table.c.key.in_([stem, *beside])
        with self._database.transaction() as connection:
            if not connection.execute(self._insert(), self._values(sidecar, "sidecar")).rowcount:
                return set()  # it is not new: another process has seen to it
            keys = set(connection.scalars(sa.select(table.c.key).where(refused)))
            connection.execute(sa.delete(table).where(refused))
        return keys & beside

    def admit(
        self,
        entry: Entry,
        rule: Rule,
        *,
        origin: Origin,
        folder: bool = False,
        rate: str | None = None,
    ) -> Admitted:
        """Make the run that `rule` asks for, unless this version was dealt with.

        What can't be asked for, as with a bad sidecar, becomes a failed run that says why. An older
        version's run that has not ended is cancelled, for its source is gone.

        Args:
            entry: the version.
            rule: about it.
            origin: of the run.
            folder: whether it is a folder of frames.
            rate: of its frames per second, which goes before the rule's and the sidecar's.

        Raises:
            LimitExceeded: the rule's user has asked for too much; later it may do.
            RunFailed, Unavailable: a store or the database does not answer; likewise.
        """
        if (before := self.find(entry)) is not None:
            return before
        if self.is_target(entry.key):
            self.remember([entry], "ours")
            return Admitted("ours")
        sidecar = self._sidecar(entry.key if folder else without_suffix(entry.key))
        try:
            wish = rule.wish
            if sidecar is not None:
                wish = read_sidecar(sidecar[1], rule, where=sidecar[0].key)
        except RequestError as error:
            return self._refuse(entry, rule, sidecar, error, origin)
        painting = self._painting(rule, wish)
        try:
            if rate is not None:
                wish = replace(wish, options=wish.options | {"rate": rate})
            asked = replace(
                rule.submission(entry.key, wish, origin=origin, folder=folder),
                style=painting or wish.style,
                content=content_of(entry),
                source_bytes=entry.bytes,
            )
            run, new = self._submit(self._over_older(asked))
        except RequestError as error:
            if _may_pass(error):
                raise
            return self._refuse(entry, rule, sidecar, error, origin)
        values = self._values(entry, "run", run_id=run.run_id, target=run.target)
        with self._database.transaction() as connection:
            connection.execute(self._insert(), values)
        if new:
            self._supersede(run)
        return Admitted("run", run.run_id, new)

    def _refuse(
        self,
        entry: Entry,
        rule: Rule,
        sidecar: tuple[Entry, bytes] | None,
        error: RequestError,
        origin: Origin,
    ) -> Admitted:
        if sidecar is not None:  # only another version of it is a reason to look again
            self.remember([sidecar[0]], "sidecar")
        return self.refuse(entry, rule, in_api_words(error), origin=origin)

    def refuse(self, entry: Entry, rule: Rule, why: str, *, origin: Origin) -> Admitted:
        """Let a run stand in the book that failed before it began, so that somebody sees why."""
        log.warning("%r is refused: %s", entry.key, why)
        now = self.clock()
        run_id = f"{int(now * 1000):011x}{secrets.token_hex(4)}"
        row = {
            "run_id": run_id, "state": "failed", "user": rule.user, "source": entry.key,
            "style": rule.wish.style, "style_name": rule.wish.scorer, "model": rule.wish.model,
            "options": rule.wish.options, "priority": rule.priority, "origin": origin,
            "request": "", "created_at": now, "finished_at": now, "error": why,
        }  # fmt: skip
        with self._database.transaction(lock="arrivals") as connection:
            values = self._values(entry, "refused", run_id=run_id)
            if not connection.execute(self._insert(), values).rowcount:
                return Admitted("refused")
            connection.execute(sa.insert(runs_table), row)
            record(connection, run_id, now, "state", {"state": "failed"})
        return Admitted("refused", run_id, new=True)

    def is_target(self, key: str) -> bool:
        """Whether a run has made the object at `key`, or is about to.

        A run tells where its target goes before it puts it there.
        """
        runs, arrivals = runs_table.c, arrivals_table.c
        queries = [
            sa.select(runs.run_id).where(runs.target == key),
            sa.select(runs.run_id).where(runs.resolved_target == key),
            sa.select(arrivals.key).where(arrivals.target == key),
        ]
        with self._database.read() as connection:
            return any(connection.execute(query.limit(1)).first() for query in queries)

    def _sidecar(self, stem: str) -> tuple[Entry, bytes] | None:
        """The TOML beside a video or a folder; None where there is none."""
        with suppress(FileNotFoundError):
            entry = self.media.head(stem + SIDECAR)
            if entry.bytes > MAX_SIDECAR_BYTES:
                return entry, bytes(MAX_SIDECAR_BYTES + 1)
            return entry, self.media.get(entry.key)
        return None

    def _painting(self, rule: Rule, wish: Wish) -> str | None:
        """Key of the picture that defines the style wished for; None where nobody put one there."""
        if not isinstance(wish.style, str):
            return None
        folder = f"{rule.prefix}/{STYLE_FOLDER}".lstrip("/")
        for kind in sorted(STILLS):
            with suppress(FileNotFoundError):
                return self.media.head(f"{folder}/{wish.style}{kind}").key
        return None

    def _over_older(self, asked: Submission) -> Submission:
        """Let a new version's painting take the place of the older one's, and of nothing else."""
        table = arrivals_table.c
        query = sa.select(table.key).where(table.key == asked.source, table.target == asked.target)
        with self._database.read() as connection:
            ours = connection.execute(query.limit(1)).first() is not None
        return replace(asked, options=asked.options | {"force": True}) if ours else asked

    def _supersede(self, run: ServiceRun) -> None:
        runs, arrivals = runs_table.c, arrivals_table.c
        query = sa.select(runs.run_id).where(
            runs.run_id == arrivals.run_id,
            arrivals.key == run.source,
            runs.state.in_(OPEN),
            runs.run_id != run.run_id,
        )
        with self._database.read() as connection:
            older = list(connection.scalars(query))
        for run_id in older:
            with suppress(Conflict, NotFound):  # it ended in this moment
                self._runs.cancel(run_id)
                log.info("run %s is cancelled: %r has a new version", run_id, run.source)

    def _values(
        self, entry: Entry, fate: Fate, *, run_id: str | None = None, target: str | None = None
    ) -> dict[str, Any]:
        return {"content": content_of(entry), "key": entry.key, "fate": fate, "run_id": run_id,
                "target": target, "at": self.clock()}  # fmt: skip

    def _insert(self) -> Any:
        """Adds rows that are not there, and counts them in `rowcount`."""
        if self._database.is_sqlite:
            from sqlalchemy.dialects.sqlite import insert
        else:
            from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
        adding = insert(arrivals_table).on_conflict_do_nothing()
        return adding.execution_options(preserve_rowcount=True)  # otherwise −1 with psycopg


def _may_pass(error: RequestError) -> bool:
    """Whether the same object may be taken later."""
    return isinstance(error, Unavailable) or (
        isinstance(error, LimitExceeded) and error.retry_after_s > 0
    )


def content_of(entry: Entry) -> str:
    """Name the version of an object: what `Submission.content` is for."""
    return f"{entry.key}@{version_of(entry)}"


def version_of(entry: Entry) -> str:
    """The store's ETag without quotes; size and time where a store has none."""
    return plain_etag(entry.etag) or f"{entry.bytes}-{entry.modified.timestamp():.6f}"
