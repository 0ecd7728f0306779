"""A store over obstore, with errors in Impasto's words."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from impasto.errors import OutOfSpace, RequestError, RunFailed


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing shows it."""

    key: str
    bytes: int
    modified: datetime


class Store:
    """Objects below one URL."""

    def __init__(self, backend: LocalStore, url: str) -> None:
        self._backend = backend
        self.url = url

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, in place of any that was there.

        Raises:
            RunFailed: the store does not take it.
        """
        with self._translated("write", key):
            obstore.put(self._backend, key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one already; return whether it was written.

        Raises:
            RunFailed: the store does not take it.
        """
        with self._translated("write", key):
            try:
                obstore.put(self._backend, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: there is none.
            RunFailed: the store does not give it.
        """
        with self._translated("read", key):
            return bytes(obstore.get(self._backend, key).bytes())

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        try:
            with self._translated("look up", key):
                obstore.head(self._backend, key)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose keys lie below `prefix`, whole path parts, in no order."""
        with self._translated("list", prefix):
            for batch in obstore.list(self._backend, prefix or None):
                for found in batch:
                    yield Entry(found["path"], found["size"], found["last_modified"])

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            with self._translated("delete", key):
                obstore.delete(self._backend, key)
        except FileNotFoundError:
            return

    @contextmanager
    def _translated(self, verb: str, key: str) -> Generator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            if any(f"(os error {code})" in reason for code in OutOfSpace.CODES):
                raise OutOfSpace(
                    f"no space left in {self.url} for {key!r}; make room there and give the same "
                    "command again: it goes on from what is done"
                ) from error
            raise RunFailed(f"can't {verb} {key!r} in {self.url}: {reason}") from error


def open_store(url: str) -> Store:
    """Open the store at a path or a file:// URL; the folder is made when missing.

    Raises:
        RequestError: another kind of URL, or a folder that can't be made.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
    elif len(parts.scheme) > 1:  # one letter is a Windows drive
        raise RequestError(
            f"store {parts.scheme}://… is not supported by this version; use a local folder"
        )
    else:
        path = Path(url).expanduser()
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"can't make the store {str(path)!r}: {error.strerror}") from error
    return Store(LocalStore(path), str(path))
