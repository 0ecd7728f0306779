"""The thread that looks: every watched prefix in its turn, and every schedule when it is due."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from impasto.errors import ImpastoError
from impasto.service.database import Database, metadata
from impasto.service.records import ServiceRun, Submission
from impasto.service.runs import Runs
from impasto.service.triggers.arrivals import Arrivals
from impasto.service.triggers.schedule import Schedule
from impasto.service.triggers.settings import TriggerSettings
from impasto.service.triggers.watch import Scan, Watch
from impasto.stores import Store

log = logging.getLogger("impasto.service.triggers")

_REST = 4.0
"""A scan is followed by a pause of at least so many times its own length."""
_MOST_LOOKS = 100
"""Objects that are looked up by themselves when they may have settled; more wait for a scan."""
_LEAST_PAUSE_S = 0.1
"""Before what waits is looked at again."""
_LONGEST_PAUSE_S = 300.0
"""Between two tries of a store that does not answer."""

marks_table = sa.Table(
    "trigger_marks",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
"""When a prefix was first scanned, and which due time of a schedule was served last."""


class Marks:
    """Moments by name, in the database; seconds since the epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(marks_table)

    def get(self, name: str) -> float | None:
        """The moment under `name`."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(marks_table.c.at).where(marks_table.c.name == name))

    def advance(self, name: str, at: float) -> None:
        """Keep `at` under `name`, unless a later moment stands there."""
        later = sa.update(marks_table).where(marks_table.c.name == name)
        with self._database.transaction(lock="trigger marks") as connection:
            known = sa.select(marks_table.c.at).where(marks_table.c.name == name)
            before = connection.scalar(known)
            if before is None:
                connection.execute(sa.insert(marks_table).values(name=name, at=at))
            elif before < at:
                connection.execute(later.values(at=at))


@dataclass(slots=True)
class _Turn:
    """A watch, and when it is due next."""

    name: str
    watch: Watch
    schedule: Schedule | None = None
    next_at: float = 0.0
    again_at: float = math.inf
    """When what waits is looked at again, before the next scan."""
    due: float | None = None
    """Of a schedule that is being served: its due time."""
    faults: int = 0
    last: Scan | None = None
    error: str | None = None


class Triggers:
    """All that starts runs by itself; `tick` belongs to one thread.

    Args:
        media: the store that is watched.
        runs: the runs book.
        submit: accepts a submission: `Runs.submit`, or what checks more before it.
        settings: rules, prefixes and schedules.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        media: Store,
        runs: Runs,
        submit: Callable[[Submission], tuple[ServiceRun, bool]],
        settings: TriggerSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.arrivals = Arrivals(media, runs, submit, settings.rules, clock=clock)
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._marks = Marks(runs.database)
        self._turns = [self._watching(prefix) for prefix in settings.watched]
        self._turns += [self._scheduled(schedule) for schedule in settings.schedules]

    def start(self) -> None:
        """Look in a thread of its own until `stop`."""
        if self._turns:
            self._thread = threading.Thread(target=self._run, name="triggers", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Leave off, and wait until nothing is looked at any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def faults(self) -> dict[str, str]:
        """What can't be looked at now, and why: one line by prefix or schedule."""
        return {turn.name: turn.error for turn in self._turns if turn.error is not None}

    def scans(self) -> dict[str, Scan]:
        """The last scan of every prefix and schedule."""
        return {turn.name: turn.last for turn in self._turns if turn.last is not None}

    def tick(self) -> float:
        """Look wherever it is time to; return the seconds until it is again."""
        for turn in self._turns:
            if self._stop.is_set():
                return 0.0
            if self._clock() >= min(turn.next_at, turn.again_at):
                self._serve(turn)
        due = min(min(turn.next_at, turn.again_at) for turn in self._turns)
        return max(0.0, due - self._clock())

    def _run(self) -> None:
        while not self._stop.wait(self.tick()):
            pass

    def _serve(self, turn: _Turn) -> None:
        again, turn.again_at = self._clock() < turn.next_at, math.inf
        try:
            scan = self._look(turn, again=again)
        except ImpastoError as error:
            self._pause(turn, str(error))
            return
        except Exception as error:  # one bad look must not end all looking
            log.exception("a fault of ours at %s", turn.name)
            self._pause(turn, f"{type(error).__name__}: {error}")
            return
        turn.faults, turn.error = 0, None
        turn.last = scan or turn.last
        pace, now = self._settings.pace, self._clock()
        if not again:
            turn.next_at = now + max(pace.interval_s, _REST * scan.seconds if scan else 0.0)
        if turn.schedule is None and scan is not None and 0 < scan.waiting <= _MOST_LOOKS:
            turn.again_at = now + max(pace.settle_s, _LEAST_PAUSE_S)

    def _look(self, turn: _Turn, *, again: bool) -> Scan | None:
        if turn.schedule is not None:
            return self._keep(turn, turn.schedule)
        return turn.watch.look_again(self._clock()) if again else self._watch(turn)

    def _pause(self, turn: _Turn, error: str) -> None:
        """Leave a prefix alone for a while, longer after each fault in a row."""
        if error != turn.error:
            log.warning("can't look at %s: %s", turn.name, error)
        turn.error = error
        turn.faults = min(turn.faults + 1, 16)
        pause_s = min(_LONGEST_PAUSE_S, self._settings.pace.interval_s * 2**turn.faults)
        turn.next_at = self._clock() + pause_s

    def _watch(self, turn: _Turn) -> Scan:
        if turn.last is None and self._marks.get(turn.name) is None:
            if self._settings.pace.skip_existing:
                count = turn.watch.skip_all()
                log.info("%s: %d objects that are there already are left alone", turn.name, count)
            self._marks.advance(turn.name, self._clock())
        return turn.watch.scan(self._clock())

    def _keep(self, turn: _Turn, schedule: Schedule) -> Scan | None:
        """Serve a schedule: once for its latest due time, however many were missed."""
        now = self._clock()
        served = self._marks.get(turn.name)
        if served is None:  # it is new: what was due before there was no schedule
            self._marks.advance(turn.name, now)
            return None
        begins = turn.due is None
        if begins:
            turn.due = schedule.last_due(datetime.fromtimestamp(now, UTC)).timestamp()
        assert turn.due is not None
        if turn.due <= served:  # or another process was quicker
            turn.due = None
            return None
        scan = turn.watch.scan(now, newcomers=begins)
        if not scan.waiting:
            self._marks.advance(turn.name, turn.due)
            turn.due = None
        return scan

    def _watching(self, prefix: str) -> _Turn:
        watch = Watch(
            self.arrivals,
            prefix,
            self.arrivals.rule_for,
            patience=self._settings.patience,
            stopping=self._stop.is_set,
        )
        return _Turn(f"watch {prefix or '/'}", watch)

    def _scheduled(self, schedule: Schedule) -> _Turn:
        watch = Watch(
            self.arrivals,
            schedule.rule.prefix,
            lambda key: schedule.rule if schedule.rule.matches(key) else None,
            origin="schedule",
            patience=self._settings.patience,
            stopping=self._stop.is_set,
        )
        return _Turn(f"schedule {schedule.name}", watch, schedule)
