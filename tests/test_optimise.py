"""Pictures by optimisation: the descent, the way from frame to frame, whole runs, and stills."""

from __future__ import annotations

import builtins
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

import networks
import shared_data
from impasto.errors import RequestError, SourceRefused
from impasto.media.still import encode_jpeg, encode_png, is_still, read_still, upright
from impasto.painting import settled
from impasto.records import Event, Optimise, Progress, Report, ScorerSpec
from impasto.request import Options, Request, as_json
from impasto.run import score, stylize
from impasto.scorers.flow import optical_flow, seen_in_both, warp
from impasto.scorers.optimise import Optimiser, check_frames, open_optimiser, pack, scales
from impasto.settings import Limits
from impasto.surroundings import Ranks, Surroundings
from painting import settings_in

SIDE = 96
STEPS = 10
QUICK = Options(method="optimise", engine="inline", steps=STEPS, chunk_frames=2)


def small(name: str, side: int = SIDE) -> NDArray[np.uint8]:
    """A square from the middle of a picture of the shared data."""
    with Image.open(shared_data.path_of(name)) as picture:
        return np.asarray(ImageOps.fit(picture.convert("RGB"), (side, side)))


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    return small("weights/parity/amber.jpg")


def blobs(height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    """Soft coloured blobs, where no network has to understand them."""
    coarse = np.random.default_rng(1).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other by spinning get nowhere beside a busy suite."""
    monkeypatch.setattr("impasto.scorers.optimise.usable_cores", lambda: 1)


@pytest.fixture(scope="module")
def network() -> Path:
    return shared_data.path_of("weights/perceptual/cd16x_SE4.pth")


@pytest.fixture(scope="module")
def archive(network: Path) -> bytes:
    return archive_of(network, small("styles/starry_night.jpg"))


def archive_of(network: Path, painting: NDArray[np.uint8]) -> bytes:
    from impasto.nets.perceptual import load_perceptual

    return pack(painting, load_perceptual(network))


def optimiser(
    archive: bytes, *, strength: float = 1.0, keep_colors: bool = False, **knobs: Any
) -> Optimiser:
    spec = ScorerSpec(
        "starry",
        hashlib.sha256(archive).hexdigest(),
        strength,
        keep_colors,
        optimise=Optimise(**{"steps": STEPS, **knobs}),
    )
    return open_optimiser(spec, archive, width=SIDE, height=SIDE, threads=1)


def apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(a.astype(float) - b.astype(float)))))


# The descent


def test_the_loss_falls_from_look_to_look(archive: bytes, frame: NDArray[np.uint8]) -> None:
    scorer = optimiser(archive, steps=15)
    scorer(frame[None])
    (losses,) = scorer.losses
    assert len(losses) == 4  # before each block of five, and at the end
    assert all(after < 1.001 * before for before, after in pairwise(losses))
    assert losses[-1] < 0.5 * losses[0]


def test_two_paintings_give_two_pictures_each_in_its_own_colours(
    archive: bytes, network: Path, frame: NDArray[np.uint8]
) -> None:
    blue = optimiser(archive)(frame[None])[0]
    red = optimiser(archive_of(network, small("styles/the_scream.jpg")))(frame[None])[0]
    assert apart(blue, red) > 20
    warmth = [np.mean(each[..., 0]) - np.mean(each[..., 2]) for each in (blue, frame, red)]
    assert warmth == sorted(warmth)


def test_the_same_input_gives_the_same_bytes(archive: bytes, frame: NDArray[np.uint8]) -> None:
    assert np.array_equal(optimiser(archive)(frame[None]), optimiser(archive)(frame[None]))


def test_a_heavier_content_stays_nearer_to_the_scene(
    archive: bytes, frame: NDArray[np.uint8]
) -> None:
    loose, tight = (
        optimiser(archive, content_weight=weight)(frame[None])[0] for weight in (0.01, 5.0)
    )
    assert apart(tight, frame) < apart(loose, frame)


def test_strength_blends_and_colours_stay(archive: bytes, frame: NDArray[np.uint8]) -> None:
    frame = frame[None]
    full = optimiser(archive)(frame)
    half = optimiser(archive, strength=0.5)(frame)
    assert np.abs(half - (0.5 * full + 0.5 * frame)).max() <= 0.5 + 1e-4
    assert np.array_equal(optimiser(archive, strength=0.0)(frame), frame)
    kept = optimiser(archive, keep_colors=True)(frame).astype(float)
    inside = ((kept > 0) & (kept < 255)).all(axis=-1)
    for channel in (0, 2):  # differences to green carry no luma
        before = frame[..., channel].astype(float) - frame[..., 1]
        assert np.abs(kept[..., channel] - kept[..., 1] - before)[inside].max() <= 1.01


def test_every_step_is_told_up_to_the_whole_frame(archive: bytes, frame: NDArray[np.uint8]) -> None:
    scorer, heard = optimiser(archive), list[float]()
    scorer.on_step = heard.append
    scorer(frame[None])
    assert heard == [0.5, 1.0]


def test_large_frames_begin_small() -> None:
    assert scales(width=96, height=96) == [(96, 96)]
    assert scales(width=640, height=360) == [(180, 320), (360, 640)]
    assert scales(width=1920, height=1080) == [(135, 240), (270, 480), (540, 960), (1080, 1920)]


def test_a_cut_network_says_how_deep_it_looks(archive: bytes) -> None:
    (note,) = optimiser(archive).notes
    assert "ends at conv4_1" in note


def test_the_archive_is_the_same_for_the_same_input(archive: bytes, network: Path) -> None:
    assert archive == archive_of(network, small("styles/starry_night.jpg"))


# From frame to frame


def pan(frames: int, step: int) -> NDArray[np.uint8]:
    """A camera that moves `step` pixels a frame over a wide scene."""
    wide = small("weights/parity/amber.jpg", SIDE + frames * step)[:SIDE]
    return np.stack([wide[:, n * step : n * step + SIDE] for n in range(frames)])


def warping_error(frames: NDArray[np.uint8], painted: NDArray[np.uint8]) -> float:
    errors = []
    for now in range(1, len(frames)):
        backward = optical_flow(frames[now], frames[now - 1])
        seen = seen_in_both(backward, optical_flow(frames[now - 1], frames[now]))
        moved = warp(painted[now - 1].astype(np.float32), backward)
        errors.append(apart(painted[now][seen], moved[seen]))
    return float(np.mean(errors))


def test_the_flow_of_a_pan_is_the_pan() -> None:
    before, after = pan(2, 4)
    backward, forward = optical_flow(after, before), optical_flow(before, after)
    middle = backward[16:-16, 16:-16]
    assert np.abs(np.median(middle, axis=(0, 1)) - (4, 0)).max() < 0.2
    seen = seen_in_both(backward, forward)
    assert seen[:, :-8].mean() > 0.9
    assert seen[:, -3:].mean() < 0.1  # this has only just come into view
    assert apart(warp(before.astype(np.float32), backward)[seen], after[seen]) < 6


def test_frames_that_start_from_the_one_before_hold_stiller_than_fresh_ones(
    archive: bytes,
) -> None:
    frames = pan(3, 4)
    following = optimiser(archive)(frames)
    fresh = np.stack([optimiser(archive)(frame[None])[0] for frame in frames])
    assert np.array_equal(following[0], fresh[0])
    assert warping_error(frames, following) < 0.95 * warping_error(frames, fresh)


def test_the_temporal_weight_holds_still(archive: bytes) -> None:
    frames = pan(2, 4)
    loose, tight = (
        warping_error(frames, optimiser(archive, temporal_weight=weight)(frames))
        for weight in (0.0, 100.0)
    )
    assert tight < 0.6 * loose


def test_another_shot_starts_anew(archive: bytes, frame: NDArray[np.uint8]) -> None:
    one, other = frame, np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    after_a_cut = optimiser(archive)(np.stack([one, other]))[1]
    assert np.array_equal(after_a_cut, optimiser(archive)(other[None])[0])


def test_a_scorer_goes_on_from_the_state_of_another(archive: bytes) -> None:
    frames = pan(3, 4)
    first, second = optimiser(archive), optimiser(archive)
    through = first(frames)
    first.resume(None)
    first(frames[:2])
    second.resume(first.state())
    assert np.array_equal(second(frames[2:])[0], through[2])


# Whole runs


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("painting") / "starry.png"
    Image.fromarray(small("styles/starry_night.jpg")).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of the pan."""
    path = tmp_path_factory.mktemp("clip") / "pan.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for picture in pan(5, 4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def run(
    source: Path,
    folder: Path,
    painting: Path,
    network: Path,
    *,
    target: Path | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    **options: Any,
) -> Report:
    return stylize(
        source,
        style=str(painting),
        target=target,
        options=replace(QUICK, perceptual=str(network), **options),
        settings=settings_in(folder),
        on_event=on_event,
    )


def test_a_clip_is_painted_and_proven(
    clip: Path, painting: Path, network: Path, tmp_path: Path
) -> None:
    heard: list[Event] = []
    report = run(
        clip, tmp_path, painting, network, target=tmp_path / "out.mp4", on_event=heard.append
    )
    assert report.verified
    assert (report.frames, report.scorer, report.runtime) == (5, "starry", "pytorch")
    assert report.chunks.total == 3
    assert any("ends at conv4_1" in note for note in report.notes)
    assert any(isinstance(event, Progress) and 0 < event.of_next < 1 for event in heard)


def test_a_run_that_is_broken_off_goes_on_to_the_same_bytes(
    clip: Path, painting: Path, network: Path, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    run(clip, tmp_path / "a", painting, network, target=whole)

    class Stop(Exception):  # noqa: N818
        pass

    chunks = []

    def stop(event: Event) -> None:
        if type(event).__name__ == "Done":
            chunks.append(event)
            raise Stop

    with pytest.raises(Stop):
        run(clip, tmp_path / "b", painting, network, target=resumed, on_event=stop)
    report = run(clip, tmp_path / "b", painting, network, target=resumed)
    assert (len(chunks), report.chunks.reused) == (1, 1)
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_run_is_gone_on_with_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vgg.pth").write_bytes(b"")
    for asked, kept in (("vgg.pth", str(tmp_path / "vgg.pth")), ("vgg19", "vgg19"), (None, None)):
        options = Options(method="optimise", perceptual=asked)
        request = Request(Path("a.mp4"), None, ScorerSpec("starry", "0" * 64), {}, options)
        assert as_json(request, Path("b.mp4"))["options"]["perceptual"] == kept


def test_every_setting_makes_another_run(
    clip: Path, painting: Path, network: Path, tmp_path: Path
) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def id_of(**options: Any) -> str:
        found = []

        def stop(event: Event) -> None:
            if type(event).__name__ == "Planned":
                found.append(event.run_id)  # type: ignore[union-attr]
                raise Stop

        with pytest.raises(Stop):
            run(clip, tmp_path, painting, network, target=tmp_path / "x.mp4", on_event=stop,
                **options)  # fmt: skip
        return str(found[0])

    changes: list[dict[str, Any]] = [
        {}, {"steps": 9}, {"style_weight": 2.0}, {"content_weight": 0.1}, {"temporal_weight": 1.0},
        {"painting_size": 80},
    ]  # fmt: skip
    assert len({id_of(**change) for change in changes}) == len(changes)


# What can't be done is said in one line


def test_a_missing_network_says_where_to_get_it(painting: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no perceptual network at .*gone\.pth"):
        run(clip, tmp_path, painting, tmp_path / "gone.pth")
    with pytest.raises(RequestError, match=r"fetch https://.*vgg19.*--perceptual"):
        stylize(clip, style=str(painting), options=QUICK, settings=settings_in(tmp_path))


def test_a_name_is_no_painting(clip: Path, network: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'starry_night' is none; give --style painting\.jpg"):
        run(clip, tmp_path, Path("starry_night"), network)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps must be within 1 and 5000, got 0"),
        ({"style_weight": -1.0}, "--style-weight must be a number from 0 up"),
        ({"content_weight": float("nan")}, "--content-weight must be a number from 0 up"),
        ({"style_weight": 0.0, "content_weight": 0.0}, "can't both be 0"),
        ({"painting_size": 10}, "--painting-size must be within 64 and 2048, got 10"),
    ],
)
def test_a_setting_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        settled(replace(QUICK, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "1 worker, got 2"),
        ({"precision": "bf16"}, "computes in f32, got bf16"),
    ],
)
def test_what_does_not_go_with_the_method_is_refused(
    options: dict[str, Any], message: str, clip: Path, painting: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=message):
        run(clip, tmp_path, painting, Path("x"), **options)


def test_ranks_and_plain_paintings_are_refused(clip: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (64, 64), (10, 20, 30)).save(plain)
    settings = settings_in(tmp_path)
    with pytest.raises(RequestError, match="one plain colour"):
        stylize(clip, style=str(plain), options=QUICK, settings=settings)
    ranks = replace(settings, surroundings=Surroundings(ranks=Ranks(0, 4, 0)))
    with pytest.raises(RequestError, match="without mpiexec"):
        stylize(clip, style=str(plain), options=replace(QUICK, engine=None), settings=ranks)


def test_a_pipe_is_no_picture_and_stays_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_still(tmp_path / "pipe")


def test_its_settings_are_refused_where_a_network_paints(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--steps belongs to --method optimise"):
        stylize(clip, style="any", options=Options(steps=5), settings=settings_in(tmp_path))


def test_without_its_packages_the_extra_is_named(
    archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "cv2":
            raise ImportError(name="cv2")
        return there(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(RequestError, match=r"needs: pip install 'impasto\[optimise\]' \(cv2 "):
        optimiser(archive)


def test_frames_that_will_not_fit_are_refused_with_a_size_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("impasto.scorers.optimise.free_memory_bytes", lambda: 2_000_000_000)
    check_frames(640, 360)
    with pytest.raises(RequestError, match=r"12\.4 GB of memory, and 2\.0 GB .* --size 4\d\dp"):
        check_frames(1920, 1080)
    with pytest.raises(RequestError, match="needs frames of 32 pixels a side, got 640x16"):
        check_frames(640, 16)


# Pictures in, pictures out


@pytest.mark.parametrize(
    ("suffix", "written"),
    [("jpg", "jpg"), ("png", "png"), ("webp", "png"), ("bmp", "png"), ("tif", "png")],
)
def test_a_picture_is_painted_beside_itself(
    suffix: str, written: str, painting: Path, network: Path, tmp_path: Path
) -> None:
    photo = tmp_path / f"photo.{suffix}"
    Image.fromarray(blobs()).save(photo)
    report = run(photo, tmp_path, painting, network, chunk_frames=None)
    target = tmp_path / f"photo.starry.{written}"
    assert report.target == str(target)
    assert (report.frames, report.verified) == (1, True)
    assert {check.name for check in report.checks} == {"frame_count", "display_size", "pixels"}
    with Image.open(target) as made:
        assert made.size == (SIDE, SIDE)
        assert apart(np.asarray(made.convert("RGB")), blobs()) > 10
    with pytest.raises(RequestError, match="exists; force overwrites it"):
        run(photo, tmp_path, painting, network, chunk_frames=None)


def test_a_network_paints_pictures_too(tmp_path: Path) -> None:
    photo, model = tmp_path / "photo.png", tmp_path / "invert.onnx"
    picture = blobs(40, 64)
    Image.fromarray(picture).save(photo)
    model.write_bytes(networks.invert())
    options = Options(precision="f32")
    report = score(photo, model=model, options=options, settings=settings_in(tmp_path))
    with Image.open(report.target) as made:
        assert np.array_equal(np.asarray(made), 255 - picture)
    target = tmp_path / "small.jpg"
    report = score(photo, model=model, target=target, settings=settings_in(tmp_path),
                   options=replace(options, size="20p"))  # fmt: skip
    with Image.open(target) as made:
        assert made.size == (32, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_a_picture_is_read_as_it_is_viewed(orientation: int, kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    Image.fromarray(blobs(48, 64)).save(path, exif=exif, quality=95)
    with Image.open(path) as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    found = upright(*read_still(path))
    assert found.shape == wanted.shape
    assert apart(found, wanted) < 3


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "1", "CMYK"])
def test_every_kind_of_pixel_becomes_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("odd.jpg" if mode == "CMYK" else "odd.png")
    picture = Image.fromarray(blobs()).convert(mode)
    picture.save(path)
    with Image.open(path) as opened:
        assert apart(upright(*read_still(path)), np.asarray(opened.convert("RGB"))) < 3


def test_what_is_written_is_what_was_painted(tmp_path: Path) -> None:
    picture = blobs(37, 53)
    for name, data, least in (
        ("a.png", encode_png(picture), 0),
        ("a.jpg", encode_jpeg(picture), 2),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with Image.open(path) as opened:
            assert apart(np.asarray(opened), picture) <= least
        assert apart(upright(*read_still(path)), picture) <= least


def test_bad_pictures_are_refused_in_one_line(tmp_path: Path) -> None:
    good = encode_jpeg(blobs())
    path = tmp_path / "bad.jpg"
    for data in (b"", b"hello", good[: len(good) // 2], b"\xff\xd8\xff" + bytes(500)):
        path.write_bytes(data)
        with pytest.raises(SourceRefused, match=r"bad\.jpg") as refused:
            read_still(path)
        assert "\n" not in str(refused.value)
    path.write_bytes(good)
    assert is_still(path)
    with pytest.raises(SourceRefused, match=r"100 pixels \(max_pixels\)"):
        read_still(path, Limits(max_pixels=100))
    with pytest.raises(SourceRefused, match="no such file"):
        read_still(tmp_path / "missing.jpg")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("out.mp4", {}, "a picture becomes a .png or .jpg file"),
        ("out.png", {"start": "1"}, "start is for videos"),
        ("out.png", {"codec": "av1"}, "codec is for videos"),
        ("out.png", {"device": "cuda:0"}, "device 'cuda:0' is not supported"),
        ("out.png", {"size": "16384x16384"}, "over the limit of"),
    ],
)
def test_a_picture_is_no_video(
    target: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    photo, model = tmp_path / "photo.png", tmp_path / "invert.onnx"
    Image.fromarray(blobs()).save(photo)
    model.write_bytes(networks.invert())
    with pytest.raises(RequestError, match=message):
        score(photo, model=model, target=tmp_path / target, options=Options(**options),
              settings=settings_in(tmp_path))  # fmt: skip
    assert not (tmp_path / target).exists()
