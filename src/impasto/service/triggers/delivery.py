"""From an event to a run: the store's own word about the object counts, never the event's."""

import logging
from dataclasses import dataclass

from impasto.errors import RequestError
from impasto.service.triggers.arrivals import Admitted, Arrivals, version_of
from impasto.service.triggers.events import Arrival, Other
from impasto.service.triggers.names import SIDECAR, below, check_key, is_unfinished, suffix
from impasto.service.triggers.settling import Named, Patience, is_complete
from impasto.service.triggers.trigger_file import is_trigger_file, pull
from impasto.stores import Entry

log = logging.getLogger("impasto.service.triggers")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What an event came to: a run, or the reason why there is none."""

    run_id: str | None = None
    ignored: str = ""
    later: str = ""
    """Why the event should come again: there may be a run then."""


def deliver(arrivals: Arrivals, event: Arrival | Other, *, account: str = "") -> Delivered:
    """Make the run that an event stands for.

    Duplicates, late ones and ones out of order do no harm: the object is looked up, and only the
    version that is there now, if the event is about it, becomes a run; once.

    Args:
        arrivals: makes the run.
        event: as `read_events` gives it.
        account: that the media store belongs to; any where empty.

    Raises:
        LimitExceeded, RunFailed: it can't be made now; the event should come again.
    """
    match event:
        case Other(reason):
            found = Delivered(ignored=reason)
        case Arrival():
            found = _deliver(arrivals, event, account)
    if found.ignored:
        log.info("an event is ignored: %s", found.ignored)
    return found


def _deliver(arrivals: Arrivals, event: Arrival, account: str) -> Delivered:
    place = f"{event.key!r} of {event.container!r}"
    key = _locate(event, arrivals.media.url, account)
    if key is None:
        return Delivered(ignored=f"{place} lies outside the media store")
    try:
        entry = arrivals.media.head(key)
        if event.etag and event.etag != version_of(entry):
            return Delivered(ignored=f"{place} has another version by now")
        if entry.bytes == 0 or is_unfinished(key):
            return Delivered(ignored=f"{place} is empty, or unfinished by its name")
        return _take(arrivals, entry, place)
    except FileNotFoundError:
        return Delivered(ignored=f"{place} is gone")


def _take(arrivals: Arrivals, entry: Entry, place: str) -> Delivered:
    if is_trigger_file(entry.key):
        admitted = pull(arrivals, entry, lambda named: _is_ready(arrivals, named))
        if admitted is None:
            return Delivered(later=f"what {place} names is not whole yet; send the event again")
        return _said(admitted, place)
    if suffix(entry.key) == SIDECAR:
        for key in arrivals.reconsider(entry):
            _take(arrivals, arrivals.media.head(key), repr(key))
        return Delivered(ignored=f"{place} is a sidecar")
    rule = arrivals.rule_for(entry.key)
    if rule is None:
        return Delivered(ignored=f"no rule is about {place}")
    return _said(arrivals.admit(entry, rule, origin="event"), place)


def _is_ready(arrivals: Arrivals, named: Named) -> bool:
    """Whether what a trigger file names can be taken; what stays damaged is, as by a watch."""
    age_s = arrivals.clock() - named.entry.modified.timestamp()
    return is_complete(arrivals.media, named) or age_s >= Patience().unfinished_s


def _said(admitted: Admitted, place: str) -> Delivered:
    match admitted.fate:
        case "ours":
            return Delivered(ignored=f"{place} was painted here")
        case "there_before":
            return Delivered(ignored=f"{place} was there before the first start")
        case _:
            return Delivered(run_id=admitted.run_id, ignored="" if admitted.run_id else place)


def _locate(event: Arrival, media_url: str, account: str) -> str | None:
    """The event's key within the media store; None where it lies outside, or is no key."""
    key: str | None = event.key
    if "://" in media_url:  # a folder has no container that an event could name
        container, _, prefix = media_url.partition("://")[2].partition("/")
        other_account = account and event.account and account.lower() != event.account
        if event.container != container or other_account:
            return None
        key = below(prefix.strip("/"), event.key)
    try:
        return check_key(key or "")
    except RequestError:
        return None
