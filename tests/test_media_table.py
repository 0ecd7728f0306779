"""The generator is honest: what the table states is what independent reading finds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import hostile_media
from frame_mark import LARGEST_NUMBER, Picture, read_patches
from media_table import (
    CASES,
    PATCHES,
    REAL_CLIPS,
    FrameMark,
    MediaCase,
    RealClip,
    case_named,
    draw_frame,
    read_frame_mark,
    read_frame_number,
)

Media = Callable[[str], Path]

_EXACT = [case for case in CASES if case.exact]
_SPOILT = [case for case in CASES if not case.exact]
_TURNED = [case for case in CASES if case.rotation or case.mirrored]
_WITH_SOUND = [case for case in CASES if case.audio]
_SWSCALE_MATRIX = {1: 1, 2: 5, 5: 5, 6: 5, 9: 9}
_GUARD = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts"}


def _name(thing: MediaCase | RealClip | hostile_media.HostileFile) -> str:
    return thing.name


def _frames(path: Path) -> Iterator[av.VideoFrame | None]:
    """Every frame of the first video stream; None where a packet does not decode."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        # With several threads errors surface at other packets than those that cause them.
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                yield None


def _decode(path: Path) -> tuple[list[av.VideoFrame], int]:
    """All the frames of a small file, and how many packets failed to decode."""
    everything = list(_frames(path))
    frames = [frame for frame in everything if frame is not None]
    return frames, len(everything) - len(frames)


def _rgb(frame: av.VideoFrame, case: MediaCase) -> Picture:
    matrix = _SWSCALE_MATRIX[case.colour.matrix]
    return np.asarray(frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray(), np.uint8)


@pytest.mark.parametrize("size", [(16, 16), (108, 192), (180, 320), (479, 853), (33, 57)])
@pytest.mark.parametrize("number", [0, 1, 63, 64, 2730, LARGEST_NUMBER])
def test_a_number_drawn_is_a_number_read(number: int, size: tuple[int, int]) -> None:
    assert read_frame_mark(draw_frame(number, *size)) == FrameMark(number, 0, False)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_or_mirrored_picture_is_recognised(turns: int, mirrored: bool) -> None:
    for number in range(0, LARGEST_NUMBER, 97):
        picture = draw_frame(number, 108, 192)
        if mirrored:
            picture = picture[:, ::-1]
        turned = np.rot90(picture, -turns)
        assert read_frame_mark(turned) == FrameMark(number, turns, mirrored)


def test_the_number_survives_blur_noise_and_dull_paint() -> None:
    noise = np.random.default_rng(1).normal(0, 12, (108, 192, 3))
    for number in range(0, LARGEST_NUMBER, 89):
        picture = draw_frame(number, 108, 192).astype(float)
        smeared = sum(np.roll(picture, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
        dull = smeared / 9 * 0.6 + 40 + noise
        assert read_frame_number(dull.clip(0, 255).astype(np.uint8)) == number


def test_a_picture_without_a_mark_has_no_number() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (108, 192, 3), dtype=np.uint8)
    assert read_frame_number(noise) is None
    assert read_frame_number(np.zeros((108, 192, 3), np.uint8)) is None
    headless = draw_frame(9, 108, 192)[45:]
    assert read_frame_number(headless) is None


@pytest.mark.parametrize("case", _EXACT, ids=_name)
def test_a_case_decodes_to_the_numbers_and_timestamps_it_states(
    case: MediaCase, media: Media
) -> None:
    frames, failures = _decode(media(case.name))
    pts = [frame.pts for frame in frames]
    assert failures == 0
    assert not any(frame.is_corrupt for frame in frames)
    assert tuple(read_frame_number(_rgb(frame, case)) for frame in frames) == case.expected_numbers
    if not case.pts_in_order:
        assert pts != sorted(pt for pt in pts if pt is not None)
        pts.sort(key=lambda pt: -1 if pt is None else pt)
    assert tuple(pts) == case.expected_pts
    assert {frame.time_base for frame in frames} == {case.time_base}


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_a_case_carries_the_tags_and_streams_it_states(case: MediaCase, media: Media) -> None:
    with av.open(str(media(case.name))) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.width, context.height) == (case.width, case.height)
        assert context.pix_fmt == (case.decoded_pixel_format or case.pixel_format)
        assert (context.colorspace, context.color_range) == (case.colour.matrix, case.colour.range)
        assert context.color_primaries == case.colour.primaries
        assert context.color_trc == case.colour.transfer
        assert (stream.sample_aspect_ratio or Fraction(1)) == case.sar
        languages = [audio.language or "und" for audio in container.streams.audio]
        assert languages == [track.language for track in case.audio]
        written = [subtitle.language for subtitle in container.streams.subtitles]
        assert written == [track.language for track in case.subtitles]
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        assert titles == [chapter.title for chapter in case.chapters]
        assert container.metadata.get("title") == case.title
        attached = [one.data for one in container.streams.attachments]
        assert attached == ([] if case.attachment is None else [case.attachment])
        extra = int(case.cover_art) + int(case.second_video is not None)
        assert len(container.streams.video) == 1 + extra


@pytest.mark.parametrize("case", _WITH_SOUND, ids=_name)
def test_sound_starts_when_the_case_says(case: MediaCase, media: Media) -> None:
    with av.open(str(media(case.name))) as container:
        for stream, track in zip(container.streams.audio, case.audio, strict=True):
            assert stream.start_time is not None
            assert stream.time_base is not None
            # Encoders put up to one packet of priming before the first sample.
            late_s = stream.start_time * stream.time_base - track.start_s
            assert abs(late_s) < Fraction(1, 40)


@pytest.mark.parametrize("case", _EXACT, ids=_name)
def test_colours_come_back_through_the_matrix_that_the_tags_name(
    case: MediaCase, media: Media
) -> None:
    if case.pixel_format == "gray" or case.width < 64:
        pytest.skip("no colour to compare: grey, or patches smaller than a chroma sample")
    frames, _ = _decode(media(case.name))
    difference = read_patches(_rgb(frames[0], case)) - np.array(PATCHES)
    assert float(np.abs(difference).max()) < 8


@pytest.mark.parametrize("case", _SPOILT, ids=_name)
def test_a_spoilt_case_delivers_less_than_its_header_promises(
    case: MediaCase, media: Media
) -> None:
    frames, failures = _decode(media(case.name))
    numbers = [read_frame_number(_rgb(frame, case)) for frame in frames]
    right = 0
    while right < len(numbers) and numbers[right] == right:
        right += 1
    assert 0 < right < len(case.pts)
    if case.damage == "bytes_flipped":
        # Concealment fills a hole with what it has, even with another frame's number.
        assert numbers[-1] == len(case.pts) - 1
        assert failures or any(frame.is_corrupt for frame in frames)
    else:
        assert right == len(numbers)


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """An FFmpeg command line, as a judge that shares no code with PyAV's binding."""
    reason = "no independent judge: pip install imageio-ffmpeg"
    return str(pytest.importorskip("imageio_ffmpeg", reason=reason).get_ffmpeg_exe())


def _judged(ffmpeg: str, path: Path, *options: str) -> bytes:
    command = [ffmpeg, "-v", "error", "-nostdin", "-threads", "1", "-i", str(path)]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "demux"]
    return subprocess.run([*command, *options, "-"], check=True, capture_output=True).stdout


@pytest.mark.parametrize("name", ["cfr_23976", "vfr", "bframes", "edit_list", "non_idr_start"])
def test_the_command_line_finds_the_same_timestamps(name: str, media: Media, ffmpeg: str) -> None:
    case = case_named(name)
    # -copyts: the command line would otherwise move the start of the file to zero.
    lines = _judged(ffmpeg, media(name), "-copyts", "-f", "framehash").decode().splitlines()
    found = [int(line.split(",")[2]) for line in lines if not line.startswith("#")]
    assert found == list(case.expected_pts)


@pytest.mark.parametrize("case", _TURNED, ids=_name)
def test_the_command_line_turns_the_picture_as_the_case_says(
    case: MediaCase, media: Media, ffmpeg: str
) -> None:
    raw = _judged(ffmpeg, media(case.name), "-f", "rawvideo", "-pix_fmt", "rgb24")
    upright = case.rotation % 180 == 0
    height, width = (case.height, case.width) if upright else (case.width, case.height)
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    turns = case.rotation // 90
    expected = [FrameMark(number, turns, case.mirrored) for number in case.expected_numbers]
    assert [read_frame_mark(picture) for picture in pictures] == expected


@pytest.mark.parametrize("name", ["concat_script", "playlist", "playlist_by_url"])
def test_a_luring_file_works_unless_formats_are_allow_listed(
    name: str, hostile: Callable[..., Path]
) -> None:
    path = hostile(name)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert frame.reformat(format="rgb24").to_ndarray().min() > 240
    with pytest.raises(av.error.FFmpegError):
        av.open(str(path), container_options=_GUARD)


@pytest.mark.parametrize("one", hostile_media.HOSTILE, ids=_name)
def test_a_hostile_file_is_small(
    one: hostile_media.HostileFile, hostile: Callable[..., Path]
) -> None:
    assert hostile(one.name).stat().st_size < 1_000_000


@pytest.mark.parametrize("clip", REAL_CLIPS, ids=_name)
def test_a_real_clip_decodes_to_the_frames_that_the_list_states(
    clip: RealClip, clips: Path
) -> None:
    count = complaints = 0
    for frame in _frames(clips / clip.name):
        if frame is None or frame.is_corrupt:
            complaints += 1
        if frame is None:
            continue
        if count == 0:
            assert frame.pts == clip.first_pts
            assert frame.time_base == clip.time_base
            # PyAV counts counter-clockwise.
            assert -frame.rotation % 360 == clip.rotation
        count += 1
    assert count == clip.frames
    assert complaints == 0 or not clip.intact
    with av.open(str(clips / clip.name)) as container:
        assert bool(container.streams.audio) == clip.sound


def test_every_real_clip_is_in_the_list(clips: Path) -> None:
    assert {path.name for path in clips.iterdir()} == {clip.name for clip in REAL_CLIPS}
