"""Whether a file says of itself that more of it is to come, from a few bytes of its structure.

Nothing is decoded: the service's own process never lets a library loose on a stranger's file.

MP4 and MOV (ISO/IEC 14496-12, section 4.2): boxes, each with its size in front, and "moov" among
them. Matroska and WebM (RFC 8794, RFC 9559): one Segment, with its size in front unless it was
written live. AVI: a RIFF chunk with its size in front. Other containers can't tell.
"""

from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""Bytes `[start, stop)` of the file; fewer where it ends."""

_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"})
"""What an MP4 or a QuickTime file begins with."""
_MAX_BOXES = 64
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_whole(read: Read, size: int) -> bool:
    """Return False when the file's own structure says that a part of it is missing.

    Args:
        read: gives bytes of it.
        size: of the file, bytes.
    """
    head = read(0, min(64, size))
    if not any(head):  # made in its full size, to be filled later
        return False
    if head[4:8] in _BOXES:
        return _boxes_end(read, size)
    if head.startswith(_EBML):
        return _segment_ends(head, size)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return 8 + int.from_bytes(head[4:8], "little") <= size
    return True


def _boxes_end(read: Read, size: int) -> bool:
    at, found = 0, set[bytes]()
    for _ in range(_MAX_BOXES):
        if size - at < 8:
            break
        header = read(at, min(at + 16, size))
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if not kind.isascii() or not any(kind):  # bytes after the end, or not written yet
            break
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:  # until the end of the file
            length = size - at
        if length < 8 or at + length > size:
            return False
        at += length
        found.add(kind)
        if kind == b"moof":  # in fragments, as many as were recorded: any end is an end
            break
    return b"moov" in found


def _segment_ends(head: bytes, size: int) -> bool:
    header = _number(head, 4)
    if header is None:
        return False
    at = header[1] + header[0]
    if head[at : at + 4] != _SEGMENT:
        return at + 4 <= len(head) or at + 4 <= size
    segment = _number(head, at + 4)
    return segment is None or segment[1] + segment[0] <= size


def _number(head: bytes, at: int) -> tuple[int, int] | None:
    """An EBML size and where it ends; None for an unknown size, or one beyond these bytes."""
    if at >= len(head) or head[at] == 0:
        return None
    width = 9 - head[at].bit_length()
    digits = head[at : at + width]
    value = int.from_bytes(digits, "big") & ((1 << 7 * width) - 1)
    if len(digits) < width or value == (1 << 7 * width) - 1:
        return None
    return value, at + width
