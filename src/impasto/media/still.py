"""Single pictures: made smaller, and written as PNG."""

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from impasto.media.pixels import Picture


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
