"""Join pictures into one lossless video, from which on they are a video like any other.

It is FFV1 in MP4: Matroska, as FFmpeg writes it, rounds timestamps to milliseconds. Pictures are
turned upright, and RGB of 8 bits is kept exactly. JPEG and lossy WebP are kept as the YUV that
they hold, as long as all pictures are of one kind; a folder of several kinds becomes RGB.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeVar

import av
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from impasto.errors import RunFailed, SourceRefused
from impasto.media.container import reason
from impasto.media.encode import add_encoder
from impasto.media.probe import COLOR_CODES
from impasto.media.publish import no_room
from impasto.media.still import MAX_BYTES, decode_still, upright
from impasto.records import Color, Encode, Source
from impasto.settings import Limits

T = TypeVar("T")
SUFFIX = ".mp4"
"""Of the video."""
_AHEAD = 4
"""Pictures that are read and decoded beside each other; their memory is all that is taken."""
_MOST_THREADS = 4
"""One for each of the encoder's slices, whose number decides about the bytes."""
_RGB, _YUV = "bgr0", frozenset({"yuv420p", "yuv422p", "yuv444p"})
_SRGB = ("bt709", "iec61966-2-1")
"""Primaries and transfer of pictures that don't say otherwise (IEC 61966-2-1). Without them FFmpeg
does not write the range into an MP4 either."""
_SWS_ITSELF = 1
"""Any matrix: the same on both sides changes nothing."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A picture that was not read yet."""

    name: str
    """For messages: its path or URL."""
    size: int
    """Bytes."""
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class _Form:
    """What all frames of the video have in common."""

    width: int
    height: int
    pixel_format: str
    color: Color


class _OfSeveralKinds(Exception):  # noqa: N818 - a signal, not an error
    """The pictures are not all YUV of one form."""


def join(
    pictures: Sequence[Unread],
    video: Path,
    *,
    rate: Fraction,
    limits: Limits,
    on_picture: Callable[[int], None] = lambda _: None,
) -> tuple[str, ...]:
    """Write a video whose frame n is picture n, shown from n / rate seconds on.

    The bytes depend on the pictures, the rate and FFmpeg's version alone. Memory does not grow with
    their number.

    Args:
        pictures: at least one, all of one size.
        video: written to; named `SUFFIX`.
        rate: frames per second.
        limits: of each picture, and of the whole.
        on_picture: called before each with how many are written; may raise to stop.

    Returns:
        What a person should know: what of a picture the video does not hold.

    Raises:
        SourceRefused: one can't be read, is none, has another size, or a limit is broken.
        RunFailed: one changed meanwhile, or the video can't be written.
    """
    _check(pictures, rate, limits)
    try:
        return _write(pictures, video, rate, limits, on_picture, rgb=False)
    except _OfSeveralKinds:
        return _write(pictures, video, rate, limits, on_picture, rgb=True)


def _check(pictures: Sequence[Unread], rate: Fraction, limits: Limits) -> None:
    count = len(pictures)
    if count > limits.max_frames:
        raise SourceRefused(
            f"there are {count} pictures, over the limit of {limits.max_frames} (max_frames)"
        )
    if count / rate > limits.max_duration_s:
        raise SourceRefused(
            f"{count} pictures at {rate} frames/s last {float(count / rate):.0f} s, over the limit "
            f"of {limits.max_duration_s} s (max_duration_s)"
        )
    for picture in pictures:
        most = min(limits.max_bytes, MAX_BYTES)
        if picture.size > most:
            raise SourceRefused(f"the picture {picture.name!r} has more than {most} bytes")


def _write(
    pictures: Sequence[Unread],
    video: Path,
    rate: Fraction,
    limits: Limits,
    on_picture: Callable[[int], None],
    *,
    rgb: bool,
) -> tuple[str, ...]:
    first, _ = _decode(pictures[0], limits)
    form, notes = _form_of(first, rgb=rgb), dict[str, None]()
    encode = _encode(form, rate)
    frames = _ahead(partial(_frame, one, pictures[0].name, form, limits) for one in pictures)
    try:
        with av.open(
            str(video), "w", format="mp4", container_options={"fflags": "+bitexact"}
        ) as container:
            stream = add_encoder(container, encode)
            for number, (frame, lost) in enumerate(frames):
                on_picture(number)
                notes |= dict.fromkeys(lost)
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        if no_room(error):
            raise
        raise RunFailed(f"the pictures can't be joined into a video: {reason(error)}") from error
    finally:
        frames.close()
    return tuple(notes)


def _encode(form: _Form, rate: Fraction) -> Encode:
    return Encode(
        codec="ffv1",
        crf=0,
        preset="",
        width=form.width,
        height=form.height,
        pixel_format=form.pixel_format,
        sample_aspect_ratio=Fraction(1),
        color=form.color,
        rate=rate,
        threads=min(_MOST_THREADS, os.cpu_count() or 1),
    )


def _ahead(calls: Iterable[Callable[[], T]]) -> Generator[T]:
    """Yield what the calls return, in their order, while the next few are made."""
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="impasto") as pool:
        waiting: deque[Future[T]] = deque()
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _decode(picture: Unread, limits: Limits) -> tuple[Source, VideoFrame]:
    try:
        data = picture.read()
    except OSError as error:
        raise SourceRefused(f"can't read {picture.name!r}: {reason(error)}") from error
    return decode_still(data, picture.name, limits)


def _form_of(source: Source, *, rgb: bool) -> _Form:
    pixel_format = source.pixel_format.replace("yuvj", "yuv")
    turned = source.rotation or source.mirrored
    matrix, span = source.color.matrix, source.color.range
    if rgb or turned or pixel_format not in _YUV:
        pixel_format, matrix, span = _RGB, "gbr", "pc"
    color = Color(matrix, span, *_SRGB)
    return _Form(source.display_width, source.display_height, pixel_format, color)


def _frame(
    picture: Unread, first: str, form: _Form, limits: Limits
) -> tuple[VideoFrame, tuple[str, ...]]:
    """A picture as a frame of the video, and what the frame does not hold of it."""
    source, decoded = _decode(picture, limits)
    size = source.display_width, source.display_height
    if size != (form.width, form.height):
        raise SourceRefused(
            f"the picture {picture.name!r} has {size[0]}x{size[1]} pixels, and the first, "
            f"{first!r}, has {form.width}x{form.height}; all must have one size"
        )
    own = _form_of(source, rgb=form.pixel_format == _RGB)
    if own != form:
        raise _OfSeveralKinds
    if form.pixel_format == _RGB:
        rgb = VideoFrame.from_ndarray(upright(source, decoded), format="rgb24")
        frame = VideoReformatter().reformat(rgb, format=_RGB, threads=1)
    else:
        full = 2 if form.color.range == "pc" else 1
        frame = VideoReformatter().reformat(
            decoded, format=form.pixel_format, src_colorspace=_SWS_ITSELF,
            dst_colorspace=_SWS_ITSELF, src_color_range=full, dst_color_range=full, threads=1,
        )  # fmt: skip
    frame.colorspace = COLOR_CODES["matrix"].get(form.color.matrix, 2)
    frame.color_range = COLOR_CODES["range"].get(form.color.range, 0)
    return frame, _lost(source, decoded)


def _lost(source: Source, decoded: VideoFrame) -> tuple[str, ...]:
    components = av.VideoFormat(source.pixel_format).components
    notes = []
    if components[0].bits > 8:
        notes.append(f"{components[0].bits} bits a component become 8")
    if any(component.is_alpha for component in components) and _is_transparent(decoded):
        notes.append("transparency is lost: the target has none")
    if source.color.hdr:
        notes.append(f"HDR ({source.color.transfer}) is tone-mapped to SDR, BT.709")
    return tuple(notes)


def _is_transparent(decoded: VideoFrame) -> bool:
    """Whether any pixel is: many programs write an alpha channel that says nothing."""
    return bool(decoded.to_ndarray(format="rgba")[..., 3].min() < 255)
