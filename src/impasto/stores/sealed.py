"""A store whose objects are sealed before they are put, and opened when they are read."""

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import BinaryIO, cast

from impasto.errors import RunFailed
from impasto.stores.reader import Blocks, RangeReader
from impasto.stores.sealing import (
    BLOCK,
    HEADER,
    Seal,
    SealedFile,
    check_installed,
    new_header,
    plain_size,
    sealed_range,
)
from impasto.stores.store import Entry, Store


class SealedStore(Store):
    """Seals what goes into a store with the newest of its keys, and opens what comes out.

    Sizes are those of the plain bytes; an etag is that of the sealed ones. Names are not hidden.

    Args:
        inner: holds the sealed objects.
        keys: by id; the first seals what is new, the others open what is old.
        place: of `inner` below the URL that the keys are for, to which each object is bound.

    Raises:
        RequestError: the package `cryptography` is missing.
    """

    def __init__(self, inner: Store, keys: Mapping[str, bytes], *, place: str = "") -> None:
        check_installed()
        self._inner, self._keys, self._place = inner, keys, place
        self.url, self.access = inner.url, inner.access
        self._newest = next(iter(keys))

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        self._inner.put(key, self._sealed(key, data))

    def put_new(self, key: str, data: bytes) -> bool:
        """See `Store`."""
        return self._inner.put_new(key, self._sealed(key, data))

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """See `Store`."""
        return self._inner.put_if_match(key, self._sealed(key, data), etag)

    def upload(self, key: str, file: BinaryIO, *, new: bool = True) -> bool:
        """See `Store`."""
        sealed = SealedFile(file, self._new_seal(key))
        return self._inner.upload(key, cast("BinaryIO", sealed), new=new)

    def get(self, key: str) -> bytes:
        """See `Store`.

        Raises:
            FileNotFoundError: there is none.
            RunFailed: it was not sealed so, or is damaged.
        """
        data = self._inner.get(key)
        return self._seal(data[:HEADER], key).open(data[HEADER:], block=0, last=True)

    def get_range(self, key: str, start: int, stop: int, *, etag: str = "") -> bytes:
        """See `Store`; raises also as `get` does."""
        entry = self._inner.head(key)
        if etag and entry.etag != etag:
            raise RunFailed(f"{key!r} in {self.url} changed while it was read; run again")
        if stop > plain_size(entry.bytes):
            raise RunFailed(f"{key!r} in {self.url} was damaged: it ends before byte {stop}")
        first, end = sealed_range(start, stop)
        data = self._inner.get_range(key, first, min(end, entry.bytes), etag=entry.etag)
        seal = self._seal_of(key, entry.etag)
        plain = seal.open(data, block=start // BLOCK, last=end >= entry.bytes)
        return plain[start % BLOCK :][: stop - start]

    def head(self, key: str) -> Entry:
        """See `Store`."""
        return _plain(self._inner.head(key))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See `Store`."""
        return map(_plain, self._inner.list(prefix))

    def delete(self, key: str) -> None:
        """See `Store`."""
        self._inner.delete(key)

    def sweep(self, before: datetime) -> None:
        """See `Store`."""
        self._inner.sweep(before)

    def reseal(self) -> Iterator[str]:
        """Seal anew, with the newest key, what another key sealed; yield each key when it is done.

        It may be broken off and begun again. An object that is written meanwhile may get its old
        content back, so let nothing run.
        """
        for entry in list(self._inner.list()):
            if self._seal_of(entry.key, entry.etag).key_id == self._newest:
                continue
            with tempfile.TemporaryFile() as scratch:  # sealed already: plain bytes touch no disk
                sealed = SealedFile(self._reader(entry), self._new_seal(entry.key))
                shutil.copyfileobj(sealed, scratch, BLOCK)
                self._inner.upload(entry.key, scratch, new=False)
            yield entry.key

    def _reader(self, entry: Entry) -> BinaryIO:
        def fetch(start: int, stop: int) -> bytes:
            return self.get_range(entry.key, start, stop, etag=entry.etag)

        blocks = Blocks(plain_size(entry.bytes), fetch)
        return io.BufferedReader(RangeReader(blocks.size, blocks.read))

    def _sealed(self, key: str, data: bytes) -> bytes:
        seal, blocks = self._new_seal(key), range(0, max(1, len(data)), BLOCK)
        sealed = (
            seal.seal(data[at : at + BLOCK], block=at // BLOCK, last=at == blocks[-1])
            for at in blocks
        )
        return seal.header + b"".join(sealed)

    def _new_seal(self, key: str) -> Seal:
        return self._seal(new_header(self._newest), key)

    def _seal_of(self, key: str, etag: str) -> Seal:
        return self._seal(self._inner.get_range(key, 0, HEADER, etag=etag), key)

    def _seal(self, header: bytes, key: str) -> Seal:
        return Seal(header, f"{self._place}/{key}".strip("/"), self._keys)


def _plain(entry: Entry) -> Entry:
    return replace(entry, bytes=plain_size(entry.bytes))
