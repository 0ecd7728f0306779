"""Clips to measure with: the sample film at any size and length."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import sample_clip

_FILM = sample_clip.RATE * sample_clip.SECONDS
_AAC_FRAME = 1024


def draw(path: Path, *, frames: int, width: int, height: int) -> None:
    """Write the first `frames` frames of the film, over and over, with its sound: H.264 and AAC."""
    with av.open(str(path), "w") as container:
        options = {"crf": "17", "preset": "fast", "bf": "3", "g": "48"}
        picture = container.add_stream("libx264", rate=sample_clip.RATE, options=options)
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        voice = container.add_stream("aac", rate=sample_clip.SAMPLE_RATE)
        for index, drawn in zip(range(frames), _drawn(width, height), strict=False):
            frame = av.VideoFrame.from_ndarray(drawn, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, sample_clip.RATE)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        samples = frames * sample_clip.SAMPLE_RATE // sample_clip.RATE
        sound = np.resize(sample_clip.sound(), (2, samples)) if samples else np.zeros((2, 1))
        heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32), "fltp")
        heard.sample_rate, heard.pts = sample_clip.SAMPLE_RATE, 0
        heard.time_base = Fraction(1, sample_clip.SAMPLE_RATE)
        container.mux([*voice.encode(heard), *voice.encode(None)])


def _drawn(width: int, height: int) -> Iterator[np.ndarray]:
    kept: list[np.ndarray] = []
    for index in range(_FILM):
        kept.append(sample_clip.render(index, _FILM, height, width))
        yield kept[-1]
    while True:
        yield from kept


def repeat(source: Path, target: Path, times: int) -> None:
    """Write a clip of `draw` so many times over, packet for packet."""
    with av.open(str(source)) as first, av.open(str(target), "w") as container:
        streams = {
            stream.index: container.add_stream_from_template(stream, opaque=True)
            for stream in first.streams
        }
        length_s = Fraction(first.streams.video[0].frames, sample_clip.RATE)
        heard = 0
        for turn in range(times):
            first.seek(0)
            for packet in first.demux():
                if packet.dts is None or packet.pts is None:
                    continue
                if packet.stream.type == "audio":
                    # The sound goes on without a gap: the priming packet of every turn is dropped.
                    if packet.pts < 0 or heard > (turn + 1) * length_s * sample_clip.SAMPLE_RATE:
                        continue
                    packet.pts = packet.dts = heard
                    heard += _AAC_FRAME
                else:
                    shift = round(turn * length_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream_index]
                container.mux(packet)
