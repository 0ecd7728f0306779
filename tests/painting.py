"""A whole run in one call, on folders of a test's own, and independent eyes for what it made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import AttachmentStream, Disposition

import networks
from frame_mark import Picture, read_frame_mark
from impasto.records import Event, Report
from impasto.request import Options
from impasto.run import ignore, score
from impasto.settings import Settings
from impasto.stores import Place
from media_table import FrameMark

PLAIN = Options(engine="inline", precision="f32", chunk_frames=7)
"""Quick, exact, and cut into so many chunks that there are joints everywhere."""
PRINT_PEAK_MB = """
from pathlib import Path
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024)
"""
"""For the end of a script in a process of its own, on Linux. What getrusage says there begins with
the size of the process that started it."""
_SWSCALE_MATRIX = {1: 1, 2: 5, 5: 5, 6: 5, 9: 9}


def settings_in(folder: Path) -> Settings:
    """Settings whose folders all lie below `folder`."""
    return Settings(
        user_styles=folder / "styles",
        system_store=str(folder / "store"),
    )


def model_in(folder: Path, data: bytes | None = None) -> Path:
    """Write a network there, the identity unless `data` is another's bytes."""
    path = folder / "identity.onnx"
    path.write_bytes(networks.identity() if data is None else data)
    return path


def paint(
    source: Place,
    folder: Path,
    *,
    target: Place | None = None,
    options: Options = PLAIN,
    on_event: Callable[[Event], None] = ignore,
) -> Report:
    """Run the identity over `source`, all that it needs in `folder`."""
    folder.mkdir(exist_ok=True)
    return score(
        source,
        model=model_in(folder),
        target=target,
        options=options,
        settings=settings_in(folder),
        on_event=on_event,
    )


@dataclass(frozen=True, slots=True)
class Track:
    """A stream beside the picture, as an independent reader finds it."""

    kind: str
    language: str
    default: bool
    attached_picture: bool
    first_s: Fraction | None
    """When it starts, before or after the first frame."""
    packets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Film:
    """What an independent reader finds in a file."""

    marks: tuple[FrameMark | None, ...]
    """Read in the pixels, in the order in which the decoder gives the frames."""
    pts_s: tuple[Fraction, ...]
    tracks: tuple[Track, ...]
    chapters: tuple[tuple[str, Fraction, Fraction], ...]
    title: str | None
    first: av.VideoFrame
    size: tuple[int, int]
    sample_aspect_ratio: Fraction

    @property
    def numbers(self) -> list[int | None]:
        return [None if mark is None else mark.number for mark in self.marks]


def watch(path: Path) -> Film:
    """Read `path` with PyAV alone: none of Impasto's own reading is used."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        # With several threads errors surface at other packets than those that cause them.
        video.codec_context.thread_count = 1
        frames: list[av.VideoFrame] = []
        packets: dict[int, list[bytes]] = {stream.index: [] for stream in container.streams}
        first_s: dict[int, Fraction] = {}
        for packet in container.demux():
            # The last packet of each stream is empty, and only its `stream` says whose it is.
            if packet.stream.index == video.index:
                try:
                    frames += [one for one in packet.decode() if isinstance(one, av.VideoFrame)]
                except av.error.InvalidDataError:
                    continue
            elif packet.size and packet.pts is None and packet.dts is None:  # a cover
                packets[packet.stream_index].append(bytes(packet))
            elif packet.size and packet.pts is not None:
                packets[packet.stream_index].append(bytes(packet))
                first_s.setdefault(packet.stream_index, packet.pts * packet.time_base)
        pts_s = tuple((one.pts or 0) * Fraction(one.time_base or 1) for one in frames)
        tracks = []
        for stream in container.streams:
            body = packets[stream.index]
            if isinstance(stream, AttachmentStream):
                body = [stream.data]
            if stream.index == video.index or stream.type == "data" or not body:
                continue
            start_s = first_s.get(stream.index)
            tracks.append(
                Track(
                    stream.type,
                    stream.metadata.get("language", "und"),
                    bool(stream.disposition & Disposition.default),
                    bool(stream.disposition & Disposition.attached_pic),
                    None if start_s is None else start_s - min(pts_s),
                    tuple(body),
                )
            )
        chapters = tuple(
            (
                chapter["metadata"].get("title", ""),
                chapter["start"] * (chapter["time_base"] or Fraction(1)),
                chapter["end"] * (chapter["time_base"] or Fraction(1)),
            )
            for chapter in container.chapters()
        )
        return Film(
            marks=tuple(read_frame_mark(rgb(one)) for one in frames),
            pts_s=pts_s,
            tracks=tuple(tracks),
            chapters=chapters,
            title=container.metadata.get("title"),
            first=frames[0],
            size=(frames[0].width, frames[0].height),
            sample_aspect_ratio=video.sample_aspect_ratio or Fraction(1),
        )


def rgb(frame: av.VideoFrame) -> Picture:
    """A decoded frame in RGB, read as its own tags say."""
    matrix = _SWSCALE_MATRIX[int(frame.colorspace)]
    return np.asarray(frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray(), np.uint8)
