"""A folder: one of this machine, or what lies directly below a prefix of a store."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from impasto.errors import RunFailed
from impasto.stores.file import Place


@dataclass(frozen=True, slots=True)
class Item:
    """A file in a folder, as a listing shows it."""

    name: str
    bytes: int
    version: str
    """Changes with every write: an etag, or what a file system knows of times and places."""


def is_folder(place: Place) -> bool:
    """Whether files lie below `place`, and none at it.

    Raises:
        RunFailed, RequestError: its store fails.
    """
    if isinstance(place, Path):
        return os.path.isdir(place)  # noqa: PTH112 - pathlib's fails for what can't be a name
    try:
        if place.entry.bytes:  # some stores keep an empty object for a folder
            return False
    except FileNotFoundError:
        pass
    return any(True for _ in place.store.list(place.key))


def items(folder: Place) -> Iterator[Item]:
    """Yield the files that lie directly in a folder, in no order.

    Raises:
        OSError: it can't be read.
        RunFailed, RequestError: its store fails.
    """
    if isinstance(folder, Path):
        with os.scandir(folder) as found:
            for one in found:
                if one.is_file():
                    stat = one.stat()
                    version = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
                    yield Item(one.name, stat.st_size, "-".join(map(str, version)))
        return
    for entry in folder.store.list(folder.key):
        name = entry.key[len(folder.key) + 1 :]
        if name and "/" not in name:
            yield Item(name, entry.bytes, entry.etag or entry.modified.isoformat())


def read_item(folder: Place, item: Item) -> bytes:
    """Return the bytes of a file in a folder.

    Raises:
        OSError: it can't be read, or is gone.
        RunFailed: it is no longer the one that was listed, or its store fails.
    """
    if not isinstance(folder, Path):
        etag = item.version if item.version.startswith(('"', "W/")) else ""
        key = f"{folder.key}/{item.name}"
        return folder.store.get_range(key, 0, item.bytes, etag=etag) if item.bytes else b""
    with (folder / item.name).open("rb") as file:
        data = file.read(item.bytes + 1)
    if len(data) != item.bytes:
        raise RunFailed(f"{str(folder / item.name)!r} changed while it was read; run again")
    return data
