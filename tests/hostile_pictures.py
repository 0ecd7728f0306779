"""Pictures that a reader must survive."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_SIDE = 40_000


def bomb(path: Path) -> None:
    """Write a PNG of a few kilobytes that claims 1.6 billion pixels, and has the first rows."""
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes((1 + 3 * _SIDE) * 30), 9)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
