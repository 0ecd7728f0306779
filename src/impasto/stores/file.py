"""Files by path or URL: one in a store stands where a path does."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from impasto.access import Access, find_access
from impasto.errors import TAKEN, RequestError, RunFailed
from impasto.stores.backends import local_path, open_store, scheme_of, split
from impasto.stores.reader import BLOCK, Blocks, RangeReader
from impasto.stores.store import Entry, Store


@dataclass(frozen=True)
class StoredFile:
    """An object in a store, read by range and written whole.

    What is read once is kept for the next that opens it, in bounded memory. All reads are of the
    same content: the etag that is found first, or given, is a condition of each.
    """

    store: Store
    key: str
    etag: str = ""
    """That the object must have; empty takes the one it has when it is first looked at."""

    def __str__(self) -> str:
        return f"{self.store.url}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """The end of the name, such as ".mp4"; empty where it has none."""
        return PurePosixPath(self.key).suffix

    def with_name(self, name: str) -> "StoredFile":
        """The object beside this one with that name."""
        folder = self.key.rpartition("/")[0]
        return StoredFile(self.store, f"{folder}/{name}" if folder else name)

    def with_suffix(self, suffix: str) -> "StoredFile":
        """The object beside this one with that suffix."""
        return self.with_name(self.stem + suffix)

    @cached_property
    def entry(self) -> Entry:
        """What the store said of it when it was first looked at.

        Raises:
            FileNotFoundError: there is none.
            RunFailed: it is no longer the one that was asked for, or the store fails.
        """
        try:
            found = self.store.head(self.key)
        except FileNotFoundError:
            if self.etag:
                raise self._gone() from None
            raise
        if self.etag and found.etag != self.etag:
            raise RunFailed(f"{str(self)!r} changed during the run; run again")
        return found

    def _gone(self) -> RunFailed:
        return RunFailed(f"{str(self)!r} was removed during the run")

    @property
    def size(self) -> int:
        """Bytes. Raises as `entry` does."""
        return self.entry.bytes

    @cached_property
    def _blocks(self) -> Blocks:
        entry = self.entry

        def fetch(start: int, stop: int) -> bytes:
            try:
                return self.store.get_range(self.key, start, stop, etag=entry.etag)
            except FileNotFoundError:
                raise self._gone() from None

        return Blocks(entry.bytes, fetch)

    def open(self) -> BinaryIO:
        """Open it for reading by range. Raises as `entry` does."""
        return io.BufferedReader(RangeReader(self._blocks.size, self._blocks.read), BLOCK)

    def sha256(self) -> str:
        """Digest of its bytes, in hexadecimal; only what was not read in order is read for it."""
        return self._blocks.sha256()

    def changed(self) -> bool:
        """Whether the object is gone, or another than was first looked at."""
        try:
            return self.store.head(self.key).etag != self.entry.etag
        except FileNotFoundError:
            return True

    def exists(self) -> bool:
        """Whether there is an object now."""
        return self.store.exists(self.key)

    def put(self, file: Path, *, force: bool) -> None:
        """Make it of a local file; nobody sees it before it is whole.

        Raises:
            RequestError: it is there already, and `force` is not given.
            RunFailed: the store does not take it.
        """
        with file.open("rb") as data:
            if self.store.upload(self.key, data, new=not force):
                return
            # What is there may be this very file: an answer that was lost makes us ask twice.
            data.seek(0)
            ours = hashlib.file_digest(data, "sha256").hexdigest()
            if StoredFile(self.store, self.key).sha256() != ours:
                raise RequestError(f"{str(self)!r} exists", *TAKEN)


Place = Path | StoredFile
"""Where a source or a target is."""


def locate(
    place: str | Place, access: Sequence[Access] = (), *, etag: str = "", or_folder: bool = False
) -> Place:
    """Return the file that a path or URL names; it need not be there.

    Args:
        place: a path, file://, or the URL of an object, as `open_store` takes it.
        access: credentials by URL.
        etag: that an object must have; any when empty.
        or_folder: whether a URL may end in "/", as that of a folder does.

    Raises:
        RequestError: another kind of URL, one that carries a secret or names no object, or
            credentials that are missing.
    """
    if not isinstance(place, str):
        return place
    if scheme_of(place) in {"", "file"}:
        path = local_path(place).expanduser().absolute()
        found = find_access(str(path), access)
        if found is None or not (found.seal or found.lacks):
            return local_path(place)
        return StoredFile(open_store(str(path.parent), access), path.name, etag)
    scheme, container, key = split(place)
    if not PurePosixPath(key).name or (key.endswith("/") and not or_folder):
        raise RequestError(f"{place!r} names no object: give {scheme}://{container}/name")
    # The whole URL decides about the credentials, the container is what is opened with them.
    folder, _, name = key.strip("/").rpartition("/")
    url = f"{scheme}://{container}" + (f"/{folder}" if folder else "")
    return StoredFile(open_store(url, access), name, etag)


def address(place: Place) -> str:
    """What names a file to another process: an absolute path, or a URL."""
    return str(place.absolute()) if isinstance(place, Path) else str(place)


def handed(*places: Place | Store) -> tuple[Access, ...]:
    """The credentials that open these, and no others: what a worker is given."""
    stores = [place.store if isinstance(place, StoredFile) else place for place in places]
    found = [store.access for store in stores if isinstance(store, Store)]
    return tuple(dict.fromkeys(access for access in found if access is not None))


def etag_of(place: Place) -> str:
    """The etag that an object had when it was first looked at; empty for a path."""
    return "" if isinstance(place, Path) else place.entry.etag
