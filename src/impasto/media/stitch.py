"""Join segments by the ledger's timestamps, and carry over everything else packet for packet."""

import heapq
import io
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Stream

from impasto.errors import RunFailed
from impasto.media.container import open_source, reason
from impasto.media.encode import reorder_depth, segment_packets
from impasto.media.publish import no_room
from impasto.protocols import File
from impasto.records import Ledger, Plan, Source
from impasto.settings import Limits
from impasto.wording import plural

MUXERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
}
"""Containers that Impasto writes, by file extension: those that hold any timestamps."""

_VIDEO_IN = {
    "mp4": {"h264", "h265", "av1", "vp9"},
    "mov": {"h264", "h265"},
    "matroska": {"h264", "h265", "av1", "vp9", "ffv1"},
    "webm": {"vp9", "av1"},
    "mpegts": {"h264", "h265"},
}
_TAGS = {("mp4", "h265"): "hvc1", ("mov", "h265"): "hvc1"}
"""hvc1 instead of FFmpeg's hev1, which QuickTime and Safari do not play."""
_MIN_TIMESCALE = 10_000
"""Ticks per second that FFmpeg's mov muxer doubles a track's clock up to."""
_MAX_TIMESCALE = 1 << 31


_CARRIED_BY_TS = set("aac ac3 eac3 mp2 mp3 opus dvbsub h264 hevc mpeg2video".split())
"""FFmpeg's MPEG-TS muxer does not say what it carries: it takes any codec as private data."""

_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1",
                  8: "7.1"}  # fmt: skip

_STALE_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
_STALE_STREAM_TAGS = frozenset({"rotate", "encoder", "DURATION", "vendor_id"})
"""What describes the old file or the old picture, and is written anew."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of the source's timeline the target shows."""

    shift_s: Fraction
    """Seconds subtracted from every timestamp; 0 unless --start cuts something off."""
    stop_s: Fraction | None
    """Seconds on the source's clock; None keeps everything to the end."""

    def keeps(self, time_s: Fraction) -> bool:
        """Whether a packet of a copied stream that is due at `time_s` belongs to the target."""
        if self.shift_s and time_s < self.shift_s:
            return False
        return self.stop_s is None or time_s < self.stop_s


def select(ledger: Ledger, start: int, stop: int) -> Selection:
    """Return the part of the timeline that frames `[start, stop)` of the ledger cover."""
    shift = ledger.pts[start] * ledger.time_base if start else Fraction(0)
    stop_s = ledger.pts[stop] * ledger.time_base if stop < len(ledger) else None
    return Selection(shift_s=shift, stop_s=stop_s)


def unsupported(source: Source, path: File, codec: str) -> list[str]:
    """Name what a container of `path`'s extension can't hold; empty when it holds everything.

    Timed data no muxer writes is not named here: see `stitch`.
    """
    muxer = MUXERS.get(path.suffix.lower())
    if muxer is None:
        return [f"anything: Impasto writes {', '.join(MUXERS)}"]
    problems = [] if codec in _VIDEO_IN[muxer] else [f"{codec} video"]
    known = _CARRIED_BY_TS if muxer == "mpegts" else _carried_by(muxer)
    for stream in source.streams:
        if stream.index == source.video_index or stream.kind in {"data", "unknown"}:
            continue
        if stream.kind == "attachment":
            problems += ["attachments"] if muxer != "matroska" else []
        elif not {stream.codec, stream.codec.removesuffix("float")} & known:
            problems.append(f"{stream.codec} {stream.kind}")
    return problems


def _carried_by(muxer: str) -> set[str]:
    with av.open(_Nowhere(), "w", format=muxer) as container:
        return container.supported_codecs


class _Nowhere:
    """A file that forgets, so that a muxer can be asked what it supports."""

    name = "impasto.nowhere"

    def write(self, data: bytes) -> int:
        return len(data)

    def seek(self, offset: int, _whence: int = 0) -> int:
        return offset

    def tell(self) -> int:
        return 0


def stitch(
    path: File,
    plan: Plan,
    segments: Callable[[int], bytes],
    target: Path,
    *,
    muxer: str,
    limits: Limits | None = None,
) -> tuple[str, ...]:
    """Write the target: segments as the picture, every other stream copied from the source.

    Args:
        path: the source; read by range where it lies elsewhere.
        plan: names the chunks and holds the ledger.
        segments: gives the bytes of a chunk's segment by chunk index; asked in order, once each.
        target: a file to create; the caller renames it when it is proven good.
        muxer: FFmpeg's name of the target's container.
        limits: for opening the source again.

    Returns:
        What a person should know: streams that no muxer can carry.

    Raises:
        RunFailed: a segment does not hold the frames that its chunk has, or the target can't be
            written.
        OSError: there is no room for the target.
    """
    notes: list[str] = []
    try:
        _write(path, plan, segments, target, muxer, limits or Limits(), notes)
    except (av.FFmpegError, OSError, ValueError) as error:
        if no_room(error):
            raise  # whoever publishes the target knows what it is called
        raise RunFailed(f"can't write {str(target)!r} as {muxer}: {reason(error)}") from error
    return tuple(notes)


def _write(
    path: File,
    plan: Plan,
    segments: Callable[[int], bytes],
    target: Path,
    muxer: str,
    limits: Limits,
    notes: list[str],
) -> None:
    options = _muxer_options(muxer, plan.source.ledger.time_base)
    cut = select(plan.source.ledger, plan.spec.start, plan.spec.stop)
    with (
        open_source(path, limits) as source,
        av.open(str(target.absolute()), "w", format=muxer, options=options) as output,
    ):
        first = segments(plan.chunks[0].index)
        video, copies = _add_streams(output, source, plan, first, notes)
        _copy_description(output, source, cut)
        packets = heapq.merge(
            _video_packets(plan, first, segments, video, cut),
            _copied_packets(source, copies, cut),
            key=lambda pair: pair[0],
        )
        for _, packet in packets:
            output.mux(packet)


def _muxer_options(muxer: str, time_base: Fraction) -> dict[str, str]:
    # Otherwise Matroska's muxer draws random identifiers, and no two targets are the same.
    exact = {"fflags": "+bitexact"}
    if muxer not in {"mp4", "mov"}:
        return exact
    # Edit lists count by the film's clock, in milliseconds unless told otherwise: a first PTS of
    # 1/24 s would move by 0.3 ms against the sound. Chapters count by it, too, so both must fit.
    scale = time_base.denominator
    while scale < _MIN_TIMESCALE:
        scale *= 2
    scale = math.lcm(scale, 1000)
    clock = {"movie_timescale": str(scale)} if scale < _MAX_TIMESCALE else {}
    return exact | {"movflags": "+faststart"} | clock


def _add_streams(
    output: OutputContainer, source: InputContainer, plan: Plan, first: bytes, notes: list[str]
) -> tuple[Stream, dict[int, Stream]]:
    """Add the target's streams in the source's order; return the picture's and the copied ones.

    They are opaque: the muxer gets the stream's parameters as they are, and no codec is opened.
    """
    video: Stream | None = None
    copies: dict[int, Stream] = {}
    for stream in source.streams:
        if stream.index == plan.source.video_index:
            video = added = _add_video(output, plan, first)
        elif isinstance(stream, AttachmentStream):
            name = stream.name or f"attachment-{stream.index}"
            mimetype = stream.mimetype or "application/octet-stream"
            added = output.add_attachment(name, mimetype, stream.data)
        elif is_cover(stream) and output.format.name == "matroska":
            # Matroska keeps covers as attachments, and shows them as cover streams when read.
            body = _cover_of(source, stream.index)
            png = stream.codec_context.name == "png"
            name, kind = ("cover.png", "image/png") if png else ("cover.jpg", "image/jpeg")
            output.add_attachment(name, kind, body)
            continue
        elif stream.type in {"audio", "subtitle", "video"}:
            added = copies[stream.index] = output.add_stream_from_template(stream, opaque=True)
            added.time_base = stream.time_base
            _name_layout(added)
        else:
            notes.append(f"stream {stream.index} (timed data) is left out: no container writes it")
            continue
        added.metadata.update(
            {k: v for k, v in stream.metadata.items() if k not in _STALE_STREAM_TAGS}
        )
        added.disposition = stream.disposition
    if video is None:
        raise RunFailed(f"stream {plan.source.video_index} of the source is gone")
    return video, copies


def _name_layout(copy: Stream) -> None:
    """Name the loudspeakers where the source only counts them, as PCM in AVI does.

    The mov muxer refuses PCM otherwise; the names are those that FFmpeg takes for each number.
    """
    if isinstance(copy, av.AudioStream) and copy.codec_context.layout.name.endswith(" channels"):
        channels = copy.codec_context.layout.nb_channels
        copy.codec_context.layout = _USUAL_LAYOUTS.get(channels, copy.codec_context.layout.name)


def _add_video(output: OutputContainer, plan: Plan, first: bytes) -> Stream:
    with av.open(io.BytesIO(first), format="matroska") as segment:
        stream = output.add_stream_from_template(segment.streams.video[0], opaque=True)
    stream.time_base = plan.source.ledger.time_base
    tag = _TAGS.get((output.format.name, plan.spec.encode.codec))
    if tag:
        stream.codec_context.codec_tag = tag
    return stream


def _copy_description(output: OutputContainer, source: InputContainer, cut: Selection) -> None:
    output.metadata.update({k: v for k, v in source.metadata.items() if k not in _STALE_TAGS})
    chapters = []
    for chapter in source.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"] * base, chapter["end"] * base
        end = min(end, cut.stop_s) if cut.stop_s is not None else end
        start, end = max(start - cut.shift_s, Fraction(0)), end - cut.shift_s
        if start < end:
            moved = chapter.copy()
            moved["start"], moved["end"] = int(start / base), int(end / base)
            chapters.append(moved)
    if chapters:
        output.set_chapters(chapters)


def _video_packets(
    plan: Plan, first: bytes, segments: Callable[[int], bytes], stream: Stream, cut: Selection
) -> "Iterator[tuple[Fraction, Packet[Stream]]]":
    """Give every packet its frame's PTS from the ledger, and a DTS that rises over the joints.

    The packet at place i of the decode order takes the i-th smallest timestamp, moved `depth`
    frames earlier: that rises, and is never later than the packet's own PTS, because no frame is
    decoded more than `depth` places after its place in the display order.
    """
    ledger, spec = plan.source.ledger, plan.spec
    shift = round(cut.shift_s / ledger.time_base)
    depth = reorder_depth(spec.encode)
    step = max(1, ledger.duration(spec.start))
    for chunk in plan.chunks:
        data = first if chunk.index == plan.chunks[0].index else segments(chunk.index)
        segment = segment_packets(data)
        if len(segment) != len(chunk):
            raise RunFailed(
                f"segment {chunk.index} holds {plural(len(segment), 'frame')} where its chunk has "
                f"{len(chunk)}; remove it from the store and run again"
            )
        for place, (body, rank, keyframe) in enumerate(segment):
            frame, earlier = chunk.start + rank, chunk.start + place - depth
            missing = max(0, spec.start - earlier)
            packet = Packet(body)
            packet.stream = stream
            packet.time_base = ledger.time_base
            packet.pts = ledger.pts[frame] - shift
            packet.dts = ledger.pts[max(earlier, spec.start)] - missing * step - shift
            packet.duration = ledger.duration(frame)
            packet.is_keyframe = keyframe
            if packet.dts > packet.pts:
                raise RunFailed(f"segment {chunk.index} reorders frames by more than {depth}")
            yield packet.dts * ledger.time_base, packet


def _copied_packets(
    source: InputContainer, copies: dict[int, Stream], cut: Selection
) -> "Generator[tuple[Fraction, Packet[Stream]]]":
    for packet in packets_of(source, list(copies)):
        if timeless(packet):  # a cover: it belongs to every part
            packet.pts = packet.dts = 0
            packet.stream = copies[packet.stream_index]
            yield Fraction(0), packet
            continue
        time_s = due(packet)
        if not cut.keeps(time_s) or blank(packet, copies[packet.stream_index].codec_context.name):
            continue
        shift = round(cut.shift_s / packet.time_base)
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        packet.stream = copies[packet.stream_index]
        yield time_s - cut.shift_s, packet


def packets_of(container: InputContainer, indices: list[int]) -> "Generator[Packet[Stream]]":
    """Yield the packets of some streams, as they lie in the file, to where it can be read."""
    if not indices:
        return
    try:
        for packet in container.demux([container.streams[index] for index in indices]):
            if packet.size and (not timeless(packet) or is_cover(packet.stream)):
                yield packet
    except av.FFmpegError:  # a truncated file: what could be read is carried over
        return


def timeless(packet: "Packet[Stream]") -> bool:
    """Whether a packet has no time at all, as a cover picture's."""
    return packet.dts is None and packet.pts is None


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a still that stands for the film."""
    return bool(stream.disposition & stream.disposition.attached_pic)


def _cover_of(source: InputContainer, index: int) -> bytes:
    # Demuxers hand a cover out first, and again after a seek to the beginning.
    body = b""
    for packet in source.demux(source.streams[index]):
        if packet.size:
            body = bytes(packet)
            break
    source.seek(0)
    return body


def blank(packet: "Packet[Stream]", codec: str) -> bool:
    """Whether a packet only says that no subtitle is shown: each mov muxer writes its own."""
    return codec == "mov_text" and bytes(packet) == b"\0\0"


def due(packet: "Packet[Stream]") -> Fraction:
    """When a packet is due, in seconds on its container's clock."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return Fraction(ticks or 0) * packet.time_base
