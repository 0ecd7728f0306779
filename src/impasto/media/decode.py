"""Frames `[start, stop)` of a source, each proven to be the picture that the probe saw."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from av.video.frame import VideoFrame

from impasto.errors import RunFailed
from impasto.media.container import decode, open_source, picture_stream
from impasto.media.probe import luma_checksum
from impasto.plan import seek_frame
from impasto.protocols import File
from impasto.records import Source
from impasto.settings import Limits

_FURTHER_BACK = 2
"""Keyframes: how much earlier to start after a seek that gave other pictures."""


class FrameReader:
    """Reads runs of frames from one open source.

    Consecutive runs carry on where the last one ended. Otherwise the reader seeks, decodes and
    compares each frame's PTS and checksum with the ledger; where they differ (an open GOP, a
    recovery point that is not an IDR, a container with a poor index) it starts further back, and
    at last from the beginning. A damaged source is always read from its beginning, with one
    thread, because concealment depends on both.
    """

    def __init__(self, path: File, source: Source, *, limits: Limits | None = None) -> None:
        self._path = path
        self._source = source
        self._limits = limits or Limits()
        self._index_of = {pts: index for index, pts in enumerate(source.ledger.pts)}
        self._opened = ExitStack()
        self._frames: Iterator[tuple[int | None, VideoFrame]] = iter(())
        self._next: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the source."""
        self._frames, self._next = iter(()), None
        self._opened.close()

    def read(self, start: int, stop: int) -> Generator[VideoFrame]:
        """Yield the frames of `[start, stop)`, ledger indices, in display order.

        Raises:
            RunFailed: a frame can't be decoded again as the probe saw it.
        """
        ledger, index = self._source.ledger, start
        for origin in self._origins(start):
            if origin is not None:
                self._seek(origin)
            for found, frame in self._frames:
                if found is None or found < index:
                    continue
                if found > index or luma_checksum(frame) != ledger.checksum[index]:
                    break
                index += 1
                self._next = index
                yield frame
                if index == stop:
                    return
        self._next = None
        raise RunFailed(
            f"frame {index} of {str(self._path)!r} (pts {ledger.pts[index]}) does not decode as it "
            "did when the file was probed; did the file change?"
        )

    def _origins(self, start: int) -> Iterator[int | None]:
        """Frames to decode from, nearest first; None carries on from the present position."""
        if self._next == start:
            yield None
        if not self._source.damage:
            yield seek_frame(self._source.ledger, start)
            yield seek_frame(self._source.ledger, start, back=_FURTHER_BACK)
        yield 0

    def _seek(self, origin: int) -> None:
        self.close()
        container = self._opened.enter_context(open_source(self._path, self._limits))
        stream = picture_stream(container, self._limits, str(self._path))
        if origin > 0:
            container.seek(self._source.ledger.pts[origin], stream=stream)
        if self._source.damage:
            self._frames = iter(enumerate(decode(container, stream, self._limits, [], threads=1)))
        else:
            frames = decode(container, stream, self._limits, [])
            self._frames = ((self._index_of.get(frame.pts or 0), frame) for frame in frames)
