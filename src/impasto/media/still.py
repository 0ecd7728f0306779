"""Single pictures: JPEG, PNG, WebP, BMP and TIFF read, made smaller, PNG and JPEG written."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from impasto.errors import SourceRefused
from impasto.media.container import opened, reason
from impasto.media.exif import orientation
from impasto.media.pixels import Picture, RgbReader
from impasto.media.probe import color_of
from impasto.protocols import File
from impasto.records import Ledger, Source
from impasto.settings import Limits

MAX_BYTES = 1 << 28
_JPEG_SCALE = 2
"""FFmpeg's scale of quantisers, 2 (the finest that it takes from anybody) to 31."""


def is_still(path: File) -> bool:
    """Whether a file begins like a picture that `read_still` takes."""
    try:
        if isinstance(path, Path) and not path.is_file():  # what is read from a pipe is gone
            return False
        with opened(path) as file:
            return _decoder(file.read(12)) is not None
    except (OSError, ValueError):
        return False


def _decoder(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "mjpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "bmp"
    return "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def read_still(path: File, limits: Limits | None = None) -> tuple[Source, VideoFrame]:
    """Return what a picture is, as a video of one frame, and that frame.

    The bytes go straight to one decoder, so no container and no protocol of FFmpeg's is involved.

    Raises:
        SourceRefused: not there, not a whole picture of these kinds, or beyond a limit.
    """
    limits = limits or Limits()
    most = min(limits.max_bytes, MAX_BYTES)
    try:
        with opened(path) as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise SourceRefused(f"can't read {str(path)!r}: {reason(error)}") from error
    if len(data) > most:
        raise SourceRefused(f"the picture {str(path)!r} has more than {most} bytes")
    return decode_still(data, str(path), limits)


def decode_still(data: bytes, name: str, limits: Limits) -> tuple[Source, VideoFrame]:
    """Return what the file of a picture holds, as `read_still` does; `name` is for messages.

    Raises:
        SourceRefused: as `read_still` does.
    """
    decoder = _decoder(data[:12])
    if decoder is None:
        raise SourceRefused(
            f"{name!r} is not a picture that Impasto opens; jpg, png, webp, bmp and tiff are"
        )
    frame = _decoded(name, data, decoder, limits)
    rotation, mirrored = orientation(data)
    source = Source(
        digest=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        container="picture",
        video_index=0,
        codec=decoder,
        width=frame.width,
        height=frame.height,
        rotation=rotation,
        mirrored=mirrored,
        sample_aspect_ratio=Fraction(1),
        pixel_format=frame.format.name,
        color=color_of(frame),
        streams=(),
        chapters=0,
        ledger=Ledger(Fraction(1), (0,), (True,), (0,), 1),
    )
    return source, frame


def _decoded(name: str, data: bytes, decoder: str, limits: Limits) -> VideoFrame:
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    # Checked by FFmpeg before it makes room; a damaged picture is an error and not half of one.
    # The decoder of TIFF refuses those by itself, and strictly also tags that it does not know.
    context.options = {"max_pixels": str(limits.max_pixels)}
    if decoder != "tiff":
        context.options["err_detect"] = "explode"
    context.thread_count = 1
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise SourceRefused(
            f"the picture {name!r} can't be decoded ({reason(error)}); it is damaged, or has "
            f"over {limits.max_pixels} pixels (max_pixels)"
        ) from error
    if not frames or frames[0].is_corrupt:
        raise SourceRefused(f"the picture {name!r} is damaged")
    return frames[0]


def upright(
    source: Source, frame: VideoFrame, *, width: int | None = None, height: int | None = None
) -> Picture:
    """Return a picture as RGB uint8 (H, W, 3), turned as it is viewed, scaled where asked."""
    return RgbReader(
        source, width=width or source.display_width, height=height or source.display_height
    )(frame)


def resize(picture: Picture, *, width: int, height: int) -> Picture:
    """Return RGB uint8 (H, W, 3) as (height, width, 3).

    Lanczos keeps brush strokes crisp where a picture is made a few times smaller.
    """
    if picture.shape[:2] == (height, width):
        return picture
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    quality = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    smaller: Picture = (
        VideoReformatter()
        .reformat(
            frame, width=width, height=height, format="rgb24", interpolation=quality, threads=1
        )
        .to_ndarray()
        .astype(np.uint8, copy=False)
    )
    return smaller


def encode_png(picture: Picture) -> bytes:
    """Return RGB uint8 (H, W, 3) as the bytes of a PNG file (ISO/IEC 15948)."""
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "rgb24"
    encoder.options = {"pred": "mixed"}
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def encode_jpeg(picture: Picture) -> bytes:
    """Return RGB uint8 (H, W, 3) as the bytes of a JPEG file, colours at full resolution (JFIF)."""
    height, width = picture.shape[:2]
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = height, width
    encoder.pix_fmt = "yuvj444p"
    encoder.time_base = Fraction(1)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = _JPEG_SCALE
    # JFIF: BT.601 at full range. The encoder wants to be told the resolution to write that it is.
    encoder.sample_aspect_ratio = Fraction(1)
    quality = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    frame = VideoReformatter().reformat(
        VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
        format="yuvj444p", dst_colorspace=5, src_color_range=2, dst_color_range=2,
        interpolation=quality, threads=1,
    )  # fmt: skip
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
