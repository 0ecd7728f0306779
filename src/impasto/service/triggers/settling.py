"""When an object is taken: it has stayed as it is for a while, and seems to be all there."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from impasto.errors import RunFailed
from impasto.keys import digest
from impasto.service.triggers.names import is_unfinished
from impasto.service.triggers.whole import is_whole
from impasto.stores import Entry, Item, Store, StoredFile, items


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an object is left alone before it is taken."""

    settle_s: float = 5.0
    unfinished_s: float = 3600.0
    """For one whose name or structure says that a part is missing; then its run may fail."""


@dataclass(frozen=True, slots=True)
class Named:
    """What is to be painted: a version of a video, or of a folder of frames."""

    entry: Entry
    folder: bool = False


def named_folder(media: Store, key: str, now: float) -> Named:
    """A folder, whose version is that of all files in it.

    Raises:
        RunFailed, RequestError: the store does not answer.
    """
    found = sorted((i.name, i.bytes, i.version) for i in _items(media, key))
    size = sum(size for _, size, _ in found)
    return Named(Entry(key, size, datetime.fromtimestamp(now, UTC), digest(found)), folder=True)


@dataclass(slots=True)
class Waiting:
    """A version of an object that is left alone for now; another version is another value."""

    entry: Entry
    since: float
    """When it was first seen, seconds since the epoch."""
    user: str = ""
    """Whose quota it may have to wait for."""
    folder: bool = False
    """Whether it is a folder of frames."""
    named: "Waiting | None" = None
    """Of a trigger file: what it names."""
    _complete: bool = field(default=False, init=False)
    _look_at: float = field(default=0.0, init=False)
    """When it is read again: it was not complete."""

    def is_ready(self, media: Store, now: float, patience: Patience) -> bool:
        """Whether it can be taken. What is not complete is read again after twice its age."""
        age_s = now - self.since
        if age_s <= 0 or age_s < patience.settle_s:
            return False
        if not self._complete and now >= self._look_at:
            self._complete = is_complete(media, Named(self.entry, self.folder))
            self._look_at = now + age_s
        return self._complete or age_s >= patience.unfinished_s


def is_complete(media: Store, named: Named) -> bool:
    """Whether nothing speaks of an upload: neither its name, nor its size, nor its structure."""
    entry = named.entry

    def read(start: int, stop: int) -> bytes:
        return media.get_range(entry.key, start, stop, etag=entry.etag)

    try:
        if named.folder:  # hidden files may lie there for ever
            there = (item for item in _items(media, entry.key) if not item.name.startswith("."))
            return not any(is_unfinished(item.name) or not item.bytes for item in there)
        return entry.bytes > 0 and not is_unfinished(entry.key) and is_whole(read, entry.bytes)
    except (FileNotFoundError, RunFailed):  # it changed, or its store is troubled: later
        return False


def _items(media: Store, key: str) -> list[Item]:
    try:
        return list(items(StoredFile(media, key)))
    except OSError as error:
        raise RunFailed(f"can't list {key!r}: {error.strerror}") from error
