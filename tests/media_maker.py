"""From a `MediaCase` to a file: draw, encode, mux, and then spoil on purpose where the case says.

PyAV writes everything but three things, which are done on the bytes: the display matrix of an mp4,
a cut, and flipped bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import SubtitleSet
from av.video.stream import VideoStream

from frame_mark import Picture, draw_frame
from impasto.media.encode import as_scheduled
from media_table import AudioTrack, MediaCase, SubtitleTrack

_SAMPLE_RATE = 48_000
_MS = Fraction(1, 1000)
# What swscale calls the matrices of H.273: 709 is 1, 601 is 5, 2020 is 9.
_SWSCALE_MATRIX = {1: 1, 2: 5, 5: 5, 6: 5, 9: 9}
_RANGE_NAMES = {0: "MPEG", 1: "MPEG", 2: "JPEG"}
# The subtitle encoders read their style from a header in the ASS format, even without styles.
_ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,Arial,16,&Hffffff

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def make(case: MediaCase, path: Path) -> None:
    """Write `case` to `path`; the bytes may differ between FFmpeg versions, the promises not."""
    with av.open(str(path), "w", container_options=_muxer_options(case)) as container:
        _mux_everything(case, container)
    if case.rotation or case.mirrored:
        path.write_bytes(with_display_matrix(path.read_bytes(), case.rotation, case.mirrored))
    match case.damage:
        case "cut_at_60_percent":
            path.write_bytes(cut(path.read_bytes(), Fraction(3, 5)))
        case "bytes_flipped":
            path.write_bytes(flip_bytes(path.read_bytes()))
        case "none" | "first_gop_cut":
            pass


def cut(data: bytes, share: Fraction) -> bytes:
    """The first `share` of `data`."""
    return data[: int(len(data) * share)]


def flip_bytes(data: bytes) -> bytes:
    """Invert 60 bytes between 45 % and 55 % of `data`, always the same ones."""
    spoilt = bytearray(data)
    places = np.random.default_rng(11).integers(len(data) * 45 // 100, len(data) * 55 // 100, 60)
    for place in places:
        spoilt[place] ^= 0xFF
    return bytes(spoilt)


def with_display_matrix(mp4: bytes, rotation: int, mirrored: bool) -> bytes:
    """`mp4` whose first track is to be flipped if `mirrored`, then turned `rotation`° clockwise.

    The matrix is the nine numbers at the end of `tkhd` (ISO 14496-12, 8.3.2), acting on row
    vectors: [a b u; c d v; x y w], 16.16 fixed point, the third column 2.30.
    """
    turn = {
        0: ((1, 0), (0, 1)),
        90: ((0, 1), (-1, 0)),
        180: ((-1, 0), (0, -1)),
        270: ((0, -1), (1, 0)),
    }[rotation]
    (a, b), (c, d) = turn
    if mirrored:
        a, b = -a, -b
    start, size = next(_boxes(mp4, (b"moov", b"trak", b"tkhd")))
    # The track's width and height are the last eight bytes, the matrix the 36 before them.
    end = start + size
    width, height = struct.unpack(">II", mp4[end - 8 : end])
    x = (width if a < 0 else 0) + (height if c < 0 else 0)
    y = (width if b < 0 else 0) + (height if d < 0 else 0)
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, x, y, 1 << 30)
    return mp4[: end - 44] + matrix + mp4[end - 8 :]


def _boxes(
    data: bytes, path: tuple[bytes, ...], start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, int]]:
    """(start, size) of every box at `path`, header included, in the order of the file."""
    end = len(data) if stop is None else stop
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        if size == 1:
            size = struct.unpack(">Q", data[start + 8 : start + 16])[0]
        if kind == path[0]:
            if len(path) == 1:
                yield start, size
            else:
                yield from _boxes(data, path[1:], start + 8, start + size)
        start += max(size, 8)


def _muxer_options(case: MediaCase) -> dict[str, str]:
    options = dict(case.muxer_options)
    if case.suffix in {".mp4", ".mov"}:
        # Left alone, the muxer chooses a time base of its own.
        options["video_track_timescale"] = str(case.time_base.denominator)
    return options


def _mux_everything(case: MediaCase, container: OutputContainer) -> None:
    # All streams first: the header is written with the first packet.
    video = _add_video(case, container, case.width, case.height)
    second = _add_video(case, container, *case.second_video) if case.second_video else None
    audio = [_add_audio(track, container) for track in case.audio]
    subtitles = [_add_subtitles(track, container) for track in case.subtitles]
    cover = _add_cover(container) if case.cover_art else None
    if case.attachment is not None:
        container.add_attachment("note.txt", "text/plain", case.attachment)
    if case.title is not None:
        container.metadata["title"] = case.title
    container.set_chapters(
        [
            {
                "id": number,
                "start": chapter.start_ms,
                "end": chapter.stop_ms,
                "time_base": _MS,
                "metadata": {"title": chapter.title},
            }
            for number, chapter in enumerate(case.chapters, start=1)
        ]
    )
    container.start_encoding()
    # The muxer interleaves: it holds packets back until every stream has said something.
    packets = [*_video_packets(case, video), *(_video_packets(case, second) if second else ())]
    for stream, track in zip(audio, case.audio, strict=True):
        packets += _audio_packets(stream, track)
    for words, lines in zip(subtitles, case.subtitles, strict=True):
        packets += _subtitle_packets(words, lines)
    if cover is not None:
        packets.append(_cover_packet(cover))
    for packet in sorted(packets, key=_time_s):
        container.mux(packet)


def _time_s(packet: Packet[Stream]) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return Fraction(0) if stamp is None else stamp * packet.time_base


def _add_video(case: MediaCase, container: OutputContainer, width: int, height: int) -> VideoStream:
    # The rate only guides the encoder's rate control; every frame has its own timestamp.
    stream = container.add_stream(case.codec, rate=24, options=dict(case.codec_options))
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = width, height, case.pixel_format
    stream.time_base = context.time_base = case.time_base
    context.thread_count = 1  # x264's output depends on it
    context.sample_aspect_ratio = case.sar
    context.colorspace, context.color_range = case.colour.matrix, case.colour.range
    context.color_primaries, context.color_trc = case.colour.primaries, case.colour.transfer
    if "qscale" in dict(case.codec_options):
        context.qscale = True
        context.global_quality = int(dict(case.codec_options)["qscale"]) * 118
    return stream


def _video_packets(case: MediaCase, stream: VideoStream) -> list[Packet[Stream]]:
    packets: list[Packet[Stream]] = []
    with as_scheduled():
        for number, pts in enumerate(case.pts):
            frame = _coded_frame(draw_frame(number, stream.height, stream.width), case)
            frame.pts, frame.time_base = pts, case.time_base
            packets += stream.encode(frame)
        packets += stream.encode(None)
    if case.damage == "first_gop_cut":
        keyframes = [place for place, packet in enumerate(packets) if packet.is_keyframe]
        packets = packets[keyframes[1] :]
    return packets


def _coded_frame(picture: Picture, case: MediaCase) -> av.VideoFrame:
    colour = case.colour
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
        format=case.pixel_format,
        dst_colorspace=_SWSCALE_MATRIX[colour.matrix],
        dst_color_range=_RANGE_NAMES[colour.range],
    )
    # The encoders take the tags of the frames over those of their context.
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame


def _add_audio(track: AudioTrack, container: OutputContainer) -> av.AudioStream:
    stream = container.add_stream(track.codec, rate=_SAMPLE_RATE)
    assert isinstance(stream, av.AudioStream)
    stream.codec_context.layout = "stereo"
    if track.language != "und":
        stream.metadata["language"] = track.language
    return stream


def _audio_packets(stream: av.AudioStream, track: AudioTrack) -> list[Packet[Stream]]:
    count = int(track.duration_s * _SAMPLE_RATE)
    wave = 0.2 * np.sin(2 * np.pi * track.pitch_hz * np.arange(count) / _SAMPLE_RATE)
    samples = np.stack([wave, wave]).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
    frame.sample_rate, frame.time_base = _SAMPLE_RATE, Fraction(1, _SAMPLE_RATE)
    frame.pts = int(track.start_s * _SAMPLE_RATE)
    return [*stream.encode(frame), *stream.encode(None)]


def _add_subtitles(track: SubtitleTrack, container: OutputContainer) -> SubtitleStream:
    stream = container.add_stream(track.codec)
    assert isinstance(stream, SubtitleStream)
    stream.codec_context.subtitle_header = _ASS_HEADER
    stream.codec_context.time_base = stream.time_base = _MS
    stream.metadata["language"] = track.language
    return stream


def _subtitle_packets(stream: SubtitleStream, track: SubtitleTrack) -> list[Packet[Stream]]:
    packets: list[Packet[Stream]] = []
    for number, (start_ms, stop_ms, text) in enumerate(track.lines):
        dialogue = f"{number},0,Default,,0,0,0,,{text}".encode()
        shown = SubtitleSet.create(dialogue, 0, stop_ms - start_ms, pts=start_ms * 1000)
        packet = stream.codec_context.encode_subtitle(shown)
        # The encoder answers in microseconds and leaves the time base unset.
        packet.time_base, packet.stream = _MS, stream
        packet.pts = packet.dts = start_ms
        packet.duration = stop_ms - start_ms
        packets.append(packet)
    return packets


def _add_cover(container: OutputContainer) -> Stream:
    return container.add_mux_stream(
        "mjpeg", width=96, height=96, disposition=Disposition.attached_pic
    )


def _cover_packet(stream: Stream) -> Packet[Stream]:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 96, 96, "yuvj420p"
    encoder.time_base = Fraction(1, 24)
    picture = av.VideoFrame.from_ndarray(draw_frame(0, 96, 96), "rgb24").reformat(
        format="yuvj420p", dst_color_range="JPEG"
    )
    packet = Packet(bytes([*encoder.encode(picture), *encoder.encode(None)][0]))
    packet.stream, packet.time_base = stream, _MS
    packet.pts = packet.dts = 0
    packet.is_keyframe = True
    return packet
