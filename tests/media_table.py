"""The conformance media as data: one `MediaCase` per file, saying what it varies and what holds.

`media_maker.make` turns a case into a file. Every frame carries its own number in its pixels
(`frame_mark`), so what a case states can be proved end to end: these numbers, in this order, at
these timestamps. `REAL_CLIPS` describes files made by others, with what a full decode finds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from frame_mark import PATCHES, FrameMark, draw_frame, read_frame_mark, read_frame_number

__all__ = [
    "BT601",
    "BT709",
    "BT709_FULL",
    "CASES",
    "HDR10",
    "HLG",
    "PATCHES",
    "REAL_CLIPS",
    "UNTAGGED",
    "AudioTrack",
    "Chapter",
    "Colour",
    "Damage",
    "FrameMark",
    "MediaCase",
    "RealClip",
    "SubtitleTrack",
    "case_named",
    "clips_folder",
    "draw_frame",
    "read_frame_mark",
    "read_frame_number",
]

Options = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Colour:
    """Tags as code points of ITU-T H.273; 2 means unspecified."""

    matrix: int
    range: Literal[0, 1, 2]
    """0 unsaid, 1 limited (16…235), 2 full (0…255); FFmpeg's numbers, not the standard's flag."""
    primaries: int
    transfer: int


UNTAGGED = Colour(matrix=2, range=0, primaries=2, transfer=2)
BT709 = Colour(matrix=1, range=1, primaries=1, transfer=1)
BT709_FULL = Colour(matrix=1, range=2, primaries=1, transfer=1)
BT601 = Colour(matrix=6, range=1, primaries=6, transfer=6)
HDR10 = Colour(matrix=9, range=1, primaries=9, transfer=16)
HLG = Colour(matrix=9, range=1, primaries=9, transfer=18)


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """A stereo tone at 48 kHz."""

    codec: str = "aac"
    start_s: Fraction = Fraction(0)
    duration_s: Fraction = Fraction(3, 2)
    language: str = "und"
    pitch_hz: int = 440


@dataclass(frozen=True, slots=True)
class SubtitleTrack:
    """Text lines in one language."""

    codec: Literal["srt", "mov_text"]
    language: str
    lines: tuple[tuple[int, int, str], ...]
    """(start_ms, stop_ms, text), half-open."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A named stretch [start_ms, stop_ms)."""

    start_ms: int
    stop_ms: int
    title: str


Damage = Literal["none", "first_gop_cut", "cut_at_60_percent", "bytes_flipped"]


@dataclass(frozen=True, slots=True)
class MediaCase:
    """One generated file: how it is made, and what must hold for whoever reads it."""

    name: str
    why: str
    pts: tuple[int, ...]
    """In `time_base`; frame i of the picture generator is given pts[i]."""
    time_base: Fraction = Fraction(1, 12288)
    """Chosen so that the container stores it as it is; probing must find the same."""
    suffix: str = ".mp4"
    muxer_options: Options = ()
    codec: str = "libx264"
    codec_options: Options = (("preset", "veryfast"), ("crf", "20"))
    pixel_format: str = "yuv420p"
    decoded_pixel_format: str | None = None
    """What the decoder says, where it differs from what the encoder was given."""
    width: int = 192
    height: int = 108
    colour: Colour = BT709
    sar: Fraction = Fraction(1)
    """Sample aspect ratio: width over height of one sample."""
    rotation: int = 0
    """Degrees clockwise by which a player must turn the stored picture: 0, 90, 180, 270."""
    mirrored: bool = False
    """Whether a player must flip the stored picture left to right before turning it."""
    audio: tuple[AudioTrack, ...] = (AudioTrack(),)
    subtitles: tuple[SubtitleTrack, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    title: str | None = None
    attachment: bytes | None = None
    """Contents of an attached text file, `note.txt`."""
    cover_art: bool = False
    """A still picture stream (disposition attached_pic), which is no video to be painted."""
    second_video: tuple[int, int] | None = None
    """(width, height) of another video stream after the first."""
    damage: Damage = "none"
    shown: tuple[int, int] | None = None
    """Frames [start, stop) that a reader must deliver; None: all of them."""
    pts_shift: int = 0
    """What the container itself adds to every PTS, in `time_base`."""
    pts_in_order: bool = True
    """Whether decoded frames carry their own PTS; if not, sorting the PTS finds the right ones."""

    @property
    def exact(self) -> bool:
        """Whether the frames that come out are known one by one."""
        return self.damage in {"none", "first_gop_cut"}

    @property
    def expected_numbers(self) -> tuple[int, ...]:
        """The numbers readable in the frames, in the order of presentation."""
        start, stop = self.shown or (0, len(self.pts))
        return tuple(range(start, stop))

    @property
    def expected_pts(self) -> tuple[int, ...]:
        """The PTS of `expected_numbers`, in `time_base`."""
        return tuple(self.pts[number] + self.pts_shift for number in self.expected_numbers)


def case_named(name: str) -> MediaCase:
    """The case called `name`; raises KeyError with the nearest thing to help: all names."""
    for case in CASES:
        if case.name == name:
            return case
    raise KeyError(f"no media case {name!r}; there are: {', '.join(c.name for c in CASES)}")


def _steps(count: int, step: int, start: int = 0) -> tuple[int, ...]:
    return tuple(range(start, start + count * step, step))


def _rounded(count: int, frame_s: Fraction, time_base: Fraction) -> tuple[int, ...]:
    """PTS of a constant rate as a coarse time base holds them: each one rounded."""
    return tuple(round(index * frame_s / time_base) for index in range(count))


def _irregular() -> tuple[int, ...]:
    """At 1/90000: phone-like jitter, neighbours one tick apart, a gap of 9.7 s, then calm."""
    deltas = [3000, 3003, 2995, 1, 1, 2, 5999, 3750, 1501, 17, 3003, 873_000, 1, 3600, 3600, 3600]
    deltas += [3003, 1, 7, 45_000, 3003, 2999, 3001, 3000]
    pts = [0]
    for delta in deltas:
        pts.append(pts[-1] + delta)
    return tuple(pts)


_CFR_24 = _steps(36, 512)
_MS = Fraction(1, 1000)
_MS_24 = _rounded(36, Fraction(1, 24), _MS)
_FAST = (("preset", "veryfast"), ("crf", "20"))
_X265 = "log-level=none:pools=none:frame-threads=1:wpp=0"
_OPEN_GOP = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
_HDR10_X265 = (
    f"{_X265}:hdr10=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)
_LINES = ((0, 400, "First line"), (500, 900, "Second line"), (1000, 1400, "Güneş doğdu"))
_CHAPTERS = (Chapter(0, 700, "Morning"), Chapter(700, 1500, "Evening"))

_RATES = (
    MediaCase(name="cfr_24", why="the plainest file there is", pts=_CFR_24),
    MediaCase(
        name="cfr_23976",
        why="24000/1001: no whole number of ticks per second anywhere",
        pts=_steps(36, 1001),
        time_base=Fraction(1, 24000),
    ),
    MediaCase(
        name="cfr_23976_mkv",
        why="the same rate in milliseconds: deltas of 41 and 42, which is no variable rate",
        pts=_rounded(36, Fraction(1001, 24000), _MS),
        time_base=_MS,
        suffix=".mkv",
    ),
    MediaCase(
        name="cfr_25", why="25 per second", pts=_steps(36, 512), time_base=Fraction(1, 12800)
    ),
    MediaCase(
        name="cfr_2997",
        why="30000/1001",
        pts=_steps(36, 1001),
        time_base=Fraction(1, 30000),
    ),
    MediaCase(
        name="cfr_5994",
        why="60000/1001",
        pts=_steps(60, 1001),
        time_base=Fraction(1, 60000),
    ),
    MediaCase(
        name="cfr_12_5",
        why="12.5 per second: half a frame per second cannot be an integer",
        pts=_steps(20, 2000),
        time_base=Fraction(1, 25000),
    ),
    MediaCase(
        name="vfr",
        why="irregular: deltas of 1 tick (11 µs) up to a gap of 9.7 s, with B-frames",
        pts=_irregular(),
        time_base=Fraction(1, 90000),
    ),
    MediaCase(
        name="vfr_mkv",
        why="irregular in milliseconds, the smallest delta being one of them",
        pts=(0, 33, 67, 68, 69, 142, 183, 1400, 1401, 1441, 1483, 5000, 5033, 5066, 5100),
        time_base=_MS,
        suffix=".mkv",
        audio=(),
    ),
)

_GOPS = (
    MediaCase(
        name="bframes",
        why="eight B-frames in a pyramid: a decoder not drained at the end loses the last ones",
        pts=_steps(60, 512),
        codec_options=(*_FAST, ("x264-params", "bframes=8:b-pyramid=normal:b-adapt=0:keyint=60")),
    ),
    MediaCase(
        name="open_gop",
        why="keyframes that are not IDR: the B-frames shown before them need the GOP before",
        pts=_steps(60, 512),
        codec_options=(*_FAST, ("x264-params", _OPEN_GOP)),
    ),
    MediaCase(
        name="open_gop_hevc",
        why="CRA pictures with leading pictures, which a decoder skips after a seek",
        pts=_steps(60, 512),
        codec="libx265",
        codec_options=(("preset", "ultrafast"), ("x265-params", f"{_X265}:{_OPEN_GOP}")),
    ),
    MediaCase(
        name="infinite_gop",
        why="one keyframe: every seek lands at the start",
        pts=_steps(72, 512),
        codec_options=(*_FAST, ("x264-params", "keyint=infinite:scenecut=0:bframes=2")),
    ),
    MediaCase(
        name="intra_refresh",
        why="no second IDR; recovery points need several frames until the picture is whole",
        pts=_steps(60, 512),
        codec_options=(*_FAST, ("x264-params", "intra-refresh=1:keyint=12:bframes=0:ref=1")),
    ),
    MediaCase(
        name="non_idr_start",
        why="cut so that it begins at a recovery point: two leading B-frames cannot be decoded",
        pts=_steps(60, 3750, start=126_000),
        time_base=Fraction(1, 90000),
        suffix=".ts",
        codec_options=(*_FAST, ("x264-params", _OPEN_GOP)),
        audio=(),
        damage="first_gop_cut",
        shown=(12, 60),
    ),
    MediaCase(
        name="non_idr_start_mp4",
        why="the same in mp4, where the leading B-frames are flagged to be discarded",
        pts=_steps(60, 512),
        codec_options=(*_FAST, ("x264-params", _OPEN_GOP)),
        audio=(),
        damage="first_gop_cut",
        shown=(12, 60),
    ),
)

_OFFSETS = (
    MediaCase(
        name="edit_list",
        why="an edit list starts in the middle of a GOP: ten frames are there, but not shown",
        pts=_steps(46, 512, start=-5120),
        muxer_options=(("avoid_negative_ts", "disabled"),),
        codec_options=(*_FAST, ("x264-params", "keyint=infinite:scenecut=0:bframes=2")),
        shown=(10, 46),
    ),
    MediaCase(
        name="edit_list_delay",
        why="an empty edit: the picture starts half a second after the sound",
        pts=_steps(36, 512, start=6144),
    ),
    MediaCase(
        name="late_audio",
        why="the sound starts half a second after the picture",
        pts=_CFR_24,
        audio=(AudioTrack(start_s=Fraction(1, 2), duration_s=Fraction(1)),),
    ),
    MediaCase(
        name="early_audio",
        why="both start late, the sound first; neither may be moved to zero",
        pts=tuple(round(1000 * Fraction(i, 24)) + 750 for i in range(36)),
        time_base=_MS,
        suffix=".mkv",
        audio=(AudioTrack(start_s=Fraction(1, 4), duration_s=Fraction(2)),),
    ),
    MediaCase(
        name="long_audio",
        why="the sound goes on for two seconds after the last frame",
        pts=_CFR_24,
        audio=(AudioTrack(duration_s=Fraction(7, 2)),),
    ),
)

_STREAMS = (
    MediaCase(name="no_audio", why="silent", pts=_CFR_24, audio=()),
    MediaCase(
        name="two_audio",
        why="two languages",
        pts=_CFR_24,
        audio=(AudioTrack(language="deu"), AudioTrack(language="eng", pitch_hz=660)),
    ),
    MediaCase(
        name="two_video",
        why="a second video stream of another size",
        pts=_CFR_24,
        second_video=(96, 64),
    ),
    MediaCase(
        name="cover_art",
        why="an attached picture is a video stream with one packet, and no video",
        pts=_CFR_24,
        cover_art=True,
    ),
    MediaCase(
        name="subtitles_chapters",
        why="everything else a Matroska file can carry",
        pts=_MS_24,
        time_base=_MS,
        suffix=".mkv",
        subtitles=(SubtitleTrack("srt", "deu", _LINES), SubtitleTrack("srt", "tur", _LINES)),
        chapters=_CHAPTERS,
        title="A day by the water",
        attachment=b"painted by hand\n",
    ),
    MediaCase(
        name="mov_text",
        why="subtitles and chapters in mp4; the chapters are a data stream as well",
        pts=_CFR_24,
        subtitles=(SubtitleTrack("mov_text", "fra", _LINES),),
        chapters=_CHAPTERS,
        title="A day by the water",
    ),
)

_TURNED = tuple(
    MediaCase(
        name=f"rotation_{degrees}{'_mirrored' if mirrored else ''}",
        why="a display matrix: the stored picture is not what is shown",
        pts=_CFR_24[:12],
        rotation=degrees,
        mirrored=mirrored,
    )
    for degrees, mirrored in ((90, False), (180, False), (270, False), (0, True), (90, True))
)

_PIXELS = (
    MediaCase(
        name="odd_444",
        why="an odd size, which only 4:4:4 can hold in H.264",
        pts=_CFR_24[:12],
        pixel_format="yuv444p",
        width=853,
        height=479,
    ),
    MediaCase(
        name="odd_vp9",
        why="an odd size in 4:2:0: chroma planes are rounded up",
        pts=_MS_24[:12],
        time_base=_MS,
        suffix=".webm",
        codec="libvpx-vp9",
        codec_options=(("deadline", "realtime"), ("cpu-used", "8"), ("crf", "30"), ("b", "0")),
        width=853,
        height=479,
        audio=(),
    ),
    MediaCase(name="yuv422", why="4:2:2", pts=_CFR_24[:12], pixel_format="yuv422p"),
    MediaCase(name="yuv444", why="4:4:4", pts=_CFR_24[:12], pixel_format="yuv444p"),
    MediaCase(
        name="grey",
        why="no chroma at all; the decoder adds empty planes",
        pts=_CFR_24[:12],
        pixel_format="gray",
        decoded_pixel_format="yuv420p",
        colour=Colour(matrix=2, range=1, primaries=1, transfer=1),
    ),
    MediaCase(
        name="full_range",
        why="0…255: read as limited it comes out too contrasty",
        pts=_CFR_24[:12],
        decoded_pixel_format="yuvj420p",
        colour=BT709_FULL,
    ),
    MediaCase(
        name="full_range_yuvj",
        why="full range said by the deprecated pixel format",
        pts=tuple(range(12)),
        time_base=Fraction(1, 24),
        suffix=".avi",
        codec="mjpeg",
        codec_options=(("qscale", "2"),),
        pixel_format="yuvj420p",
        colour=Colour(matrix=5, range=2, primaries=2, transfer=2),
        audio=(),
    ),
    MediaCase(name="bt601", why="the older matrix, tagged", pts=_CFR_24[:12], colour=BT601),
    MediaCase(name="untagged", why="no colour tags at all", pts=_CFR_24[:12], colour=UNTAGGED),
    MediaCase(
        name="ten_bit",
        why="10-bit H.264",
        pts=_CFR_24[:12],
        pixel_format="yuv420p10le",
    ),
    MediaCase(
        name="hdr10",
        why="PQ, BT.2020, with mastering display and content light levels",
        pts=_CFR_24[:12],
        codec="libx265",
        codec_options=(("preset", "ultrafast"), ("x265-params", _HDR10_X265)),
        pixel_format="yuv420p10le",
        colour=HDR10,
    ),
    MediaCase(
        name="hdr10_av1",
        why="the same in AV1",
        pts=_MS_24[:12],
        time_base=_MS,
        suffix=".mkv",
        codec="libsvtav1",
        codec_options=(("preset", "8"), ("crf", "24"), ("svtav1-params", "lp=1")),
        pixel_format="yuv420p10le",
        colour=HDR10,
        audio=(),
    ),
    MediaCase(
        name="hlg",
        why="hybrid log-gamma, BT.2020",
        pts=_CFR_24[:12],
        codec="libx265",
        codec_options=(("preset", "ultrafast"), ("x265-params", _X265)),
        pixel_format="yuv420p10le",
        colour=HLG,
    ),
    MediaCase(
        name="interlaced",
        why="coded as fields; a frame is still a frame",
        pts=_CFR_24[:12],
        codec_options=(*_FAST, ("x264-params", "tff=1")),
        height=128,
    ),
    MediaCase(name="sar", why="samples wider than high", pts=_CFR_24[:12], sar=Fraction(4, 3)),
    MediaCase(name="one_frame", why="a single frame", pts=(0,), audio=()),
    MediaCase(
        name="tiny", why="16x16, one macroblock", pts=_CFR_24[:12], width=16, height=16, audio=()
    ),
)

_CONTAINERS = (
    MediaCase(
        name="webm_vp9",
        why="hidden alternate reference frames: more coded pictures than shown",
        pts=_MS_24,
        time_base=_MS,
        suffix=".webm",
        codec="libvpx-vp9",
        codec_options=(
            ("deadline", "good"),
            ("cpu-used", "5"),
            ("crf", "24"),
            ("b", "0"),
            ("auto-alt-ref", "1"),
            ("lag-in-frames", "16"),
        ),
        audio=(AudioTrack(codec="libopus"),),
    ),
    MediaCase(
        name="av1_mkv",
        why="AV1",
        pts=_MS_24,
        time_base=_MS,
        suffix=".mkv",
        codec="libsvtav1",
        codec_options=(("preset", "8"), ("crf", "24"), ("svtav1-params", "lp=1")),
        audio=(AudioTrack(codec="libopus"),),
    ),
    MediaCase(
        name="mov_prores",
        why="ProRes 4:2:2 10-bit with PCM sound",
        pts=_CFR_24[:12],
        suffix=".mov",
        codec="prores_ks",
        codec_options=(),
        pixel_format="yuv422p10le",
        audio=(AudioTrack(codec="pcm_s16le"),),
    ),
    MediaCase(
        name="mpegts",
        why="a transport stream that starts at 1.4 s, without any index",
        pts=_steps(36, 3750, start=126_000),
        time_base=Fraction(1, 90000),
        suffix=".ts",
        audio=(AudioTrack(start_s=Fraction(7, 5)),),
    ),
    MediaCase(
        name="avi_mjpeg",
        why="AVI, whose timestamps are frame numbers",
        pts=tuple(range(36)),
        time_base=Fraction(1, 24),
        suffix=".avi",
        codec="mjpeg",
        codec_options=(("qscale", "3"),),
        pixel_format="yuvj420p",
        colour=Colour(matrix=5, range=2, primaries=2, transfer=2),
        audio=(AudioTrack(codec="pcm_s16le"),),
    ),
    MediaCase(
        name="avi_mpeg4",
        why="MPEG-4 part 2 with B-frames; AVI stores no PTS, so the first is one frame late",
        pts=tuple(range(36)),
        time_base=Fraction(1, 24),
        suffix=".avi",
        codec="mpeg4",
        codec_options=(("qscale", "3"), ("bf", "2")),
        colour=UNTAGGED,
        audio=(AudioTrack(codec="pcm_s16le"),),
        pts_shift=1,
    ),
    MediaCase(
        name="avi_h264",
        why="AVI cannot say in which order B-frames are shown: the frames' PTS go up and down",
        pts=tuple(range(36)),
        time_base=Fraction(1, 24),
        suffix=".avi",
        audio=(),
        pts_shift=1,
        pts_in_order=False,
    ),
    MediaCase(
        name="fragmented_mp4",
        why="no sample table; no edit list, so B-frame delay stays visible in the PTS",
        pts=_CFR_24,
        muxer_options=(("movflags", "frag_keyframe+empty_moov"),),
        pts_shift=1024,
    ),
    MediaCase(
        name="no_duration",
        why="Matroska written live: neither duration, nor cues, nor a frame count",
        pts=_MS_24,
        time_base=_MS,
        suffix=".mkv",
        muxer_options=(("live", "1"),),
    ),
    MediaCase(
        name="truncated",
        why="the header promises what the file does not hold",
        pts=_steps(72, 512),
        muxer_options=(("movflags", "faststart"),),
        damage="cut_at_60_percent",
    ),
    MediaCase(
        name="truncated_mkv",
        why="the same in Matroska, which has no table to compare with",
        pts=_rounded(72, Fraction(1, 24), _MS),
        time_base=_MS,
        suffix=".mkv",
        damage="cut_at_60_percent",
    ),
    MediaCase(
        name="damaged",
        why="bytes flipped in the middle: some frames are wrong, some may be missing",
        pts=_steps(72, 512),
        codec_options=(*_FAST, ("x264-params", "keyint=24:scenecut=0")),
        damage="bytes_flipped",
    ),
)

CASES: tuple[MediaCase, ...] = (
    *_RATES,
    *_GOPS,
    *_OFFSETS,
    *_STREAMS,
    *_TURNED,
    *_PIXELS,
    *_CONTAINERS,
)


@dataclass(frozen=True, slots=True)
class RealClip:
    """A file made by somebody else, and what a full decode of its first video stream finds."""

    name: str
    frames: int
    """Counted by FFmpeg's command line, decoding with its timestamps passed through."""
    special: str
    """What it is in the list for."""
    rotation: int = 0
    """Degrees clockwise by which a player must turn the stored picture."""
    first_pts: int = 0
    time_base: Fraction = Fraction(1, 30000)
    sound: bool = True
    intact: bool = True
    """Whether every frame decodes without a complaint."""


def clips_folder(repository: Path, environment: dict[str, str] | None = None) -> Path | None:
    """Where the real clips lie: under $IMPASTO_DATA, else beside the repository; None if absent."""
    variables = os.environ if environment is None else environment
    data = variables.get("IMPASTO_DATA")
    folder = (Path(data) if data else repository.parent / "shared" / "data") / "clips"
    return folder if folder.is_dir() else None


_PHONE = Fraction(1, 90000)

REAL_CLIPS: tuple[RealClip, ...] = (
    RealClip("androidx_bt601.mp4", 30, "tagged BT.601; the sound starts 19 ms late"),
    RealClip(
        "androidx_h265_with_metadata_track.mp4",
        3,
        "the first stream is data; full range; sound of three packets",
        rotation=90,
        time_base=_PHONE,
    ),
    RealClip("androidx_hdr10-av1.mp4", 127, "AV1, PQ; the header counts right for once"),
    RealClip(
        "androidx_hdr10-video-with-sdr-container.mp4",
        28,
        "PQ in the bitstream; really variable: deltas of 33, 52 and 100 ms",
        time_base=_PHONE,
    ),
    RealClip(
        "androidx_internal_emulator_transformer_output_270_rotated.mp4",
        149,
        "to be turned by 270°",
        rotation=270,
        time_base=_PHONE,
    ),
    RealClip(
        "androidx_portrait_4k60.mp4",
        18,
        "3840x2160, full range, BT.601 in a phone's way; deltas jitter by 1 ms",
        rotation=90,
        time_base=_PHONE,
    ),
    RealClip(
        "androidx_roadtrip-vp92-10bit.webm",
        72,
        "10-bit VP9, BT.2020 matrix without primaries; in milliseconds; silent",
        time_base=_MS,
        sound=False,
    ),
    RealClip("androidx_sample.mp4", 30, "no colour tags; B-frames; late sound"),
    RealClip(
        "androidx_sample_edit_list.mp4",
        77,
        "an edit list hides 9 of 86 packets; HLG; two data streams",
        rotation=90,
        time_base=Fraction(1, 600),
    ),
    RealClip(
        "androidx_sample_empty_track.mp4",
        30,
        "a second video track without a single packet or pixel format",
        time_base=_PHONE,
    ),
    RealClip("androidx_sample_mdat_too_long.mp4", 30, "the media box claims to go on past the end"),
    RealClip(
        "androidx_sample_partially_fragmented.mp4",
        30,
        "4 frames in the sample table, 26 in fragments; the header counts 4",
        first_pts=2002,
    ),
    RealClip(
        "androidx_sample_with_pgs_subtitles.mkv",
        30,
        "picture subtitles; frames 1 and 2 ms apart (600 per second)",
        time_base=_MS,
    ),
    RealClip(
        "androidx_sample_with_srt.mkv",
        30,
        "text subtitles; no frame rate in the header, 1000 guessed",
        time_base=_MS,
    ),
    RealClip(
        "androidx_sowt-with-video.mov",
        100,
        "little-endian PCM; BT.709 with another transfer",
        time_base=Fraction(1, 12800),
    ),
    RealClip(
        "decord_corrupted.mp4",
        49,
        "one of 50 packets does not decode, its neighbour is flagged",
        time_base=Fraction(1, 10240),
        sound=False,
        intact=False,
    ),
    RealClip("decord_video_0.mov", 3, "three frames", time_base=Fraction(1, 19200), sound=False),
    RealClip(
        "decord_video_180.mov",
        3,
        "upside down",
        rotation=180,
        time_base=Fraction(1, 19200),
        sound=False,
    ),
    RealClip(
        "decord_video_90.mov",
        3,
        "a quarter turn",
        rotation=90,
        time_base=Fraction(1, 19200),
        sound=False,
    ),
    RealClip(
        "intel_car-detection.mp4", 377, "12.5 frames per second", time_base=Fraction(1, 25000)
    ),
    RealClip(
        "made_bitflips_flower.mp4",
        150,
        "damaged: every frame comes out, 31 of them flagged corrupt",
        intact=False,
    ),
    RealClip(
        "made_truncated_flower_60pct.mp4",
        90,
        "cut: the header counts 150, and no flag says otherwise",
        intact=False,
    ),
    RealClip("mdn_flower.mp4", 150, "the same, whole; BT.601 at 960x540"),
    RealClip(
        "mdn_tears-of-steel-battle-clip-medium.webm",
        1691,
        "VP8; 70 s; samples of 399:400",
        time_base=_MS,
    ),
    RealClip("moviepy_chaplin.mp4", 241, "one keyframe; MP3 in mp4", time_base=Fraction(1, 12800)),
    RealClip(
        "moviepy_fire2.mp4",
        25,
        "a phone held upside down; seven different deltas around 1/10.5 s",
        rotation=180,
        time_base=_PHONE,
    ),
    RealClip(
        "moviepy_video_with_failing_audio.mp4",
        280,
        "the sound outlasts the picture by 33 ms, and its header by 32 samples",
        time_base=Fraction(1, 12800),
    ),
    RealClip(
        "torchcodec_av1_video.mkv",
        125,
        "AV1 with a matrix but no primaries; silent",
        time_base=_MS,
        sound=False,
    ),
    RealClip(
        "torchcodec_h264_10bits.mp4",
        30,
        "10-bit H.264, untagged; silent",
        time_base=Fraction(1, 15360),
        sound=False,
    ),
)
