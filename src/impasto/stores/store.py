"""A store over obstore, with errors in Impasto's words."""

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, ObjectStore

from impasto.access import Access
from impasto.errors import ImpastoError, OutOfSpace, RequestError, RunFailed, Unavailable, Way

_PART_BYTES = 8 << 20
_PARTS_AT_A_TIME = 4
_ONE_PUT_BYTES = 16 << 20
"""Up to here an upload is one request; beyond it is sent in parts."""
_ONE_COPY_BYTES = 5 << 30
"""What S3 copies in one request; Azure and Google copy more."""
_LIST_BATCH = 1000
_COPY_TIMEOUT_S = 60.0
_TRIES = 3
_TRY_AGAIN_S = 0.5
_PART = re.compile(r"(^|/)\.[^/]{1,80}-[0-9a-f]{8}\.part$")
"""What an upload is called until it is whole."""
_NOWHERE = tuple(f"(os error {code})" for code in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP))


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing shows it."""

    key: str
    bytes: int
    modified: datetime
    etag: str = ""
    """Changes with every write; in the quotes that HTTP puts around it."""


class Store:
    """Objects below one URL.

    Every method raises Unavailable when the credentials are refused or the container is missing,
    and RunFailed when the store fails, after a few retries within seconds; both in one line.

    Args:
        backend: obstore's.
        url: what names it in reports; holds no secret.
        prefix: that every key gets, without a "/" at its end.
        access: what it was opened with, for those who open it elsewhere; no message shows it.
        delete: removes an object where the backend's own way is not open.
    """

    def __init__(
        self,
        backend: ObjectStore,
        url: str,
        *,
        prefix: str = "",
        access: Access | None = None,
        delete: Callable[[str], None] | None = None,
    ) -> None:
        self._backend = backend
        self.url = url
        self._prefix = prefix
        self.access = access
        self._delete = delete

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, in place of any that was there."""
        with self._translated("write", key):
            obstore.put(self._at(key), self._path(key), data, max_concurrency=_PARTS_AT_A_TIME)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one already; return whether it was written."""
        with self._translated("write", key):
            return self._put_where(key, data, "create", (AlreadyExistsError,))

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """Write an object in place of the one with that etag; return whether it was still there."""
        with self._translated("write", key):
            backend = self._at(key)
            if isinstance(backend, LocalStore):
                return self._put_if_match_locally(backend, key, data, etag)
            unmet = (PreconditionError, FileNotFoundError)
            return self._put_where(key, data, {"e_tag": etag}, unmet)

    def _put_where(
        self, key: str, data: bytes, condition: Any, unmet: tuple[type[Exception], ...]
    ) -> bool:
        """Write on a condition; return whether it was met.

        When the connection breaks nobody knows whether it was written, so obstore does not repeat
        it. We do, and look at what is there when the condition is no longer met.
        """
        for tries_left in reversed(range(_TRIES)):
            try:
                obstore.put(self._at(key), self._path(key), data, mode=condition)
            except unmet:
                with contextlib.suppress(FileNotFoundError):
                    return tries_left < _TRIES - 1 and self.get(key) == data
                return False
            except GenericError as error:
                if not tries_left or plain_answer(str(error)) != _BROKEN:
                    raise
                time.sleep(_TRY_AGAIN_S)
            else:
                return True
        raise AssertionError("not reached")

    def _put_if_match_locally(self, folder: LocalStore, key: str, data: bytes, etag: str) -> bool:
        """Compare and write under a lock on the store's folder: files know no condition."""
        import fcntl

        assert folder.prefix is not None
        lock = os.open(folder.prefix, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if self.head(key).etag != etag:
                    return False
            except FileNotFoundError:
                return False
            self.put(key, data)
            return True
        finally:
            os.close(lock)

    def upload(self, key: str, file: BinaryIO, *, new: bool = True) -> bool:
        """Write a file of any size, in parts where it is large; return whether it was written.

        Args:
            key: appears when the last byte is there.
            file: seekable; read from its beginning.
            new: leave an object that is there already alone, and return False.
        """
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not new:
            with self._translated("write", key):
                self._upload(self._path(key), file)
            return True
        if size <= _ONE_PUT_BYTES:
            return self.put_new(key, file.read())
        if self.exists(key):
            return False
        if size > _ONE_COPY_BYTES:
            with self._translated("write", key):
                self._upload(self._path(key), file)
            return True
        return self._upload_new(key, file, size)

    def _upload(self, path: str, file: BinaryIO) -> None:
        obstore.put(
            self._backend,
            path,
            file,
            use_multipart=True,
            chunk_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_A_TIME,
        )

    def _upload_new(self, key: str, file: BinaryIO, size: int) -> bool:
        """Send the parts to another key, then copy on the condition that nothing is at `key`.

        The condition can't be set on parts themselves: object_store has no way to say it.
        """
        folder, _, name = key.rpartition("/")
        mark = f".{name[:80]}-{secrets.token_hex(4)}.part"  # see `sweep_uploads`
        part = f"{folder}/{mark}" if folder else mark
        try:
            with self._translated("write", key):
                self._upload(self._path(part), file)
                try:
                    obstore.copy(self._backend, self._path(part), self._path(key), overwrite=False)
                except AlreadyExistsError:
                    return False
            self._await_copy(key, size)
            return True
        finally:
            with contextlib.suppress(ImpastoError):
                self.delete(part)

    def _await_copy(self, key: str, size: int) -> None:
        """Wait until a copy is whole: Azure may answer before it is."""
        until = time.monotonic() + _COPY_TIMEOUT_S
        while self.head(key).bytes != size:
            if time.monotonic() > until:
                raise RunFailed(f"can't write {key!r} in {self.url}: its copy was not finished")
            time.sleep(0.5)

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._translated("read", key):
            return bytes(obstore.get(self._at(key), self._path(key)).bytes())

    def get_range(self, key: str, start: int, stop: int, *, etag: str = "") -> bytes:
        """Return bytes `[start, stop)` of an object, `stop` within it.

        Args:
            key: of the object.
            start: first byte.
            stop: behind the last byte.
            etag: that the object must have; any when empty.

        Raises:
            FileNotFoundError: there is none.
            RunFailed: it has another etag, or the store fails.
        """
        with self._translated("read", key):
            try:
                found = obstore.get(
                    self._at(key),
                    self._path(key),
                    options={"range": (start, stop), **({"if_match": etag} if etag else {})},
                )
                return bytes(found.bytes())
            except PreconditionError:
                raise RunFailed(
                    f"{key!r} in {self.url} changed while it was read; run again"
                ) from None

    def head(self, key: str) -> Entry:
        """Return what a listing would show of an object.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._translated("look up", key):
            return self._entry(obstore.head(self._at(key), self._path(key)))

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        try:
            self.head(key)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the objects whose keys lie below `prefix`, whole path parts, in no order.

        They are asked for by the thousand as they are read, so a store of any size is listed in
        little memory.
        """
        with contextlib.suppress(FileNotFoundError), self._translated("list", prefix):
            batches = obstore.list(
                self._at(prefix), self._path(prefix) or None, chunk_size=_LIST_BATCH
            )
            for batch in batches:
                for found in batch:
                    yield self._entry(found)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError), self._translated("delete", key):
            if self._delete is not None:
                self._delete(self._path(key))
            else:
                obstore.delete(self._at(key), self._path(key))

    def renew(self, newer: "Store") -> None:
        """Go on as `newer` does, which opens the same with credentials that were given later."""
        vars(self).update(vars(newer))

    def _at(self, key: str) -> ObjectStore:  # noqa: ARG002 - of another kind of store
        """What an object is reached by."""
        return self._backend

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}".strip("/") if self._prefix else key

    def _entry(self, found: "obstore.ObjectMeta") -> Entry:
        path = found["path"]
        key = path.removeprefix(self._prefix).lstrip("/") if self._prefix else path
        return Entry(key, found["size"], found["last_modified"], _quoted(found["e_tag"] or ""))

    def sweep(self, before: datetime) -> None:
        """Remove what processes that were killed had begun to write in a folder until then.

        A remote store shows nothing unfinished, and has rules of its own for parts of uploads.
        """
        if not isinstance(self._backend, LocalStore) or self._backend.prefix is None:
            return
        for path in Path(self._backend.prefix).rglob("*#*"):  # obstore's, beside the object
            if path.name.rpartition("#")[2].isdecimal():
                with contextlib.suppress(FileNotFoundError):  # just renamed by a living one
                    if path.stat().st_mtime < before.timestamp():
                        path.unlink()

    def sweep_uploads(self, before: datetime) -> None:
        """Remove what uploads of killed processes had put beside their objects until then."""
        left = [one.key for one in self.list() if one.modified < before and _PART.search(one.key)]
        for key in left:
            self.delete(key)

    @contextmanager
    def _translated(self, verb: str, key: str) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if re.search("ContainerNotFound|NoSuchBucket", str(error)):
                raise Unavailable(self._no_container()) from None
            if verb == "write":  # into a folder that is gone, say
                raise RunFailed(
                    f"can't write {key!r} in {self.url}: there is no such place"
                ) from None
            raise FileNotFoundError(f"there is no {key!r} in {self.url}") from None
        except (BaseError, OSError, ValueError) as error:
            if verb != "write" and self._nowhere(key, error):
                raise FileNotFoundError(f"there is no {key!r} in {self.url}") from None
            raise self._plain(verb, key, error) from None  # the original may show a secret

    def _nowhere(self, key: str, error: Exception) -> bool:
        """Whether a disk says that it could hold nothing there: below a file, or by that name."""
        line = str(error).partition("\n")[0]
        return isinstance(self._at(key), LocalStore) and line.endswith(_NOWHERE)

    def _no_container(self) -> str:
        return f"{self.url} has no such container or bucket; make it first, or see its account"

    def _plain(self, verb: str, key: str, error: Exception) -> ImpastoError:
        text = str(error)
        for secret in self.access.secrets if self.access else ():
            text = text.replace(secret, "…")
        if isinstance(error, ValueError):
            return RequestError(f"{key!r} can't be the key of an object in {self.url}")
        what = f"can't {verb} {key!r} in {self.url}"
        if re.search("ContainerNotFound|NoSuchBucket", text):
            return Unavailable(self._no_container())
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if denied or re.search(r"status code: 40[13] ", text):
            return Unavailable(f"{what}: the credentials are refused ({plain_answer(text)})")
        if any(f"(os error {code})" in text for code in OutOfSpace.CODES):
            return OutOfSpace(
                f"no space left in {self.url} for {key!r}; make room there", Way("resume")
            )
        return RunFailed(f"{what}: {plain_answer(text)}")


def _quoted(etag: str) -> str:
    """An etag as a condition needs it: Azure's listings leave out the quotes."""
    return f'"{etag}"' if etag and not etag.endswith('"') else etag


def plain_answer(text: str) -> str:
    """What a store's failure comes down to, of the pages that obstore writes about it."""
    status = re.search(r"status code: (\d{3} [A-Za-z ]+)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if status:
        return f"it answers {status[1].strip()}{f', {code[1]}' if code else ''}"
    for mark, words in _FAULTS.items():
        if mark in text:
            return words
    line = text.strip().partition("\n")[0]
    return line[:300]


def may_pass(text: str) -> bool:
    """Whether it is a failure of a store or the way there, and no refusal."""
    return bool(re.search(r"status code: (408|429|5\d\d) ", text)) or "kind: " in text


_BROKEN = "the connection broke"
_FAULTS = {
    "InvalidCertificate": "its certificate is not trusted",
    "kind: Timeout": "it does not answer in time",
    "kind: Connect": "it can't be reached",
    "kind: Interrupted": _BROKEN,
    "kind: Request": _BROKEN,
}
"""How object_store and rustls write what goes wrong below HTTP; the first that is found counts."""
