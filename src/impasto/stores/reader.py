"""Read an object by range, so that it is used like an open file."""

import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable

BLOCK = 64 << 10
"""Bytes; the unit in which an object is asked for and kept."""
_LONGEST = 64
"""Blocks of the longest request: 4 MiB, so that 20 ms to a store cost little of its bandwidth."""
_KEPT = 512
"""Blocks that are kept: 32 MiB, with room for the index of a long film."""


class Blocks:
    """An object's bytes, fetched by whole blocks as they are needed, the last used ones kept.

    Who reads on behind what was fetched is given twice as much each time, up to the longest
    request: a few frames cost little more than their own bytes, and a whole film few requests.

    Args:
        size: of the object, bytes.
        fetch: returns bytes [start, stop) of it.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self.size = size
        self._fetch = fetch
        self._blocks: OrderedDict[int, tuple[bytes, int]] = OrderedDict()
        """Each with the length of the request that it came by, in blocks."""
        self._sha256 = hashlib.sha256()
        self._hashed = 0

    def read(self, start: int, most: int) -> bytes:
        """Return some of the bytes from `start` on: 1 to `most`, none at the end."""
        if start >= self.size or most <= 0:
            return b""
        place = start // BLOCK
        if place not in self._blocks:
            self._load(place)
        self._blocks.move_to_end(place)
        offset = start - place * BLOCK
        return self._blocks[place][0][offset : offset + most]

    def _load(self, place: int) -> None:
        length = min(_LONGEST, 2 * self._blocks[place - 1][1]) if place - 1 in self._blocks else 1
        data = self._get(place * BLOCK, min(self.size, (place + length) * BLOCK))
        for offset in range(0, len(data), BLOCK):
            self._blocks[place + offset // BLOCK] = (data[offset : offset + BLOCK], length)
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)

    def _get(self, start: int, stop: int) -> bytes:
        data = self._fetch(start, stop)
        if start <= self._hashed < stop:
            self._sha256.update(data[self._hashed - start :])
            self._hashed = stop
        return data

    def sha256(self) -> str:
        """Digest of all bytes, in hexadecimal; those that were not read in order are read now."""
        while self._hashed < self.size:
            self._get(self._hashed, min(self.size, self._hashed + _LONGEST * BLOCK))
        return self._sha256.hexdigest()


class RangeReader(io.RawIOBase):
    """An open file whose bytes come by range. It has no name, which FFmpeg could follow.

    Args:
        size: bytes.
        read: gives the bytes at a place, at least one and at most so many; none at the end.
    """

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._read = read
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place; the next read fetches what is there."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no byte {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill `buffer` as far as one range goes; 0 is the end."""
        data = self._read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
