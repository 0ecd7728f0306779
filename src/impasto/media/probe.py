"""Read a source once: what it is made of, and the ledger of its frames."""

import hashlib
import math
import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from impasto.errors import SourceRefused
from impasto.media.container import decode, open_source, picture_stream
from impasto.protocols import File
from impasto.records import Color, Ledger, Source, StreamInfo
from impasto.settings import Limits
from impasto.wording import plural

_MATRIX = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc",
           10: "bt2020c", 0: "gbr"}  # fmt: skip
_RANGE = {1: "tv", 2: "pc"}
_PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film",
              9: "bt2020", 11: "smpte431", 12: "smpte432"}  # fmt: skip
_TRANSFER = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear",
             11: "iec61966-2-4", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12",
             16: "smpte2084", 18: "arib-std-b67"}  # fmt: skip
"""Code points of ITU-T H.273 to FFmpeg's names; other numbers count as unspecified."""

COLOR_CODES = {
    "matrix": {name: code for code, name in _MATRIX.items()},
    "range": {name: code for code, name in _RANGE.items()},
    "primaries": {name: code for code, name in _PRIMARIES.items()},
    "transfer": {name: code for code, name in _TRANSFER.items()},
}
"""FFmpeg's names back to code points, for tagging what is encoded."""

_MAX_DAMAGE_LINES = 20


def probe(path: File, limits: Limits | None = None) -> Source:
    """Decode `path` from end to end and return what it holds.

    The whole file is decoded because nothing less is true: headers lie about frame counts, edit
    lists hide frames, and a damaged packet may or may not give a picture.

    Args:
        path: a local file, or one in a store.
        limits: what the file may ask for; the defaults when None.

    Raises:
        SourceRefused: not a video of a known container, no decodable frame, or beyond a limit.
    """
    limits, name = limits or Limits(), str(path)
    with open_source(path, limits) as container:
        stream = picture_stream(container, limits, name)
        found = _scan(container, stream, limits, name, threads=0)
        streams = tuple(_describe(other) for other in container.streams)
        chapters = len(container.chapters())
    if found.damage_lines():
        # Error concealment depends on the thread count: workers will use one thread, so look again.
        with open_source(path, limits) as container:
            stream = picture_stream(container, limits, name)
            found = _scan(container, stream, limits, name, threads=1)
    frame, index = found.first, found.stream_index
    rotation, mirrored = orientation(frame)
    return Source(
        digest=file_digest(path),
        bytes=path.stat().st_size if isinstance(path, Path) else path.size,
        container=found.container,
        video_index=index,
        codec=found.codec,
        width=frame.width,
        height=frame.height,
        rotation=rotation,
        mirrored=mirrored,
        sample_aspect_ratio=found.sample_aspect_ratio,
        pixel_format=frame.format.name,
        color=color_of(frame),
        streams=streams,
        chapters=chapters,
        ledger=found.ledger(),
        damage=tuple(found.damage_lines()),
    )


class _Scan:
    """What one pass over the frames gathers."""

    def __init__(self, container: InputContainer, stream: VideoStream, name: str) -> None:
        self.container = container.format.name
        self.stream_index = stream.index
        self.codec = stream.codec_context.name.replace("libdav1d", "av1")
        self.sample_aspect_ratio = _shape(stream.sample_aspect_ratio)
        if stream.time_base is None or stream.time_base <= 0:
            raise SourceRefused(f"{name!r} has a video stream without a time base")
        self.time_base = stream.time_base
        self.fallback_duration = max(
            1, round(1 / ((stream.guessed_rate or Fraction(25)) * self.time_base))
        )
        self.damage: list[str] = []
        self.packet_pts: set[int] = set()
        self.pts: list[int] = []
        self.keyframe: list[bool] = []
        self.checksum: list[int] = []
        self.last_duration = 0
        self.corrupt: list[int] = []
        self.sorted = False
        self.moved = 0
        self.resized = 0
        self.first: VideoFrame
        self._stated: list[int | None] = []

    def add(self, frame: VideoFrame) -> None:
        if not self._stated:
            self.first = frame
        elif (frame.width, frame.height) != (self.first.width, self.first.height):
            self.resized += 1
        if frame.is_corrupt:
            self.corrupt.append(len(self._stated))
        self._stated.append(frame.pts)
        self.keyframe.append(bool(frame.key_frame))
        self.checksum.append(luma_checksum(frame))
        self.last_duration = frame.duration or 0

    def settle(self) -> None:
        """Make the timestamps rise: a decoder's frames are in display order, whatever they say."""
        stated = [pts for pts in self._stated if pts is not None]
        if len(set(stated)) == len(self._stated):
            # AVI stores no PTS, so FFmpeg hands them out in decode order: right, but permuted.
            self.pts = sorted(stated)
            self.sorted = self.pts != stated
            return
        for pts in self._stated:
            floor = self.pts[-1] + 1 if self.pts else pts or 0
            if pts is None and self.pts:
                floor += (self.last_duration or self.fallback_duration) - 1
            self.moved += pts is None or pts < floor
            self.pts.append(floor if pts is None else max(pts, floor))

    def pictureless(self) -> list[str]:
        """Say which packets gave no picture, for codecs where each packet is one.

        Not those before the first picture, which refer to what was cut off; nor where about every
        other packet has none: those are the second fields of interlaced pictures.
        """
        if self.codec not in {"h264", "hevc", "av1", "vp9"} or self.sorted or self.moved:
            return []
        lost = sorted(pts for pts in self.packet_pts.difference(self.pts) if pts > self.pts[0])
        if not lost or 10 * len(lost) >= 4 * len(self.packet_pts):
            return []
        some = ", ".join(map(str, lost[:8])) + (", …" if len(lost) > 8 else "")
        return [f"{len(lost)} packets gave no picture, at pts {some}"]

    def __len__(self) -> int:
        return len(self._stated)

    def ledger(self) -> Ledger:
        # A last frame that shows no duration of its own lasts as long as the one before it.
        steps = self.pts[-1] - self.pts[-2] if len(self.pts) > 1 else self.fallback_duration
        return Ledger(
            time_base=self.time_base,
            pts=tuple(self.pts),
            keyframe=tuple(self.keyframe),
            checksum=tuple(self.checksum),
            last_duration=self.last_duration or steps,
        )

    def damage_lines(self) -> list[str]:
        lines = list(self.damage[:_MAX_DAMAGE_LINES])
        if len(self.damage) > _MAX_DAMAGE_LINES:
            lines.append(f"… and {len(self.damage) - _MAX_DAMAGE_LINES} more of the kind")
        if self.corrupt:
            some = ", ".join(str(self.pts[place]) for place in self.corrupt[:8])
            some += ", …" if len(self.corrupt) > 8 else ""
            lines.append(f"{plural(len(self.corrupt), 'frame')} damaged, at pts {some}")
        if self.sorted:
            lines.append("the frames' timestamps were out of order, and were sorted")
        if self.moved:
            lines.append(f"{plural(self.moved, 'timestamp')} missing or not rising, and set")
        if self.resized:
            lines.append(
                f"{plural(self.resized, 'frame')} of another size than the first, scaled to it"
            )
        return lines


def _scan(
    container: InputContainer, stream: VideoStream, limits: Limits, name: str, *, threads: int
) -> _Scan:
    found = _Scan(container, stream, name)
    frames = decode(
        container, stream, limits, found.damage, threads=threads, packet_pts=found.packet_pts
    )
    for frame in frames:
        if frame.width * frame.height > limits.max_pixels:
            raise SourceRefused(
                f"{name!r} has a frame of {frame.width}x{frame.height}, over the limit "
                f"of {limits.max_pixels} pixels (max_pixels)"
            )
        if len(found) >= limits.max_frames:
            raise SourceRefused(f"{name!r} has more than {limits.max_frames} frames (max_frames)")
        found.add(frame)
    if not len(found):
        raise SourceRefused(f"{name!r} holds no frame that can be decoded")
    found.settle()
    found.damage += found.pictureless()
    missing = _promised(container, stream) - found.pts[-1] * found.time_base
    if missing > max(Fraction(1, 2), 3 * found.fallback_duration * found.time_base):
        found.damage.append(
            f"the header promises {float(missing):.2f} s of picture beyond pts {found.pts[-1]}, "
            "which the file does not hold"
        )
    return found


def _shape(ratio: Fraction | None) -> Fraction:
    """Sample aspect ratio; within half a per cent of square it is a display size's rounding."""
    if ratio is None or ratio <= 0 or abs(ratio - 1) < Fraction(1, 200):
        return Fraction(1)
    return ratio


def _promised(container: InputContainer, stream: VideoStream) -> Fraction:
    """When the picture ends by the stream's own header, in seconds; 0 where it does not say."""
    if "matroska" in container.format.name:
        return _clock_time(stream.metadata.get("DURATION", ""))
    if stream.duration is None or stream.time_base is None or "mov" not in container.format.name:
        return Fraction(0)
    return (stream.duration + (stream.start_time or 0)) * stream.time_base


def _clock_time(text: str) -> Fraction:
    """Seconds of "00:01:02.345000000", the tag that Matroska's muxers write; 0 of anything else."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text.strip())
    if found is None:
        return Fraction(0)
    return int(found[1]) * 3600 + int(found[2]) * 60 + Fraction(found[3])


def luma_checksum(frame: VideoFrame) -> int:
    """CRC-32 of a decoded frame's first plane, padding left out."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))
    rows = rows[: plane.height, : _picture_bytes_per_line(frame)]
    return zlib.crc32(rows.tobytes())


def _picture_bytes_per_line(frame: VideoFrame) -> int:
    if len(frame.planes) == 1:
        return frame.width * frame.format.padded_bits_per_pixel // 8
    return frame.width * math.ceil(frame.format.components[0].bits / 8)


def color_of(frame: VideoFrame) -> Color:
    """Read a decoded frame's colour tags (ITU-T H.273) by FFmpeg's names."""
    return Color(
        matrix=_MATRIX.get(int(frame.colorspace), "unspecified"),
        range=_RANGE.get(int(frame.color_range), "unspecified"),
        primaries=_PRIMARIES.get(int(frame.color_primaries), "unspecified"),
        transfer=_TRANSFER.get(int(frame.color_trc), "unspecified"),
    )


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """How a player turns the picture: degrees clockwise, and whether it mirrors it first.

    The display matrix is nine 16.16 numbers (ISO/IEC 14496-12, tkhd); its first four are the
    linear part (a, b, c, d) with x' = a·x + c·y and y' = b·x + d·y.
    """
    matrix = cast("SideData | None", frame.side_data.get(SideDataType.DISPLAYMATRIX))  # type: ignore[call-overload]  # the stubs say str, the code takes this
    if matrix is None:
        return 0, False
    numbers = struct.unpack("=9i", bytes(matrix)[:36])
    a, b, c, d = numbers[0], numbers[1], numbers[3], numbers[4]
    mirrored = a * d - b * c < 0
    if mirrored:  # flipping left to right first negates the column that x is multiplied with
        a, b = -a, -b
    angle = math.degrees(math.atan2(b, a))
    return round(angle / 90) * 90 % 360, mirrored


def file_digest(path: File) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    if not isinstance(path, Path):
        return path.sha256()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(stream: av.stream.Stream) -> StreamInfo:
    context = getattr(stream, "codec_context", None)
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        codec=context.name if context is not None else "unknown",
        language=stream.metadata.get("language", "").replace("und", ""),
        attached_picture=bool(stream.disposition & stream.disposition.attached_pic),
    )
