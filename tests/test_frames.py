"""A folder of frames: joined once into a lossless video, and painted like any."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import hostile_pictures
from frame_mark import draw_frame, read_frame_number
from impasto.cli import main
from impasto.errors import ImpastoError, RequestError, RunFailed, SourceRefused
from impasto.frames import Folder, find_folder, join_folder, parse_rate, unused, video_at
from impasto.media.frames import Unread, join
from impasto.records import Event, Noted, StageBegan
from impasto.settings import Limits
from impasto.stores import open_store
from painting import PLAIN, PRINT_PEAK_MB, paint, settings_in, watch

_HEIGHT, _WIDTH = 48, 64
_SEED = 7
_HERE = Path(__file__).parent


def numbered(folder: Path, count: int, *, first: int = 1, kind: str = ".png") -> Path:
    """A folder of frames that carry their numbers, 0 and up."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = Image.fromarray(draw_frame(number, _HEIGHT, _WIDTH))
        picture.save(folder / f"frame_{number + first}{kind}")
    return folder


def noise(*shape: int) -> Any:
    return np.random.default_rng(_SEED).integers(0, 256, shape, dtype=np.uint8)


def joined(folder: Path, video: Path, *, rate: Fraction = Fraction(24)) -> tuple[str, ...]:
    paths = sorted(folder.iterdir())
    unread = [Unread(path.name, path.stat().st_size, path.read_bytes) for path in paths]
    return join(unread, video, rate=rate, limits=Limits())


def decoded(video: Path) -> list[av.VideoFrame]:
    with av.open(str(video)) as container:
        return list(container.decode(video=0))


def found(folder: Path, rate: str | None = None) -> Folder:
    """What is at `folder`, which must be one of frames."""
    here = find_folder(folder, rate)
    assert here is not None
    return here


def videos_in(folder: Path) -> list[Path]:
    return sorted((folder / "store").glob("sources/*/*.mp4"))


_RGB, _GREY = noise(_HEIGHT, _WIDTH, 3), noise(_HEIGHT, _WIDTH)
_PICTURES: dict[str, Callable[[], Image.Image]] = {
    "rgb.png": lambda: Image.fromarray(_RGB),
    "grey.png": lambda: Image.fromarray(_GREY),
    "palette.png": lambda: Image.fromarray(_RGB).quantize(100),
    "bits.png": lambda: Image.fromarray(_GREY).convert("1"),
    "rgb.bmp": lambda: Image.fromarray(_RGB),
    "palette.bmp": lambda: Image.fromarray(_RGB).quantize(100),
    "rgb.tif": lambda: Image.fromarray(_RGB),
    "grey.tiff": lambda: Image.fromarray(_GREY),
    "lossless.webp": lambda: Image.fromarray(_RGB),
    "clear.png": lambda: Image.fromarray(np.dstack([_RGB, _GREY])),
    "opaque.png": lambda: Image.fromarray(_RGB).convert("RGBA"),
    "odd.png": lambda: Image.fromarray(noise(47, 63, 3)),
    "tiny.png": lambda: Image.fromarray(noise(1, 1, 3)),
}


@pytest.mark.parametrize("name", _PICTURES)
def test_a_joined_video_decodes_to_exactly_the_pictures(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    picture = _PICTURES[name]()
    picture.save(folder / name, lossless=True)  # which only WebP needs to be told
    notes = joined(folder, tmp_path / "video.mp4")
    (frame,) = decoded(tmp_path / "video.mp4")
    assert np.array_equal(frame.to_ndarray(format="rgb24"), np.asarray(picture.convert("RGB")))
    clear = ("transparency is lost: the target has none",)
    assert notes == (clear if name == "clear.png" else ())


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(_HEIGHT, _WIDTH), (47, 63)])
def test_jpeg_is_kept_as_the_yuv_that_it_holds(
    subsampling: int, size: tuple[int, int], tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray(noise(*size, 3)).save(folder / "a.jpg", subsampling=subsampling)
    joined(folder, tmp_path / "video.mp4")
    (frame,), (own,) = decoded(tmp_path / "video.mp4"), decoded(folder / "a.jpg")
    assert frame.format.name == own.format.name.replace("yuvj", "yuv")
    assert int(frame.color_range) == 2, "full range, as JFIF has it"
    assert int(frame.colorspace) == 5
    for kept, was in zip(frame.planes, own.planes, strict=True):
        rows = [
            np.frombuffer(memoryview(each), np.uint8).reshape(-1, each.line_size)
            for each in (kept, was)
        ]
        one, other = (each[: was.height, : was.width] for each in rows)
        assert np.array_equal(one, other)


def test_pictures_of_several_kinds_become_rgb(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, name in enumerate(["0.jpg", "1.png", "2.bmp", "3.webp", "4.tif"]):
        Image.fromarray(draw_frame(number, _HEIGHT, _WIDTH)).save(folder / name)
    joined(folder, tmp_path / "video.mp4")
    frames = decoded(tmp_path / "video.mp4")
    assert {frame.format.name for frame in frames} == {"bgr0"}
    assert watch_numbers(frames) == [0, 1, 2, 3, 4]
    assert np.array_equal(frames[1].to_ndarray(format="rgb24"), draw_frame(1, _HEIGHT, _WIDTH))


def watch_numbers(frames: list[av.VideoFrame]) -> list[int | None]:
    return [
        read_frame_number(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
        for frame in frames
    ]


def test_a_photograph_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(_RGB).save(folder / "a.png", exif=turned)
    joined(folder, tmp_path / "video.mp4")
    (frame,) = decoded(tmp_path / "video.mp4")
    assert np.array_equal(frame.to_ndarray(format="rgb24"), np.rot90(_RGB, k=-1))


def test_sixteen_bits_become_eight_and_a_note_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    deep = np.random.default_rng(_SEED).integers(0, 1 << 16, (_HEIGHT, _WIDTH), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "a.png")
    assert joined(folder, tmp_path / "video.mp4") == ("16 bits a component become 8",)
    (frame,) = decoded(tmp_path / "video.mp4")
    found = frame.to_ndarray(format="rgb24")[..., 0].astype(float)
    assert np.abs(found - deep / 257).max() < 2, "as near as swscale comes"


@pytest.mark.parametrize(
    ("rate", "per_s"),
    [("24", Fraction(24)), ("23.976", Fraction(24000, 1001)), ("30000/1001", None), ("1/5", None)],
)
def test_every_frame_has_exactly_its_time(
    rate: str, per_s: Fraction | None, tmp_path: Path
) -> None:
    joined(numbered(tmp_path / "frames", 7), tmp_path / "video.mp4", rate=parse_rate(rate))
    frames = decoded(tmp_path / "video.mp4")
    times = [(frame.pts or 0) * Fraction(frame.time_base or 1) for frame in frames]
    assert times == [number / (per_s or Fraction(rate)) for number in range(7)]


@pytest.mark.parametrize(
    ("rate", "per_s"),
    [
        (None, Fraction(25)), (24, Fraction(24)), ("24.00", Fraction(24)), (12.5, Fraction(25, 2)),
        (" 23.98 ", Fraction(24000, 1001)), (29.97, Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)), ("14.99", Fraction(1499, 100)), ("50/2", Fraction(25)),
    ],
)  # fmt: skip
def test_a_rate_is_read_as_people_write_it(rate: str | float | None, per_s: Fraction) -> None:
    assert parse_rate(rate) == per_s


@pytest.mark.parametrize(
    "rate", ["", "0", "-5", "fast", "1/0", "24/1/1", "1001", "0.001", "1e3", "٢٤", float("nan")]
)
def test_a_rate_that_is_none_is_refused(rate: str | float) -> None:
    with pytest.raises(RequestError, match="rate"):
        parse_rate(rate)


def test_frames_are_in_the_order_of_their_numbers_and_nothing_else_counts(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "frames", 12)
    for name in [".hidden.png", "~frame_3.png", "frame_13.png.part", "notes.txt", "frame_14.png#1"]:
        (folder / name).write_bytes(b"not ours")
    numbered(folder / "thumbnails", 2)
    names = [picture.name for picture in found(folder).pictures]
    assert names == [f"frame_{number}.png" for number in range(1, 13)]
    report = paint(folder, tmp_path, options=replace(PLAIN, rate="24"))
    film = watch(Path(report.target))
    assert film.numbers == list(range(12))
    assert list(film.pts_s) == [Fraction(number, 24) for number in range(12)]
    (note,) = report.notes
    assert note.startswith("the source is RGB, so the target is h264 in 4:4:4")


def test_the_target_is_named_after_the_folder_and_what_was_joined_is_removed(
    tmp_path: Path,
) -> None:
    folder = numbered(tmp_path / "shot.v2", 5, kind=".jpg")
    report = paint(folder, tmp_path)
    assert report.target == str(tmp_path / "shot.v2.identity.mp4")
    assert report.source == str(folder)
    assert watch(Path(report.target)).pts_s[4] == Fraction(4, 25), "25 a second where nobody says"
    assert videos_in(tmp_path) == []
    paint(folder, tmp_path, options=replace(PLAIN, force=True, keep=True))
    assert len(videos_in(tmp_path)) == 1


def test_missing_numbers_are_told(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "frames", 12, kind=".jpg")
    for number in (4, 6, 7):
        (folder / f"frame_{number}.jpg").unlink()
    report = paint(folder, tmp_path)
    (note,) = report.notes
    assert note.startswith("3 numbers are missing between 'frame_1.jpg' and 'frame_12.jpg'")
    assert note.endswith(": 4, 6–7")
    assert report.frames == 9


def _spoil(folder: Path, name: str) -> None:
    match name:
        case "size":
            Image.fromarray(noise(10, 10, 3)).save(folder / "frame_3.png")
        case "text":
            (folder / "frame_3.png").write_text("#EXTM3U\nfile:///etc/passwd")
        case "cut":
            whole = (folder / "frame_3.png").read_bytes()
            (folder / "frame_3.png").write_bytes(whole[: len(whole) // 2])
        case "empty":
            (folder / "frame_3.png").write_bytes(b"")
        case "twice":
            Image.fromarray(_RGB).save(folder / "frame_3.jpg")
        case "bomb":
            hostile_pictures.bomb(folder / "frame_3.png")
        case "nothing":
            for path in folder.iterdir():
                path.unlink()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("size", "frame_3.png' has 10x10 pixels, and the first, .*frame_1.png', has 64x48"),
        ("text", "frame_3.png' is not a picture that Impasto opens"),
        ("cut", "frame_3.png' can't be decoded .* damaged"),
        ("empty", "frame_3.png' is not a picture"),
        ("twice", "'frame_3.jpg' and 'frame_3.png' in .* are one frame twice; keep one"),
        ("bomb", "frame_3.png' can't be decoded .*max_pixels"),
        ("nothing", "holds no pictures"),
    ],
)
def test_a_folder_that_can_not_be_joined_is_refused_in_one_line_that_names_the_picture(
    name: str, says: str, tmp_path: Path
) -> None:
    folder = numbered(tmp_path / "frames", 5)
    _spoil(folder, name)
    with pytest.raises(SourceRefused, match=says) as refused:
        paint(folder, tmp_path)
    assert "\n" not in str(refused.value)
    assert videos_in(tmp_path) == []
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(max_frames=4), "there are 5 pictures, over the limit of 4"),
        (Limits(max_duration_s=1), "5 pictures at 1 frames/s last 5 s"),
        (Limits(max_bytes=100), "has more than 100 bytes"),
        (Limits(max_pixels=1000), "max_pixels"),
    ],
)
def test_the_limits_hold_for_pictures(limits: Limits, says: str, tmp_path: Path) -> None:
    settings = replace(settings_in(tmp_path), limits=limits)
    with pytest.raises(SourceRefused, match=says):
        video_at(str(numbered(tmp_path / "frames", 5)), settings, rate="1")


_KILLED = """
import os, signal, sys
from pathlib import Path
import impasto.frames
from painting import paint
real, left = impasto.frames.read_item, int(sys.argv[2])

def read(folder, item):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(folder, item)

impasto.frames.read_item = read
folder = Path(sys.argv[1])
paint(folder / "frames", folder, target=folder / "out.mp4")
"""


@pytest.mark.parametrize("picture", [2, 30])
def test_a_run_that_is_killed_while_it_joins_begins_again(picture: int, tmp_path: Path) -> None:
    numbered(tmp_path / "frames", 40)
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(picture)]
    assert subprocess.run(command, cwd=_HERE, check=False).returncode == -signal.SIGKILL
    assert videos_in(tmp_path) == []
    paint(tmp_path / "frames", tmp_path, target=tmp_path / "out.mp4")
    assert watch(tmp_path / "out.mp4").numbers == list(range(40))
    other = tmp_path / "other"
    paint(tmp_path / "frames", other, target=other / "out.mp4")
    assert (other / "out.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
    assert [path.name for path in (tmp_path / "store").rglob("*.part")] == []


def test_a_run_that_broke_off_later_finds_what_was_joined(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "frames", 9)

    def break_off(event: Event) -> None:
        if event == StageBegan("stitch"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint(folder, tmp_path, on_event=break_off)
    (video,) = videos_in(tmp_path)
    before = video.stat().st_mtime_ns
    report = paint(folder, tmp_path, options=replace(PLAIN, keep=True))
    assert report.chunks.reused == report.chunks.total
    assert [one.stat().st_mtime_ns for one in videos_in(tmp_path)] == [before]


def test_another_rate_or_another_picture_is_another_video(tmp_path: Path) -> None:
    folder, store = numbered(tmp_path / "frames", 4), open_store(str(tmp_path / "store"))
    settings = settings_in(tmp_path)

    def key(rate: str) -> str:
        return join_folder(found(folder), store, rate, settings).key

    keys = [key("24"), key("24"), key("25")]
    Image.fromarray(_RGB).save(folder / "frame_2.png")
    keys.append(key("24"))
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("stage", ["join", "score"])
def test_a_folder_that_changes_meanwhile_never_becomes_a_target(stage: str, tmp_path: Path) -> None:
    folder = numbered(tmp_path / "frames", 6)

    def add_one(event: Event) -> None:
        if event == StageBegan(stage):
            Image.fromarray(_RGB).save(folder / "frame_7.png")

    with pytest.raises(RunFailed, match="changed during the run; run again"):
        paint(folder, tmp_path, on_event=add_one)
    assert not list(tmp_path.glob("*.mp4"))
    assert watch(Path(paint(folder, tmp_path).target)).numbers[:6] == list(range(6))


def test_a_joined_video_that_was_damaged_is_found(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "frames", 6)
    paint(folder, tmp_path, options=replace(PLAIN, keep=True))
    (video,) = videos_in(tmp_path)
    joined(numbered(tmp_path / "fewer", 5), video)
    with pytest.raises(RunFailed, match=r"does not hold the 6 frames of .*remove it and run again"):
        paint(folder, tmp_path, options=replace(PLAIN, force=True))


def test_a_run_that_still_reads_a_video_keeps_it(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "frames", 6)

    def break_off(event: Event) -> None:
        if event == StageBegan("stitch"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint(folder, tmp_path, on_event=break_off, options=replace(PLAIN, strength=0.5))
    paint(folder, tmp_path)
    assert len(videos_in(tmp_path)) == 1
    store, later = open_store(str(tmp_path / "store")), datetime.now(UTC) + timedelta(days=1)
    assert unused(store, lambda _: True, later) == []
    assert unused(store, lambda _: False, datetime.now(UTC) - timedelta(days=1)) == []
    assert len(unused(store, lambda _: False, later)) == 3
    paint(folder, tmp_path, options=replace(PLAIN, strength=0.5, force=True))
    assert videos_in(tmp_path) == []


_JOIN = f"""
import sys
from pathlib import Path
from painting import settings_in
from impasto.frames import video_at
folder = Path(sys.argv[1])
video_at(str(folder / sys.argv[2]), settings_in(folder / ("of-" + sys.argv[2])))
{PRINT_PEAK_MB}
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_two_thousand_frames_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    """Their pixels alone would be 86 MB."""
    picture = Image.fromarray(noise(90, 160, 3))
    picture.save(tmp_path / "one.png", compress_level=0)
    for name, count in {"few": 50, "many": 2000}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            os.link(tmp_path / "one.png", tmp_path / name / f"{number}.png")

    def peak_mb(name: str) -> int:
        command = [sys.executable, "-c", _JOIN, str(tmp_path), name]
        return int(subprocess.run(command, check=True, capture_output=True, cwd=_HERE).stdout)

    assert peak_mb("many") < peak_mb("few") * 1.15
    (video,) = (tmp_path / "of-many").rglob("video.mp4")
    with av.open(str(video)) as container:
        assert container.streams.video[0].frames == 2000


def test_a_rate_is_for_folders_alone(media: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="a rate is for a folder of frames"):
        paint(media("cfr_24"), tmp_path, options=replace(PLAIN, rate="24"))
    with pytest.raises(ImpastoError, match="a rate is for a folder of frames"):
        video_at(str(tmp_path / "nothing.mp4"), settings_in(tmp_path), rate="24")


def test_the_command_line_takes_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMPASTO_WORK", str(tmp_path / "work"))
    folder = numbered(tmp_path / "frames", 6)
    monkeypatch.chdir(folder)
    style = ["--style", "udnie", "--quality", "fast", "--engine", "inline", "--quiet"]

    assert main(["stylize", f"{folder}/", *style, "--rate", "30000/1001"]) == 0
    target = tmp_path / "frames.udnie.mp4"
    assert watch(target).pts_s[5] == Fraction(5 * 1001, 30000)
    assert main(["stylize", ".", *style]) == 2, "it is there already"
    assert "frames.udnie.mp4' exists" in capfd.readouterr().err
    assert main(["verify", ".", str(target), "--rate", "29.97"]) == 0
    assert main(["verify", ".", str(target), "--rate", "24"]) == 1
    assert main(["probe", ".", "--rate", "24", "--json"]) == 0
    assert main(["probe", str(target), "--rate", "24"]) == 2
    assert "a video has its own" in capfd.readouterr().err


def test_notes_of_a_folder_are_told_and_told_again_on_resume(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "frames", 3)
    Image.fromarray(np.dstack([_RGB, _GREY])).save(folder / "frame_2.png")
    heard: list[Event] = []
    options = replace(PLAIN, keep=True, force=True)
    for _ in range(2):
        paint(folder, tmp_path, options=options, on_event=heard.append)
    assert heard.count(Noted("transparency is lost: the target has none")) == 2


def test_runs_clean_removes_what_no_run_reads_any_more(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    probed = video_at(str(numbered(tmp_path / "frames", 3)), settings_in(tmp_path))
    assert videos_in(tmp_path) == [probed]
    assert main(["runs", "clean", "--work", store, "--quiet"]) == 0
    assert videos_in(tmp_path) == [probed], "it is young"
    assert main(["runs", "clean", "--all", "--dry-run", "--work", store, "--quiet"]) == 0
    assert videos_in(tmp_path) == [probed]
    assert main(["runs", "clean", "--all", "--work", store, "--quiet"]) == 0
    assert videos_in(tmp_path) == []
