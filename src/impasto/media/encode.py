"""Encode a chunk's pictures into a segment: video only, complete in itself."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from impasto.errors import RequestError, RunFailed
from impasto.media.pixels import target_color
from impasto.media.probe import COLOR_CODES
from impasto.records import Codec, Encode, Source

_ENCODERS: dict[Codec, str] = {
    "h264": "libx264",
    "h265": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "ffv1": "ffv1",
}
_DEFAULT_CRF: dict[Codec, int] = {"h264": 18, "h265": 20, "av1": 28, "vp9": 28, "ffv1": 0}
_DEFAULT_PRESET: dict[Codec, str] = {
    # The network binds, so the encoder gets what is left: these take a few per cent of a core.
    "h264": "veryfast",
    "h265": "fast",
    "av1": "8",
    "vp9": "4",
    "ffv1": "",
}
_X26X_PRESETS = ("ultrafast superfast veryfast faster fast medium slow slower veryslow "
                 "placebo").split()  # fmt: skip
_PRESETS: dict[Codec, list[str]] = {
    "h264": _X26X_PRESETS,
    "h265": _X26X_PRESETS,
    "av1": [str(n) for n in range(14)],
    "vp9": [str(n) for n in range(9)],
    "ffv1": [""],
}
_MAX_CRF: dict[Codec, int] = {"h264": 51, "h265": 51, "av1": 63, "vp9": 63, "ffv1": 0}
_GOP_SECONDS = 5
_LEAST_SLICED = 8
"""Pixels a side: below that an FFV1 picture is one slice."""
_X265_CTU = 64
"""Pixels a side. With a single column or row of coding tree units x265 writes beyond its memory
(at 48x48 it crashes) and gives other bytes in every run."""


def choose_encode(
    source: Source, *, codec: Codec, crf: int | None, preset: str | None, width: int, height: int
) -> tuple[Encode, tuple[str, ...]]:
    """Settle how segments are encoded, and what a person should know about it.

    The target keeps the source's chroma subsampling at 8 bits. H.264 and H.265 hold odd sizes only
    in 4:4:4, and the size comes first.

    Raises:
        RequestError: an unknown codec or preset, or a CRF out of range.
    """
    if codec not in _ENCODERS:
        raise RequestError(f"unknown codec {codec!r}; use one of {', '.join(_ENCODERS)}")
    preset = _DEFAULT_PRESET[codec] if preset is None else preset
    if preset not in _PRESETS[codec]:
        known = ", ".join(_PRESETS[codec]) or "none"
        raise RequestError(f"unknown preset {preset!r} for {codec}; it has: {known}")
    crf = _DEFAULT_CRF[codec] if crf is None else crf
    if not 0 <= crf <= _MAX_CRF[codec]:
        raise RequestError(f"crf must be within 0 and {_MAX_CRF[codec]} for {codec}, got {crf}")
    refuse_size(codec, width, height)
    notes = []
    pixel_format = "yuv" + _subsampling(source) + "p"
    if codec == "av1":
        pixel_format = "yuv420p"  # all that SVT-AV1 encodes
    if codec in {"h264", "h265"} and (width % 2 or height % 2) and pixel_format != "yuv444p":
        pixel_format = "yuv444p"
        notes.append(
            f"{width}×{height} is odd, which {codec} holds only in 4:4:4; where players can't show "
            "that, use codec vp9"
        )
    if av.VideoFormat(source.pixel_format).is_rgb and codec in {"h264", "h265"}:
        notes.append(
            f"the source is RGB, so the target is {codec} in 4:4:4; where players can't show that, "
            "use codec av1"
        )
    notes += _lost_in_conversion(source, pixel_format)
    if source.color.hdr:
        notes.append(f"HDR ({source.color.transfer}) is tone-mapped to SDR, BT.709")
    encode = Encode(
        codec=codec,
        crf=crf,
        preset=preset,
        width=width,
        height=height,
        pixel_format=pixel_format,
        sample_aspect_ratio=target_aspect(source, width, height),
        color=target_color(source),
        rate=_tame_rate(source.ledger.average_rate),
    )
    return encode, tuple(notes)


def refuse_size(codec: Codec, width: int, height: int) -> None:
    """Raise RequestError for a picture that is too small for its codec."""
    if codec == "h265" and min(width, height) <= _X265_CTU:
        raise RequestError(
            f"h265 needs more than {_X265_CTU} pixels a side, got {width}×{height}; use another "
            "codec"
        )


def _lost_in_conversion(source: Source, pixel_format: str) -> list[str]:
    """Say what the target's pixels hold less of than the source's."""
    was = av.VideoFormat(source.pixel_format)
    notes = []
    if was.components[0].bits > 8:
        notes.append(f"{was.components[0].bits} bits a component become 8")
    if any(component.is_alpha for component in was.components):
        notes.append("transparency is lost: the target has none")
    if source.pixel_format.startswith("yuv") and not was.is_rgb:
        had, has = source.pixel_format.replace("j", "")[3:6], pixel_format[3:6]
        if had.isdigit() and has not in {had, "444"}:
            notes.append(f"chroma {had} becomes {has}")
    if source.rotation or source.mirrored:
        notes.append("the picture is turned upright, and the container's rotation dropped")
    return notes


def _subsampling(source: Source) -> str:
    name = source.pixel_format
    if any(full in name for full in ("444", "rgb", "bgr", "gbr", "xyz", "pal8")):
        return "444"
    return "422" if any(half in name for half in ("422", "yuyv", "uyvy", "nv16")) else "420"


def target_aspect(source: Source, width: int, height: int) -> Fraction:
    """Width over height of one pixel of a target of that size, which shows the source's shape."""
    if (width, height) == (source.display_width, source.display_height):
        return source.display_aspect
    shape = Fraction(source.display_width, source.display_height) * source.display_aspect
    sar = shape * Fraction(height, width)
    # Sizes are rounded to whole pixels; that is not worth a ratio of its own.
    return Fraction(1) if abs(sar - 1) < Fraction(2, 100) else sar.limit_denominator(255)


def _tame_rate(rate: Fraction) -> Fraction:
    """Bound the rate and its terms to what encoders take; it steers quality, not timing."""
    return min(max(rate, Fraction(1)), Fraction(240)).limit_denominator(1001)


def encode_segment(frames: Iterable[VideoFrame], encode: Encode) -> bytes:
    """Encode frames, in display order, into the bytes of a Matroska segment.

    Inside a segment time is the frame's number at a constant rate; the ledger's timestamps come
    back at the stitch. It starts with an IDR frame and refers to nothing outside itself.

    Args:
        frames: in the pixel format and size of `encode`, tagged; their timestamps are ignored.
        encode: every setting.

    Raises:
        RequestError: the encoder refuses the settings.
    """
    # SVT-AV1 prints its settings to standard error unless its own variable says "errors only".
    os.environ.setdefault("SVT_LOG", "1")
    buffer = io.BytesIO()
    # Without bitexact the muxer draws random identifiers, and no two segments are the same.
    with av.open(
        buffer, "w", format="matroska", container_options={"fflags": "+bitexact"}
    ) as container:
        stream = add_encoder(container, encode)
        try:
            with as_scheduled():
                stream.codec_context.open(strict=False)
            for number, frame in enumerate(frames):
                frame.pts, frame.time_base = number, 1 / encode.rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        except av.FFmpegError as error:
            raise RequestError(
                f"{_ENCODERS[encode.codec]} refuses {encode.width}×{encode.height} "
                f"{encode.pixel_format} preset {encode.preset!r} crf {encode.crf}: {error}"
            ) from error
    return buffer.getvalue()


@contextmanager
def as_scheduled() -> Iterator[None]:
    """Keep what is opened inside to the share of the processor that the caller has.

    Where it may, as root may, SVT-AV1 makes the thread that opens it a real-time one of the highest
    priority, for good, and with it every thread and process begun there later. Such leave a
    machine's others next to nothing.
    """
    if sys.platform != "linux":  # nobody else has the calls to see it, or to take it back
        yield
        return
    threads, policy, share = _threads(), os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    if os.sched_getscheduler(0) != policy:
        for thread in {0} | _threads() - threads:
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setscheduler(thread, policy, share)


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def add_encoder(container: OutputContainer, encode: Encode) -> VideoStream:
    """Add the picture stream that `encode` describes; frames count at 1 / encode.rate."""
    stream = container.add_stream(
        _ENCODERS[encode.codec], rate=encode.rate, options=_options(encode)
    )
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height = encode.width, encode.height
    context.pix_fmt = encode.pixel_format
    context.time_base = 1 / encode.rate
    context.sample_aspect_ratio = encode.sample_aspect_ratio
    context.thread_count = encode.threads
    context.gop_size = max(1, round(encode.rate * _GOP_SECONDS))
    _tag(context, encode)
    return stream


def _tag(context: VideoCodecContext, encode: Encode) -> None:
    color = encode.color
    codes = COLOR_CODES
    context.colorspace = codes["matrix"].get(color.matrix, 2)
    context.color_range = codes["range"].get(color.range, 0)
    context.color_primaries = codes["primaries"].get(color.primaries, 2)
    context.color_trc = codes["transfer"].get(color.transfer, 2)


def _options(encode: Encode) -> dict[str, str]:
    """Private options of each encoder; what varies with the machine is pinned."""
    common = {"crf": str(encode.crf), "threads": str(encode.threads)}
    match encode.codec:
        case "h264":
            # x264's own vector code for the macroblock tree gives other bytes now and then, one run
            # in eight at 192×108, on one machine with one thread; its C code does not.
            private = "open-gop=0:stitchable=1:cpu-independent=1"
            return common | {"preset": encode.preset, "x264-params": private}
        case "h265":
            private = "open-gop=0:pools=none:frame-threads=1:wpp=0:info=0:log-level=error"
            return common | {"preset": encode.preset, "x265-params": private}
        case "av1":
            private = "lp=1:enable-overlays=0"
            return common | {"preset": encode.preset, "svtav1-params": private}
        case "vp9":
            return common | {"b": "0", "cpu-used": encode.preset, "row-mt": "0"}
        case "ffv1":
            more = {"slices": str(_slices(encode)), "threads": str(encode.threads)}
            return {"level": "3", "slicecrc": "1", "g": "1"} | more


def _slices(encode: Encode) -> int:
    """Of an FFV1 picture, coded side by side."""
    # FFmpeg refuses slices without a pixel of some plane, and many cuts of odd sizes where chroma
    # is subsampled.
    odd = encode.width % 2 or encode.height % 2
    cut_badly = odd and encode.pixel_format in {"yuv420p", "yuv422p"}
    return 1 if cut_badly or min(encode.width, encode.height) < _LEAST_SLICED else 4


def reorder_depth(encode: Encode) -> int:
    """Frames by which a picture may be decoded after its place in the display order.

    Two for B-frame pyramids as x264 and x265 build them; AV1 and VP9 hide their reordering inside
    packets, and FFV1 has none.
    """
    return 2 if encode.codec in {"h264", "h265"} else 0


def segment_packets(data: bytes) -> list[tuple[bytes, int, bool]]:
    """Split a segment into its packets, in decode order.

    Returns:
        For each packet its bytes, its frame's place in display order, and whether it is a keyframe.

    Raises:
        RunFailed: the bytes are not a readable segment.
    """
    try:
        with av.open(io.BytesIO(data), format="matroska") as container:
            assert isinstance(container, InputContainer)
            packets = [
                (bytes(packet), packet.pts or 0, packet.is_keyframe)
                for packet in container.demux(video=0)
                if packet.size
            ]
    except (av.FFmpegError, IndexError) as error:
        raise RunFailed(f"a segment of {len(data)} bytes can't be read: {error}") from error
    rank = {pts: place for place, pts in enumerate(sorted(pts for _, pts, _ in packets))}
    if len(rank) != len(packets):
        raise RunFailed(f"a segment has {len(packets)} packets but {len(rank)} timestamps")
    return [(body, rank[pts], keyframe) for body, pts, keyframe in packets]
