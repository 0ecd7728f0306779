"""The contact sheet: real scenes, every style and strength, legible, whole or not at all."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import networks
from cli_fakes import a_source
from impasto.errors import RequestError
from impasto.media.lettering import draw_text, fit, line_height, text_width
from impasto.media.scenes import Activity, choose_frames, cut_scenes
from impasto.media.still import encode_png, resize
from impasto.preview import PreviewReport, clock, preview, tile_size
from impasto.settings import Settings
from impasto.styles import import_checkpoint

Media = Callable[[str], Path]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("preview")
    for name, model in (("inverted", networks.invert()), ("flat", networks.constant(60))):
        path = folder / f"{name}.onnx"
        path.write_bytes(model)
        import_checkpoint(path, name=name, user_styles=folder / "styles")
    return Settings(user_styles=folder / "styles", system_store="")


def make(source: Path, target: Path, settings: Settings, **options: object) -> PreviewReport:
    asked = {"styles": ["inverted", "flat"], "strengths": [0.5, 1.0]} | options
    return preview(source, target=target, settings=settings, **asked)  # type: ignore[arg-type]


def read_png(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def steps(*cuts: int, frames: int, movement: float = 1.0) -> Activity:
    change = np.full(frames, movement, np.float32)
    change[[0, *cuts]] = [0, *[60.0] * len(cuts)]
    return Activity(change, np.arange(frames, dtype=np.float32) % 7)


def test_a_sheet_shows_every_frame_in_every_style_and_strength(
    media: Media, tmp_path: Path, settings: Settings
) -> None:
    target = tmp_path / "sheet.png"
    report = make(media("cfr_24"), target, settings, frames=2)
    sheet = read_png(target)
    assert sheet.shape == (report.height, report.width, 3)
    assert len(report.frames) == len(report.times_s) == 2
    assert list(report.frames) == sorted(report.frames)
    # "flat" at full strength paints 60 everywhere: one tile for each frame.
    flat = (np.abs(sheet.astype(int) - 60) <= 2).all(axis=2)
    tile_width, tile_height = 613, 345
    assert flat.sum() == pytest.approx(2 * tile_width * tile_height, rel=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_given_moment_takes_the_place_of_the_scenes(
    media: Media, tmp_path: Path, settings: Settings
) -> None:
    report = make(media("cfr_24"), tmp_path / "sheet.png", settings, at="0.5", styles=["flat"])
    assert report.frames == (12,)
    assert report.times_s == (0.5,)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"styles": []}, "at least one style"),
        ({"styles": ["nobody"]}, "no style 'nobody'"),
        ({"strengths": [2.0]}, "within 0 and 1"),
        ({"frames": 0}, "frames must be"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    media: Media, tmp_path: Path, settings: Settings, wrong: dict[str, object], word: str
) -> None:
    with pytest.raises(RequestError, match=word) as caught:
        make(media("cfr_24"), tmp_path / "sheet.png", settings, **wrong)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_sheet_is_not_overwritten_unless_forced(
    media: Media, tmp_path: Path, settings: Settings
) -> None:
    target = tmp_path / "sheet.png"
    target.write_bytes(b"mine")
    with pytest.raises(RequestError, match="force overwrites it"):
        make(media("cfr_24"), target, settings)
    assert target.read_bytes() == b"mine"
    make(media("cfr_24"), target, settings, styles=["flat"], frames=1, force=True)
    assert read_png(target).size


def test_cuts_are_found_where_the_picture_changes_at_once() -> None:
    assert cut_scenes(steps(30, 75, frames=120)) == [(0, 30), (30, 75), (75, 120)]


def test_steady_movement_is_no_cut_however_fast() -> None:
    assert cut_scenes(steps(frames=60, movement=40.0)) == [(0, 60)]


def test_each_of_the_longest_scenes_gives_one_frame() -> None:
    chosen = choose_frames(steps(30, 75, 90, frames=140), 3)
    assert len(chosen) == 3
    assert 0 <= chosen[0] < 30
    assert 30 <= chosen[1] < 75
    assert 90 <= chosen[2] < 140


def test_one_long_scene_is_split_to_give_as_many_frames_as_asked() -> None:
    chosen = choose_frames(steps(frames=90), 3)
    assert len(set(chosen)) == 3
    assert choose_frames(steps(frames=2), 5) == [0, 1]


def test_a_fade_does_not_stand_for_its_scene() -> None:
    contrast = np.concatenate([np.linspace(0, 50, 20), np.full(40, 50), np.linspace(50, 0, 20)])
    activity = Activity(np.ones(80, np.float32), contrast.astype(np.float32))
    (chosen,) = choose_frames(activity, 1)
    assert contrast[chosen] == 50


def test_text_is_as_wide_as_it_says_and_leaves_the_rest_alone() -> None:
    picture = np.full((60, 400, 3), 255, np.uint8)
    text = "Ärger & 日本 – 0.5×"
    draw_text(picture, text, left=20, top=10, size_px=16, color=(0, 0, 0))
    inked = np.nonzero((picture < 128).any(axis=(0, 2)))[0]
    assert inked[0] >= 20
    assert inked[-1] <= 20 + text_width(text, 16)
    rows = np.nonzero((picture < 128).any(axis=(1, 2)))[0]
    assert rows[0] >= 10
    assert rows[-1] <= 10 + line_height(16)


def test_letters_differ_from_each_other() -> None:
    drawn = set()
    for letter in map(chr, range(33, 127)):
        picture = np.zeros((40, 40, 3), np.uint8)
        draw_text(picture, letter, left=4, top=4, size_px=20, color=(255, 255, 255))
        assert picture.any(), letter
        drawn.add(picture.tobytes())
    assert len(drawn) == 127 - 33


def test_a_long_name_is_shortened_in_its_middle() -> None:
    short = fit("a-very-long-name-of-a-film-that-goes-on.mp4", 10, 160)
    assert "…" in short
    assert short.endswith("4")
    assert text_width(short, 10) <= 160


def test_a_png_holds_the_very_pixels(tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(encode_png(picture))
    assert np.array_equal(read_png(tmp_path / "a.png"), picture)


def test_a_flat_picture_stays_flat_when_it_is_resized() -> None:
    small = resize(np.full((90, 160, 3), 77, np.uint8), width=41, height=23)
    assert small.shape == (23, 41, 3)
    assert np.abs(small.astype(int) - 77).max() <= 1


def test_tiles_have_the_shape_that_a_player_shows() -> None:
    tall = a_source()  # 640x360, turned by 90 degrees
    assert tile_size(tall, 3) == (345, 613)
    wide = replace(tall, rotation=0, sample_aspect_ratio=Fraction(4, 3))
    assert tile_size(wide, 4) == (460, 194)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(Fraction(3, 2), "0:01.5"), (Fraction(59999, 1000), "1:00.0"), (3723, "1:02:03.0")],
)
def test_times_read_as_on_a_clock(seconds: Fraction, written: str) -> None:
    assert clock(Fraction(seconds)) == written


def test_a_still_frame_stands_for_a_restless_scene() -> None:
    change = np.full(40, 12, np.float32)
    change[22:25] = 0.5
    (chosen,) = choose_frames(Activity(change, np.full(40, 50, np.float32)), 1)
    assert chosen in {22, 23}
