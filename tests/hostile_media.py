"""Files that a service must refuse, or survive, whatever their name says.

`HOSTILE` lists them; `make_hostile` writes one. A file that points elsewhere points at
`bait.mp4` beside it, a film of white frames only, so that a reader who was lured away shows it
in the pixels.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

import media_maker
from media_table import case_named

_TICK = Fraction(1, 24)
BAIT = "bait.mp4"
"""The file a lured reader would open: white frames, 64x64."""


@dataclass(frozen=True, slots=True)
class HostileFile:
    """A file with a video's name, and what is wrong with it."""

    name: str
    file_name: str
    why: str
    write: Callable[[Path, int], None]
    """Writes the file to a path; the integer is a port on 127.0.0.1 that nobody may be lured to."""


def make_hostile(name: str, folder: Path, *, port: int = 9) -> Path:
    """Write the hostile file called `name` into `folder`, with what it points at beside it."""
    hostile = next((one for one in HOSTILE if one.name == name), None)
    if hostile is None:
        raise KeyError(f"no hostile file {name!r}; there are: {', '.join(h.name for h in HOSTILE)}")
    path = folder / hostile.file_name
    hostile.write(path, port)
    return path


def _bait(beside: Path) -> None:
    with av.open(str(beside.parent / BAIT), "w") as container:
        _film(container.add_stream("libx264", rate=24), container)


def _film(stream: object, container: av.container.OutputContainer) -> None:
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    stream.codec_context.thread_count = 1
    white = np.full((64, 64, 3), 255, np.uint8)
    for pts in range(4):
        frame = av.VideoFrame.from_ndarray(white, "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = pts, _TICK
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _concat_script(path: Path, port: int) -> None:
    _bait(path)
    path.write_text(f"ffconcat version 1.0\nfile {BAIT}\n", encoding="utf-8")


def _playlist(target: str) -> Callable[[Path, int], None]:
    def write(path: Path, port: int) -> None:
        _bait(path)
        lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:1", "#EXTINF:1.0,"]
        lines += [target.format(port=port, folder=path.parent), "#EXT-X-ENDLIST", ""]
        path.write_text("\n".join(lines), encoding="utf-8")

    return write


def _zip(path: Path, port: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("film.mp4", b"\x00" * 1000)


def _empty(path: Path, port: int) -> None:
    path.write_bytes(b"")


def _directory(path: Path, port: int) -> None:
    path.mkdir()


def _text(path: Path, port: int) -> None:
    path.write_text("This is no film.\n" * 40, encoding="utf-8")


def _index_lost(path: Path, port: int) -> None:
    """An upload that broke off: the index, at the end of the file, never arrived."""
    media_maker.make(case_named("cfr_24"), path)
    path.write_bytes(media_maker.cut(path.read_bytes(), Fraction(3, 5)))


def _sound_only(path: Path, port: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        assert isinstance(stream, av.AudioStream)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 48_000), np.float32), "fltp", "stereo")
        silence.sample_rate, silence.pts = 48_000, 0
        container.mux([*stream.encode(silence), *stream.encode(None)])


def _png(width: int, height: int) -> bytes:
    """A black picture, one bit per pixel: its many bytes deflate to almost none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        length, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
        return length + kind + data + check

    row = bytes((width + 7) // 8 + 1)
    pixels = zlib.compressobj(9)
    packed = b"".join(pixels.compress(row) for _ in range(height)) + pixels.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _bomb(side: int) -> Callable[[Path, int], None]:
    def write(path: Path, port: int) -> None:
        picture = _png(side, side)
        with av.open(str(path), "w") as container:
            stream = container.add_mux_stream("png", rate=24, width=side, height=side)
            stream.time_base = _TICK
            for number in range(24):
                packet: Packet[Stream] = Packet(picture)
                packet.stream, packet.time_base = stream, _TICK
                packet.pts = packet.dts = number
                packet.duration, packet.is_keyframe = 1, True
                container.mux(packet)

    return write


def _lying_size(path: Path, port: int) -> None:
    """A small H.264 film whose sample description claims 65535x65535."""
    media_maker.make(case_named("no_audio"), path)
    film = bytearray(path.read_bytes())
    # ISO 14496-12, 12.1.3: width and height stand 28 bytes after the sample entry's name.
    place = film.index(b"avc1", film.index(b"stsd")) + 28
    film[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(film)


def _many_streams(path: Path, port: int) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24)
        texts = [container.add_mux_stream("subrip") for _ in range(100)]
        _film(video, container)
        for number, stream in enumerate(texts):
            packet: Packet[Stream] = Packet(f"line {number}".encode())
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = 0
            packet.duration = 40
            container.mux(packet)


HOSTILE: tuple[HostileFile, ...] = (
    HostileFile("concat_script", "concat.mp4", "opens the file beside it", _concat_script),
    HostileFile("playlist", "playlist.m3u8", "opens the file beside it", _playlist(BAIT)),
    HostileFile("playlist_as_mp4", "playlist.mp4", "the same, renamed", _playlist(BAIT)),
    HostileFile(
        "playlist_by_url",
        "by_url.m3u8",
        "opens a file by its absolute URL",
        _playlist("file://{folder}/bait.mp4"),
    ),
    HostileFile(
        "playlist_to_http",
        "to_http.m3u8",
        "makes the server call an address of the attacker's choice",
        _playlist("http://127.0.0.1:{port}/segment.ts"),
    ),
    HostileFile(
        "playlist_to_http_as_mp4",
        "to_http.mp4",
        "the same, renamed",
        _playlist("http://127.0.0.1:{port}/segment.ts"),
    ),
    HostileFile("text", "text.mp4", "plain text", _text),
    HostileFile("empty", "empty.mp4", "no bytes", _empty),
    HostileFile("directory", "folder.mp4", "a directory", _directory),
    HostileFile("zip", "archive.mp4", "an archive", _zip),
    HostileFile("index_lost", "no_index.mp4", "the index is missing", _index_lost),
    HostileFile("sound_only", "sound.mp4", "no picture in it", _sound_only),
    HostileFile("bomb", "bomb.mov", "750 kB for 24 x 16000x16000 pixels", _bomb(16_000)),
    HostileFile(
        "too_big", "too_big.mov", "16384x16384, which FFmpeg itself refuses", _bomb(16_384)
    ),
    HostileFile("lying_size", "lying.mp4", "the container claims 65535x65535", _lying_size),
    HostileFile("many_streams", "many.mkv", "a hundred subtitle streams", _many_streams),
)
