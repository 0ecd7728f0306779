"""Nothing is lost: the whole pipeline over the media table, proved by the numbers in the pixels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

import media_maker
from frame_mark import read_patches
from impasto.errors import RequestError
from impasto.media.probe import probe
from impasto.media.verify import verify
from impasto.records import Codec, Report
from media_table import (
    BT601,
    CASES,
    PATCHES,
    REAL_CLIPS,
    AudioTrack,
    FrameMark,
    MediaCase,
    RealClip,
    case_named,
)
from painting import PLAIN, Film, paint, rgb, watch

Media = Callable[[str], Path]

_EXACT = [case for case in CASES if case.exact]
_SPOILT = [case for case in CASES if not case.exact]
_HDR = [case for case in CASES if case.colour.transfer in {16, 18}]
_COLOURED = [
    case for case in _EXACT if case not in _HDR and case.pixel_format != "gray" and case.width >= 64
]
_PROMISED = {
    "frame_count", "timestamps", "audio_packets", "streams", "color_tags", "display_size"
}  # fmt: skip
_MS = Fraction(1, 1000)


@dataclass(frozen=True, slots=True)
class Painted:
    """A finished run over one case, and what independent eyes see before and after."""

    case: MediaCase
    source: Path
    target: Path
    report: Report
    before: Film
    film: Film


@pytest.fixture(scope="session")
def painted(
    media: Media, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[MediaCase], Painted]:
    """`painted(case)` has gone through the whole pipeline, once per session."""
    folder = tmp_path_factory.mktemp("painted")

    @cache
    def painted(case: MediaCase) -> Painted:
        source = folder / f"{case.name}{case.suffix}"
        shutil.copyfile(media(case.name), source)
        report = paint(source, folder / "work")
        target = Path(report.target)
        return Painted(case, source, target, report, watch(source), watch(target))

    return painted


Paintings = Callable[[MediaCase], Painted]


def _name(thing: MediaCase | RealClip) -> str:
    return thing.name


def _clock_of(film: Film) -> Fraction:
    """What one tick of the target may be off: Matroska counts in milliseconds."""
    return film.first.time_base or _MS


@pytest.mark.parametrize("case", _EXACT, ids=_name)
def test_every_frame_is_there_once_in_order_as_a_player_shows_it(
    case: MediaCase, painted: Paintings
) -> None:
    # The maker draws upright and asks the player to turn: what is shown is the turned picture.
    turns = case.rotation // 90
    expected = [FrameMark(number, turns, case.mirrored) for number in case.expected_numbers]
    assert list(painted(case).film.marks) == expected
    assert painted(case).film.first.rotation == 0


@pytest.mark.parametrize("case", _EXACT, ids=_name)
def test_every_frame_has_its_timestamp(case: MediaCase, painted: Paintings) -> None:
    film = painted(case).film
    wanted = [pts * case.time_base for pts in case.expected_pts]
    # A transport stream's muxer starts its clock later, for all streams alike.
    late_s = film.pts_s[0] - wanted[0] if painted(case).target.suffix == ".ts" else Fraction(0)
    exact = (case.time_base / _clock_of(film)).denominator == 1
    tolerance_s = Fraction(0) if exact else _clock_of(film)
    assert len(film.pts_s) == len(wanted)
    worst_s = max(abs(a - late_s - b) for a, b in zip(film.pts_s, wanted, strict=True))
    assert worst_s <= tolerance_s


@pytest.mark.parametrize("case", _EXACT, ids=_name)
def test_the_target_has_the_size_that_a_player_shows(case: MediaCase, painted: Paintings) -> None:
    film = painted(case).film
    turned = case.rotation in {90, 270}
    assert film.size == ((case.height, case.width) if turned else (case.width, case.height))
    assert film.sample_aspect_ratio == (1 / case.sar if turned else case.sar)


@pytest.mark.parametrize("case", _COLOURED, ids=_name)
def test_colours_stay_and_keep_their_tags(case: MediaCase, painted: Paintings) -> None:
    frame = painted(case).film.first
    assert int(frame.colorspace) == case.colour.matrix
    assert int(frame.color_primaries) == case.colour.primaries
    assert int(frame.color_trc) == case.colour.transfer
    full = {int(frame.color_range), case.colour.range}
    assert full == {2} or 2 not in full
    upright = np.rot90(rgb(frame), case.rotation // 90)
    upright = upright[:, ::-1] if case.mirrored else upright
    difference = read_patches(upright) - np.array(PATCHES)
    assert float(np.abs(difference).max()) < 8


@pytest.mark.parametrize("case", _HDR, ids=_name)
def test_hdr_becomes_sdr_of_plausible_brightness(case: MediaCase, painted: Paintings) -> None:
    frame = painted(case).film.first
    tags = frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc
    assert [int(tag) for tag in tags] == [1, 1, 1, 1]
    picture = rgb(frame)
    height, width = picture.shape[:2]
    white, black = picture[: height // 12, : width // 12], picture[: height // 12, -width // 12 :]
    assert white.mean() > 200
    assert black.mean() < 30
    assert 60 < picture.mean() < 190
    strongest = read_patches(picture).argmax(axis=1)
    assert strongest.tolist() == np.array(PATCHES).argmax(axis=1).tolist()
    assert any("tone-mapped" in note for note in painted(case).report.notes)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_everything_beside_the_picture_is_kept_byte_for_byte(
    case: MediaCase, painted: Paintings
) -> None:
    source, target = painted(case).before, painted(case).film
    assert target.title == source.title
    assert target.chapters == source.chapters
    assert len(target.tracks) == len(source.tracks)
    said = any(track.default for track in source.tracks)  # AVI does not say which is the default
    for ours, theirs in zip(source.tracks, target.tracks, strict=True):
        assert theirs.kind == ours.kind
        assert theirs.language == ours.language
        assert theirs.default == ours.default or not said
        assert theirs.attached_picture == ours.attached_picture
        assert _spoken(theirs.packets) == _spoken(ours.packets)


def _spoken(packets: tuple[bytes, ...]) -> list[bytes]:
    """Without the empty samples that a mov muxer puts between subtitles, as it sees fit."""
    return [packet for packet in packets if packet != b"\0\0"]


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_sound_and_text_start_as_far_from_the_picture_as_they_did(
    case: MediaCase, painted: Paintings
) -> None:
    source, target = painted(case).before, painted(case).film
    for ours, theirs in zip(source.tracks, target.tracks, strict=True):
        if ours.first_s is not None and theirs.first_s is not None:
            assert abs(theirs.first_s - ours.first_s) <= max(_clock_of(target), _MS)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_report_says_verified_and_so_does_verify_alone(
    case: MediaCase, painted: Paintings
) -> None:
    one = painted(case)
    checks = verify(one.source, one.target)
    assert one.report.verified
    assert [check.name for check in checks if not check.ok] == []
    assert {check.name for check in checks} >= _PROMISED
    assert one.report.checks == checks
    assert one.report.frames == len(one.film.marks)
    assert one.report.replaced_frames == 0


@pytest.mark.parametrize("case", _SPOILT, ids=_name)
def test_what_decodes_of_a_spoilt_source_is_there_and_the_notes_say_what_is_lost(
    case: MediaCase, painted: Paintings
) -> None:
    one = painted(case)
    assert one.film.numbers == one.before.numbers
    assert any("damaged" in note or "promises" in note for note in one.report.notes)


def test_a_source_whose_timestamps_are_out_of_order_is_noted(painted: Paintings) -> None:
    notes = painted(case_named("avi_h264")).report.notes
    assert any("out of order" in note for note in notes)


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9", "ffv1"])
def test_every_codec_keeps_every_frame(codec: Codec, media: Media, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    options = replace(PLAIN, codec=codec, start="0.5", end="1")
    report = paint(media("cfr_24"), tmp_path / "work", target=target, options=options)
    film = watch(target)
    assert report.verified
    assert film.numbers == list(range(12, 24))
    assert float(np.abs(read_patches(rgb(film.first)) - np.array(PATCHES)).max()) < 8


def test_a_lossless_codec_gives_the_same_pictures(media: Media, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    paint(media("yuv444"), tmp_path / "work", target=target, options=replace(PLAIN, codec="ffv1"))
    before, after = rgb(watch(media("yuv444")).first), rgb(watch(target).first)
    difference = np.abs(before.astype(int) - after.astype(int))
    assert int(difference.max()) <= 4  # two roundings of each, there and back
    assert float(difference.mean()) < 1


@pytest.mark.parametrize(
    ("name", "start", "end", "numbers"),
    [
        ("cfr_24", "0.5", "1", range(12, 24)),
        ("cfr_24", "0.51", None, range(13, 36)),
        ("late_audio", "0.25", "1.25", range(6, 30)),
        ("subtitles_chapters", "0:00.5", "1s", range(12, 24)),
        ("mpegts", "0.5", None, range(12, 36)),
        ("edit_list", "0.5", None, range(22, 46)),
        ("open_gop", None, "1", range(24)),
        ("vfr", None, "0.034", range(2)),
    ],
)
def test_a_part_holds_its_frames_and_stays_in_sync(
    name: str,
    start: str | None,
    end: str | None,
    numbers: range,
    media: Media,
    tmp_path: Path,
) -> None:
    case, source = case_named(name), watch(media(name))
    target = tmp_path / f"part{case.suffix}"
    options = replace(PLAIN, start=start, end=end)
    assert paint(media(name), tmp_path / "work", target=target, options=options).verified
    film = watch(target)
    assert film.numbers == list(numbers)
    place = case.expected_numbers.index(numbers[0])
    steps = [(case.expected_pts[place + i] - case.expected_pts[place]) * case.time_base
             for i in range(len(numbers))]  # fmt: skip
    found = [pts_s - film.pts_s[0] for pts_s in film.pts_s]
    assert max(abs(a - b) for a, b in zip(found, steps, strict=True)) <= _tick_error(case, film)
    for ours, theirs in zip(source.tracks, film.tracks, strict=True):
        assert set(_spoken(theirs.packets)) <= set(ours.packets)


def _tick_error(case: MediaCase, film: Film) -> Fraction:
    exact = (case.time_base / _clock_of(film)).denominator == 1
    return Fraction(0) if exact else _clock_of(film)


@pytest.mark.parametrize(
    ("name", "size", "width", "height"),
    [
        ("cfr_24", "54p", 96, 54),
        ("cfr_24", "100x60", 100, 60),
        ("rotation_90", "96p", 54, 96),
        ("sar", "54p", 96, 54),
        ("yuv444", "99x55", 99, 55),
    ],
)
def test_another_size_keeps_every_frame(
    name: str, size: str, width: int, height: int, media: Media, tmp_path: Path
) -> None:
    target = tmp_path / "out.mp4"
    options = replace(PLAIN, size=size)
    paint(media(name), tmp_path / "work", target=target, options=options)
    film = watch(target)
    assert film.size == (width, height)
    assert film.numbers == list(case_named(name).expected_numbers)


# --- containers -------------------------------------------------------------------------------


def test_a_named_container_that_lacks_room_is_refused_with_one_that_has_it(
    media: Media, tmp_path: Path
) -> None:
    target = tmp_path / "out.mp4"
    with pytest.raises(
        RequestError, match=r"can't hold srt .*attachments; the target '.*\.mkv' would"
    ):
        paint(media("subtitles_chapters"), tmp_path / "work", target=target)
    with pytest.raises(RequestError, match=r"mov_text subtitle; the target '.*\.mp4' would"):
        paint(media("mov_text"), tmp_path / "work", target=tmp_path / "out.mkv")
    assert not list(tmp_path.glob("*.m*"))


def test_without_a_name_another_container_is_taken_and_noted(media: Media, tmp_path: Path) -> None:
    liar = tmp_path / "film.mp4"
    shutil.copyfile(media("subtitles_chapters"), liar)
    report = paint(liar, tmp_path / "work")
    assert Path(report.target) == tmp_path / "film.identity.mkv"
    assert any(".mkv" in note for note in report.notes)
    plain = tmp_path / "plain.mp4"
    shutil.copyfile(media("cfr_24"), plain)
    report = paint(plain, tmp_path / "work", options=replace(PLAIN, codec="ffv1"))
    assert Path(report.target).suffix == ".mkv"


def test_a_shape_of_pixels_that_webm_lacks_takes_another_container(
    media: Media, tmp_path: Path
) -> None:
    film = tmp_path / "film.webm"
    shutil.copyfile(media("odd_vp9"), film)
    squeezed = replace(PLAIN, size="101x101")
    with pytest.raises(RequestError, match=r"not square; the target '.*\.mp4' would do") as caught:
        paint(film, tmp_path / "work", target=tmp_path / "out.webm", options=squeezed)
    target = Path(caught.value.ways[0].about)
    paint(film, tmp_path / "work", target=target, options=squeezed)
    assert watch(target).size == (101, 101)
    report = paint(film, tmp_path / "work", options=squeezed)
    assert Path(report.target) == tmp_path / "film.identity.mp4"
    only_vp9 = replace(PLAIN, size="101x101", codec="vp9")
    with pytest.raises(RequestError, match=r"leave out codec vp9; the target '.*\.mkv' would do"):
        paint(media("subtitles_chapters"), tmp_path / "work", options=only_vp9)
    small = replace(PLAIN, size="101x57", codec="h265")
    with pytest.raises(RequestError, match=r"h265 needs more than 64 .* use another codec"):
        paint(film, tmp_path / "work", target=tmp_path / "out.webm", options=small)


def test_an_existing_target_is_kept_unless_force_is_given(media: Media, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(RequestError, match="force overwrites it"):
        paint(media("one_frame"), tmp_path / "work", target=target)
    assert target.read_bytes() == b"mine"
    paint(media("one_frame"), tmp_path / "work", target=target, options=replace(PLAIN, force=True))
    assert watch(target).numbers == [0]


def test_the_source_is_never_overwritten(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    shutil.copyfile(media("one_frame"), source)
    with pytest.raises(RequestError, match="source itself"):
        paint(source, tmp_path / "work", target=source, options=replace(PLAIN, force=True))


# --- verify says no ---------------------------------------------------------------------------

_BASE = replace(
    case_named("subtitles_chapters"), attachment=None, audio=(AudioTrack(language="deu"),)
)
_TEXT = _BASE.subtitles[0]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "base.mkv"
    media_maker.make(_BASE, path)
    return path


def _failing(source: Path, target: Path) -> set[str]:
    return {check.name for check in verify(source, target) if not check.ok}


def test_verify_finds_nothing_wrong_with_a_faithful_copy(base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mkv"
    media_maker.make(_BASE, copy)
    assert _failing(base, copy) == set()


@pytest.mark.parametrize(
    ("check", "changed"),
    [
        ("frame_count", replace(_BASE, pts=_BASE.pts[:-1])),
        ("frame_count", replace(_BASE, pts=_BASE.pts[:9] + _BASE.pts[10:])),
        ("timestamps", replace(_BASE, pts=(*_BASE.pts[:9], _BASE.pts[9] + 3, *_BASE.pts[10:]))),
        ("timestamps", replace(_BASE, pts=tuple(range(0, 36 * 41, 41)))),
        ("audio_packets", replace(_BASE, audio=(AudioTrack(language="deu", pitch_hz=441),))),
        (
            "audio_packets",
            replace(_BASE, audio=(AudioTrack(language="deu", duration_s=Fraction(1)),)),
        ),
        ("audio_packets", replace(_BASE, audio=())),
        ("streams", replace(_BASE, audio=())),
        ("streams", replace(_BASE, audio=(AudioTrack(language="eng"),))),
        ("streams", replace(_BASE, subtitles=_BASE.subtitles[:1])),
        ("other_packets", replace(_BASE, subtitles=_BASE.subtitles[:1])),
        (
            "other_packets",
            replace(_BASE, subtitles=(replace(_TEXT, lines=_TEXT.lines[1:]), _BASE.subtitles[1])),
        ),
        (
            "stream_offsets",
            replace(_BASE, audio=(AudioTrack(language="deu", start_s=Fraction(1, 20)),)),
        ),
        ("color_tags", replace(_BASE, colour=BT601)),
        ("color_tags", replace(_BASE, colour=replace(_BASE.colour, range=2))),
        ("display_size", replace(_BASE, width=160, height=90)),
        ("display_size", replace(_BASE, sar=Fraction(4, 3))),
        ("chapters", replace(_BASE, chapters=_BASE.chapters[:1])),
        ("title", replace(_BASE, title=None)),
    ],
)
def test_verify_fails_the_check_that_a_change_breaks(
    check: str, changed: MediaCase, base: Path, tmp_path: Path
) -> None:
    target = tmp_path / "changed.mkv"
    media_maker.make(changed, target)
    assert check in _failing(base, target)


def test_verify_finds_a_turned_target(media: Media, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(media_maker.with_display_matrix(media("yuv444").read_bytes(), 90, False))
    assert _failing(media("yuv444"), turned) == {"display_size"}


def test_verify_finds_a_truncated_target(base: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.mkv"
    short.write_bytes(media_maker.cut(base.read_bytes(), Fraction(3, 5)))
    assert _failing(base, short) >= {"frame_count", "timestamps", "decodes", "audio_packets"}


def test_verify_finds_a_damaged_picture(media: Media, tmp_path: Path) -> None:
    case = replace(case_named("damaged"), damage="none")
    whole, spoilt = tmp_path / "whole.mp4", tmp_path / "spoilt.mp4"
    media_maker.make(case, whole)
    spoilt.write_bytes(media_maker.flip_bytes(whole.read_bytes()))
    assert "decodes" in _failing(whole, spoilt)


def test_verify_finds_two_frames_swapped_in_time(base: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped.mkv"
    with av.open(str(base)) as source, av.open(str(swapped), "w") as target:
        streams = {
            one.index: target.add_stream_from_template(one, opaque=True) for one in source.streams
        }
        packets = [packet for packet in source.demux() if packet.size]
        video = [packet for packet in packets if packet.stream_index == 0]
        one, other = next(
            (a, b)
            for a, b in pairwise(video)
            if (a.pts or 0) >= (b.dts or 0) and not (a.is_keyframe or b.is_keyframe)
        )
        one.pts, other.pts = other.pts, one.pts
        for packet in packets:
            packet.stream = streams[packet.stream_index]
            target.mux(packet)
    assert {"decodes", "timestamps"} & _failing(base, swapped)


# --- files made by others ---------------------------------------------------------------------


@pytest.mark.parametrize("clip", REAL_CLIPS, ids=_name)
def test_a_real_clip_keeps_every_frame_and_timestamp(
    clip: RealClip, clips: Path, tmp_path: Path
) -> None:
    source = clips / clip.name
    target = tmp_path / f"out{source.suffix}"
    options = replace(PLAIN, size="64p", chunk_frames=50)
    report = paint(source, tmp_path / "work", target=target, options=options)
    assert report.verified
    assert report.frames == clip.frames
    assert bool(report.notes) or clip.intact
    with av.open(str(source)) as ours, av.open(str(target)) as theirs:
        assert len(theirs.streams.audio) == len(ours.streams.audio)
        assert len(theirs.streams.subtitles) == len(ours.streams.subtitles)


@pytest.mark.parametrize(
    "name",
    [
        "decord_video_90.mov",
        "decord_video_180.mov",
        "androidx_bt601.mp4",
        "torchcodec_av1_video.mkv",
        "torchcodec_h264_10bits.mp4",
    ],
)
def test_a_real_clip_at_its_own_size_looks_the_same(name: str, clips: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out{Path(name).suffix}"
    paint(clips / name, tmp_path / "work", target=target, options=replace(PLAIN, chunk_frames=50))
    with av.open(str(clips / name)) as source:
        before = next(source.decode(video=0))
        expected = np.rot90(rgb(before), before.rotation // 90)
    assert float(np.abs(expected.astype(int) - rgb(watch(target).first)).mean()) < 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_picture_keeps_its_bytes(media: Media, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    paint(media("cover_art"), tmp_path / "work", target=target)
    bodies = []
    for path in (media("cover_art"), target):
        with av.open(str(path)) as container:
            (cover,) = [
                s for s in container.streams.video if s.disposition & s.disposition.attached_pic
            ]
            bodies.append([bytes(p) for p in container.demux(cover) if p.size])
    assert bodies[0]
    assert bodies[0] == bodies[1]


def test_a_packet_that_gives_no_picture_is_named(media: Media, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    with av.open(str(media("cfr_24"))) as source, av.open(str(broken), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for place, packet in enumerate(p for p in source.demux(video=0) if p.size):
            sent = av.Packet(b"\xff" * packet.size if place == 20 else bytes(packet))
            sent.pts, sent.dts, sent.time_base = packet.pts, packet.dts, packet.time_base
            sent.is_keyframe = packet.is_keyframe
            sent.stream = stream
            output.mux(sent)
    assert probe(broken).damage
