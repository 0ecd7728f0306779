"""Looking below a prefix again and again: what is complete, new and not ours becomes a run.

An object is taken when two looks, at least `settle_s` apart, have found the same version of it, and
its own structure does not say that a part is missing. The first look is a scan, which lists the
prefix; the second may be at those alone that wait. Names of unfinished uploads and empty objects
never are.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice

from impasto.errors import ImpastoError, LimitExceeded
from impasto.service.records import Origin
from impasto.service.triggers.arrivals import Admitted, Arrivals, content_of
from impasto.service.triggers.names import SIDECAR, STYLE_FOLDER, below, is_unfinished, suffix
from impasto.service.triggers.rules import Rule
from impasto.service.triggers.settling import Named, Patience, Waiting
from impasto.service.triggers.trigger_file import is_trigger_file, pull
from impasto.stores import Entry

log = logging.getLogger("impasto.service.triggers")

_BATCH = 1000
_MOST_FAULTS = 5
"""In one scan, before it counts as the store's or the database's own."""
_MOST_WAITING = 10_000
"""Objects of one user that may wait at a time, which bounds memory; the others come later."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look below a prefix gave."""

    listed: int
    waiting: int
    """Objects that are new, and not taken yet."""
    runs: tuple[str, ...]
    """Ids of the runs that it made."""
    seconds: float


class Watch:
    """One prefix of the media store; for one thread.

    Args:
        arrivals: makes the runs.
        prefix: without slashes around it; "" is the whole store.
        rule_for: the rule about a key, or None.
        origin: of the runs.
        patience: before an object is taken.
        stopping: whether to leave off, asked between batches.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        prefix: str,
        rule_for: Callable[[str], Rule | None],
        *,
        origin: Origin = "watch",
        patience: Patience | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.prefix = prefix
        self._arrivals = arrivals
        self._rule_for = rule_for
        self._origin = origin
        self._patience = patience or Patience()
        self._stopping = stopping
        self._quiet: set[int] = set()
        """Hashes of versions that need no look: 100,000 of them take a few megabytes."""
        self._waiting: dict[str, Waiting] = {}
        self._again: set[str] = set()
        """Keys that were refused, and whose sidecar has changed since."""

    def scan(self, now: float, *, newcomers: bool = True) -> Scan:
        """List the prefix once, and make runs of what has settled.

        Args:
            now: seconds since the epoch, as Arrivals' clock has it.
            newcomers: whether to begin with what was not there at the last scan.

        Raises:
            RunFailed, RequestError: a store or the database does not answer; scan again later.
        """
        began = time.perf_counter()
        listed, quiet, seen = 0, set[int](), set[str]()
        for batch in _batches(self._arrivals.media.list(self.prefix)):
            if self._stopping():
                return Scan(listed, len(self._waiting), (), time.perf_counter() - began)
            listed += len(batch)
            self._look(batch, now if newcomers else None, quiet, seen)
        self._quiet = quiet
        self._again.clear()
        for key in self._waiting.keys() - seen:  # gone, or dealt with by another process
            del self._waiting[key]
        runs = self._take(now)
        return Scan(listed, len(self._waiting), tuple(runs), time.perf_counter() - began)

    def look_again(self, now: float) -> Scan:
        """Look up what waits, one object at a time, and make runs of what has settled.

        Args:
            now: seconds since the epoch, as Arrivals' clock has it.

        Raises:
            RunFailed, RequestError: a store or the database does not answer; look again later.
        """
        began = time.perf_counter()
        looked_up = list(self._waiting.values())
        for waiting in looked_up:
            key = waiting.entry.key
            try:
                entry = self._arrivals.media.head(key)
            except FileNotFoundError:
                del self._waiting[key]
                continue
            if content_of(entry) != content_of(waiting.entry):
                self._waiting[key] = Waiting(entry, now, user=waiting.user)
        runs = self._take(now)
        return Scan(len(looked_up), len(self._waiting), tuple(runs), time.perf_counter() - began)

    def skip_all(self) -> int:
        """Leave everything that is there alone, now and later; return how many they are."""
        count = 0
        for batch in _batches(self._arrivals.media.list(self.prefix)):
            self._arrivals.remember(batch, "there_before")
            count += len(batch)
        return count

    def _look(self, batch: list[Entry], now: float | None, quiet: set[int], seen: set[str]) -> None:
        """Sort a batch of a listing into what needs no look, and what waits to settle."""
        fresh: dict[str, tuple[int, Entry]] = {}
        for entry in batch:
            mark = hash((entry.key, entry.etag, entry.bytes, entry.modified))
            if (mark in self._quiet and entry.key not in self._again) or self._is_nothing(entry):
                quiet.add(mark)
            else:
                fresh[content_of(entry)] = mark, entry
        known = self._arrivals.known(fresh.keys())
        held = Counter(waiting.user for waiting in self._waiting.values())
        for content, (mark, entry) in fresh.items():
            if content in known:
                quiet.add(mark)
                continue
            seen.add(entry.key)
            before = self._waiting.get(entry.key)
            if before is not None and content_of(before.entry) == content:
                before.entry = entry
                continue
            user = self._user(entry.key)
            if now is not None and (before or held[user] < _MOST_WAITING):
                held[user] += before is None
                self._waiting[entry.key] = Waiting(entry, now, user=user)

    def _user(self, key: str) -> str:
        """Whose quota holds up the object at `key`; a trigger file's is that of its place."""
        rule = self._rule_for(key)
        if rule is None:
            rules = self._arrivals.rules
            rule = next((rule for rule in rules if below(rule.prefix, key) is not None), None)
        return rule.user if rule is not None else ""

    def _is_nothing(self, entry: Entry) -> bool:
        """Whether this version of an object can't mean anything to us."""
        if entry.bytes == 0 or is_unfinished(entry.key):
            return True
        if is_trigger_file(entry.key) or suffix(entry.key) == SIDECAR:
            return False
        inside = below(self.prefix, entry.key) or ""
        return STYLE_FOLDER in inside.split("/")[:-1] or self._rule_for(entry.key) is None

    def _take(self, now: float) -> list[str]:
        """Make runs of what has settled; sidecars go before the videos that they stand beside."""
        media, patience = self._arrivals.media, self._patience
        settled = [w for w in self._waiting.values() if w.is_ready(media, now, patience)]
        made: list[str] = []
        sated: set[str] = set()
        faults = 0
        for waiting in sorted(settled, key=lambda w: suffix(w.entry.key) != SIDECAR):
            entry = waiting.entry
            rule = self._rule_for(entry.key)
            user = rule.user if rule is not None else ""
            if self._stopping() or user in sated:
                continue
            try:
                dealt, run_ids = self._deal(waiting, rule, now)
            except LimitExceeded as error:  # the other users' videos needn't wait for that
                log.warning("no more runs for %s now: %s", user or repr(entry.key), error)
                if rule is not None:  # whose video a trigger file names it alone says
                    sated.add(user)
                continue
            except FileNotFoundError:  # gone since it was listed
                dealt, run_ids = True, ()
            except Exception as error:  # one object that nobody can read must not stop all
                faults += 1
                if faults >= _MOST_FAULTS:
                    raise
                surprise = not isinstance(error, ImpastoError)
                log.warning("%r is tried later: %s", entry.key, error, exc_info=surprise)
                continue
            made += run_ids
            if dealt:
                self._waiting.pop(entry.key, None)
        return made

    def _deal(self, waiting: Waiting, rule: Rule | None, now: float) -> tuple[bool, Iterable[str]]:
        """Return whether it is dealt with, and the run that this has made."""
        arrivals, entry = self._arrivals, waiting.entry
        admitted: Admitted | None
        if suffix(entry.key) == SIDECAR:
            self._again |= arrivals.reconsider(entry)
            return True, ()
        if is_trigger_file(entry.key):
            admitted = pull(arrivals, entry, lambda named: self._is_ready(waiting, named, now))
        else:
            assert rule is not None
            admitted = arrivals.admit(entry, rule, origin=self._origin)
        if admitted is None or admitted.run_id is None or not admitted.new:
            return admitted is not None, ()
        return True, (admitted.run_id,)

    def _is_ready(self, trigger: Waiting, named: Named, now: float) -> bool:
        """Whether what a trigger file names can be taken; it is waited for as if it had come."""
        before = trigger.named
        if before is None or content_of(before.entry) != content_of(named.entry):
            before = trigger.named = Waiting(named.entry, now, folder=named.folder)
        return before.is_ready(self._arrivals.media, now, self._patience)


def _batches(entries: Iterable[Entry]) -> Generator[list[Entry]]:
    left = iter(entries)
    while batch := list(islice(left, _BATCH)):
        yield batch
