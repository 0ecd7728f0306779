"""Which way up a photograph is: the one thing of its Exif data that a painting needs."""

import struct
from collections.abc import Iterator

_ORIENTATION = 0x0112
_MAX_ENTRIES = 1000

_TURNS = {
    1: (0, False), 2: (0, True), 3: (180, False), 4: (180, True),
    5: (270, True), 6: (90, False), 7: (90, True), 8: (270, False),
}  # fmt: skip
"""Exif 3.0 (CIPA DC-008), 4.6.5.1.6: orientation → degrees clockwise, and mirrored before that."""


def orientation(data: bytes) -> tuple[int, bool]:
    """Degrees clockwise that the file of a picture is turned for viewing, and if it is mirrored.

    The mirroring, left to right, comes first. (0, False) where nothing readable says otherwise.
    """
    try:
        for payload in _payloads(data):
            return _TURNS.get(_tag(payload.removeprefix(b"Exif\0\0")), (0, False))
    except (struct.error, IndexError):  # cut off, or not what it claims to be
        pass
    return 0, False


def _payloads(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"\xff\xd8"):
        yield from _of_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        yield from _of_chunks(data, 8, ">I4s", b"eXIf", swapped=False)
    elif data.startswith(b"RIFF"):
        yield from _of_chunks(data, 12, "<4sI", b"EXIF", swapped=True)
    elif data.startswith((b"II", b"MM")):
        yield data  # Exif data is TIFF, and so is this


def _of_jpeg(data: bytes) -> Iterator[bytes]:
    """Segments APP1 (ITU-T T.81, B.1.1.4) up to the first scan."""
    place = 2
    while data[place] == 0xFF and data[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, place + 2)
        body = data[place + 4 : place + 2 + length]
        if data[place + 1] == 0xE1 and body.startswith(b"Exif\0\0"):
            yield body
        place += 2 + max(2, length)


def _of_chunks(
    data: bytes, place: int, head: str, wanted: bytes, *, swapped: bool
) -> Iterator[bytes]:
    """Chunks of a PNG (length, name, body, CRC) or of a RIFF (name, length, padded body)."""
    while place + 8 <= len(data):
        first, second = struct.unpack_from(head, data, place)
        name, length = (first, second) if swapped else (second, first)
        if name == wanted:
            yield data[place + 8 : place + 8 + length]
        place += 8 + length + (length % 2 if swapped else 4)


def _tag(tiff: bytes) -> int:
    """The orientation in the first directory of a TIFF structure (TIFF 6.0, section 2)."""
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for number in range(min(entries, _MAX_ENTRIES)):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * number)
        if tag == _ORIENTATION:
            return int(value)
    return 1
