"""Open a stranger's file, and nothing but that file."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from impasto.errors import SourceRefused
from impasto.protocols import File
from impasto.settings import Limits

# A concat script or a playlist renamed to .mp4 would open other files and sockets: neither FFmpeg's
# protocol list nor PyAV stops that, only a list of demuxers that hold media themselves does.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
_DECODERS = frozenset(
    "h264 hevc av1 libdav1d vp8 vp9 libvpx-vp9 vvc mpeg1video mpeg2video mpeg4 msmpeg4v3 mjpeg "
    "prores prores_ks dnxhd ffv1 theora h263 huffyuv ffvhuff utvideo rawvideo png qtrle dvvideo "
    "cfhd v210 vc1".split()
)
# While it reads a header FFmpeg opens decoders by itself, to learn what the header leaves out. It
# may open these; a sound track of another codec is copied by what its header says.
_LOOKED_AT_WITH = (
    "aac aac_latm ac3 alac dca eac3 flac libopus mlp mp2 mp2float mp3 mp3float opus truehd vorbis "
    "wmav1 wmav2 adpcm_ima_wav adpcm_ms amrnb amrwb pcm_alaw pcm_bluray pcm_dvd pcm_f32be "
    "pcm_f32le pcm_f64le pcm_mulaw pcm_s16be pcm_s16le pcm_s24be pcm_s24le pcm_s32be pcm_s32le "
    "pcm_s8 pcm_u8 ass dvbsub dvdsub mov_text pgssub srt ssa subrip text webvtt".split()
)
_TIMEOUT_S = 10.0


def _os_path(path: Path) -> str:
    # An absolute path can't be taken for a protocol ("concat:…") or an option ("-i").
    return str(path.absolute())


def opened(path: File) -> BinaryIO:
    """Open a file's bytes, wherever they lie."""
    return path.open("rb") if isinstance(path, Path) else path.open()


@contextlib.contextmanager
def open_source(path: File, limits: Limits) -> Generator[InputContainer]:
    """Open `path` for reading, with containers and protocols from an allow-list.

    A file that is not on this machine is read by range, as far as it is asked for.

    Raises:
        SourceRefused: not there, not a video of a known container, or beyond a limit.
    """
    try:
        str(path).encode()
        size = path.stat().st_size if isinstance(path, Path) else path.size
        regular = path.is_file() if isinstance(path, Path) else True
    except (OSError, ValueError) as error:
        raise SourceRefused(f"can't read {str(path)!r}: {reason(error)}") from error
    if not regular:
        raise SourceRefused(f"{str(path)!r} is not a file")
    if size > limits.max_bytes:
        raise SourceRefused(
            f"{str(path)!r} has {size} bytes, over the limit of {limits.max_bytes} (max_bytes)"
        )
    try:
        container = _open(path, limits)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceRefused(
            f"{str(path)!r} is not a video that Impasto opens ({reason(error)}); "
            "mp4, mov, mkv, webm, avi and ts are"
        ) from error
    with container:
        if len(container.streams) > limits.max_streams:
            raise SourceRefused(
                f"{str(path)!r} has {len(container.streams)} streams, over the limit of "
                f"{limits.max_streams} (max_streams)"
            )
        yield container


def _open(path: File, limits: Limits) -> InputContainer:
    local = isinstance(path, Path)
    return av.open(
        _os_path(path) if isinstance(path, Path) else path.open(),
        "r",
        # An object's reads have time limits of their own.
        timeout=(_TIMEOUT_S, _TIMEOUT_S) if local else None,
        # find_stream_info decodes pictures by itself; this bounds what it may allocate.
        options={"max_pixels": str(limits.max_pixels)},
        container_options={
            "protocol_whitelist": "file" if local else "none",
            "format_whitelist": _DEMUXERS,
            "codec_whitelist": ",".join([*sorted(_DECODERS), *_LOOKED_AT_WITH]),
        },
    )


def picture_stream(container: InputContainer, limits: Limits, name: str) -> VideoStream:
    """Return the video stream to paint: the default one, or else the first, never cover art.

    Args:
        container: as `open_source` gives it.
        limits: of a picture and of the whole.
        name: of the file, for the messages.

    Raises:
        SourceRefused: no such stream, a codec off the allow-list, or a picture beyond a limit.
    """
    candidates = [
        stream
        for stream in container.streams.video
        if not stream.disposition & stream.disposition.attached_pic
        and stream.codec_context is not None
        and stream.codec_context.width
    ]
    if not candidates:
        # Where a limit keeps FFmpeg from looking at a picture, the stream has no size.
        blind = f" of at most {limits.max_pixels} pixels a frame (max_pixels)"
        raise SourceRefused(
            f"{name!r} has no video stream{blind if container.streams.video else ''}"
        )
    chosen = next((s for s in candidates if s.disposition & s.disposition.default), candidates[0])
    context = chosen.codec_context
    if context.name not in _DECODERS:
        raise SourceRefused(f"{name!r} holds {context.name}, which Impasto does not decode")
    pixels = context.width * context.height
    if pixels > limits.max_pixels:
        raise SourceRefused(
            f"{name!r} has frames of {context.width}×{context.height}, over the limit of "
            f"{limits.max_pixels} pixels (max_pixels)"
        )
    if container.duration is not None and container.duration > limits.max_duration_s * 1_000_000:
        raise SourceRefused(
            f"{name!r} lasts {container.duration // 1_000_000} s, over the limit of "
            f"{limits.max_duration_s} s (max_duration_s)"
        )
    return chosen


def decode(
    container: InputContainer,
    stream: VideoStream,
    limits: Limits,
    damage: list[str],
    *,
    threads: int = 0,
    packet_pts: set[int] | None = None,
) -> Generator[VideoFrame]:
    """Decode to the very last frame, going on past what is damaged.

    Args:
        container: where `stream` lives; read from its present position.
        stream: the picture stream.
        limits: FFmpeg refuses larger pictures before it makes room for them.
        damage: one line is added for each packet that could not be decoded.
        threads: 0 for one a core. Error concealment differs between thread counts, so a damaged
            file is decoded with 1.
        packet_pts: receives the PTS of every packet that should give a picture.
    """
    context = stream.codec_context
    if not context.is_open:
        context.thread_type = "AUTO" if threads != 1 else "SLICE"
        context.thread_count = threads
        context.options = {"max_pixels": str(limits.max_pixels)}
    packets = iter(container.demux(stream))
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            damage.append(f"reading stopped: {reason(error)}")
            break
        if packet_pts is not None and packet.size and not packet.is_discard and packet.pts:
            packet_pts.add(packet.pts)
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            damage.append(f"a packet at pts {packet.pts} did not decode: {reason(error)}")
    with contextlib.suppress(av.FFmpegError):  # the demuxer stopped; what is decoded still comes
        yield from context.decode(None)


def reason(error: Exception) -> str:
    """Say in a few words what a library or the system complains of."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
