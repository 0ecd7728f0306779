"""The evaluation of styles: what costs nothing costs nothing, and worse scores worse."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
Image = pytest.importorskip(
    "PIL.Image", reason="training needs pillow: pip install 'impasto[train]'"
)

from impasto.errors import RequestError  # noqa: E402 - after the skips above
from impasto.nets.painter import Painter, PainterConfig, plain_style  # noqa: E402
from impasto.nets.texture import texture  # noqa: E402
from impasto.nets.transformer import TransformerNet  # noqa: E402
from impasto.records import Frames  # noqa: E402
from impasto.styles.vectors import bind_style, mix  # noqa: E402
from impasto.train.candidates import Candidate, open_candidates, read_painters  # noqa: E402
from impasto.train.evaluate import main  # noqa: E402
from impasto.train.evaluation import (  # noqa: E402
    Evaluation,
    Eye,
    Score,
    evaluate,
    open_eye,
    painting_itself,
    scene_of,
    tensor_of,
)
from impasto.train.measures import (  # noqa: E402
    border,
    colour,
    flicker,
    gram_distance,
    pan_warping,
    shifted,
    spectrum,
    weave_peak,
    weave_share,
)
from impasto.train.shots import PANS, Setting, Shots, make_shots  # noqa: E402
from impasto.train.squeezenet import load_squeezenet  # noqa: E402

SMALL = Setting(size_px=96, painting_px=100, count=2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def a_picture(seed: int, width: int = 160, height: int = 128) -> Frames:
    """A smooth picture of many colours, (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(large)


def small_vgg(path: Path) -> Path:
    """A VGG-19 of random weights, narrow and cut short, with torchvision's keys."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for index, (inputs, outputs) in {0: (3, 8), 2: (8, 8), 5: (8, 12)}.items():
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (3 * inputs**0.5)
        state[f"features.{index}.weight"] = weight
        state[f"features.{index}.bias"] = torch.zeros(outputs)
    torch.save(state, path)
    return path


def small_squeezenet(path: Path) -> Path:
    """A SqueezeNet of random weights with two channels per part and torchvision's keys."""
    generator = torch.Generator().manual_seed(2)
    state = {"features.0.weight": torch.randn(4, 3, 3, 3, generator=generator) / 5}
    state["features.0.bias"] = torch.zeros(4)
    for index in (3, 4, 6, 7, 9, 10, 11, 12):
        for part, (outputs, inputs, side) in {
            "squeeze": (2, 4, 1), "expand1x1": (2, 2, 1), "expand3x3": (2, 2, 3),
        }.items():  # fmt: skip
            weight = torch.randn(outputs, inputs, side, side, generator=generator)
            state[f"features.{index}.{part}.weight"] = weight
            state[f"features.{index}.{part}.bias"] = torch.full((outputs,), 0.1)
    torch.save(state, path)
    return path


@pytest.fixture
def eye(tmp_path: Path) -> Eye:
    return open_eye(small_vgg(tmp_path / "vgg.pth"))


@pytest.fixture
def shots() -> list[Shots]:
    return [
        make_shots(Image.fromarray(a_picture(seed)), SMALL, np.random.default_rng(seed))
        for seed in (3, 4)
    ]


def unchanged(frames: Frames) -> Frames:
    return frames


def blurred(frames: Frames) -> Frames:
    x = frames.astype(np.float64)
    for axis in (1, 2):
        x = (np.roll(x, 1, axis) + 2 * x + np.roll(x, -1, axis)) / 4
    return np.rint(x).astype(np.uint8)


def amplified(frames: Frames) -> Frames:
    """Everything that a blur takes away, four times over: noise above all."""
    x, smooth = frames.astype(np.float64), blurred(frames).astype(np.float64)
    return np.clip(np.rint(smooth + 4 * (x - smooth)), 0, 255).astype(np.uint8)


def figures(score: Score, shots: list[Shots], eye: Eye) -> Evaluation:
    return evaluate(score, [scene_of(each, [eye]) for each in shots], [eye], SMALL)


def test_what_changes_nothing_has_no_content_loss(shots: list[Shots], eye: Eye) -> None:
    found = figures(unchanged, shots, eye)
    assert set(found.content) == set(found.content_grey) == {"vgg19"}
    assert set(found.content.values()) == set(found.content_grey.values()) == {0.0}
    assert figures(blurred, shots, eye).content["vgg19"] > 0


def test_what_changes_nothing_moves_no_more_than_the_camera_noise(
    shots: list[Shots], eye: Eye
) -> None:
    found = figures(unchanged, shots, eye)
    assert found.tripod_levels.mean == pytest.approx(SMALL.noise_levels, rel=0.05)
    for name in PANS:
        deviations = [np.sqrt(each.pans[name].var(axis=(1, 2)).mean()) for each in shots]
        # The noise of two frames, and a little rounding.
        least = np.mean([2**0.5 * SMALL.noise_levels / deviation for deviation in deviations])
        assert found.pans_relative[name].mean == pytest.approx(least, rel=0.05)
        noise = 2 * (SMALL.noise_levels / 255) ** 2
        assert found.pans[name].mean == pytest.approx(noise, rel=0.05)


def test_a_noise_amplifier_scores_worse_than_a_blur(shots: list[Shots], eye: Eye) -> None:
    noisy, calm = figures(amplified, shots, eye), figures(blurred, shots, eye)
    assert noisy.tripod_levels.mean > 3 * calm.tripod_levels.mean
    for name in PANS:
        assert noisy.pans[name].mean > 9 * calm.pans[name].mean
    assert noisy.plain["night noise"].deviation > 3 * calm.plain["night noise"].deviation


def test_a_pattern_locked_to_the_screen_is_a_warping_error(shots: list[Shots], eye: Eye) -> None:
    grid = (np.indices((96, 96)).sum(axis=0) % 4 < 2)[None, :, :, None] * np.uint8(40)
    calm = figures(unchanged, shots, eye)
    stuck = figures(lambda frames: (frames // 2 + grid).astype(np.uint8), shots, eye)
    assert stuck.pans_relative["pan_3_px"].mean > calm.pans_relative["pan_3_px"].mean + 0.3
    assert stuck.tripod_levels.mean < calm.tripod_levels.mean  # a still shot does not show it


def test_a_painting_has_no_distance_to_itself(eye: Eye) -> None:
    picture = tensor_of(a_picture(5)[None])
    whole, _ = painting_itself(picture, [eye], SMALL)
    for key, again in eye.textures(picture).items():
        for centred in (False, True):
            assert gram_distance(again, whole[key], centred=centred) == 0


def test_a_blank_is_one_away_from_a_painting() -> None:
    generator = torch.Generator().manual_seed(3)
    painting = texture(torch.rand(1, 4, 8, 8, generator=generator))
    blank = texture(torch.zeros(1, 4, 8, 8))
    assert gram_distance(blank, painting) == pytest.approx(1)


def test_a_painting_smaller_than_a_square_is_refused(eye: Eye) -> None:
    with pytest.raises(RequestError, match="painting_px must be at least size_px, 96, got 64"):
        painting_itself(torch.zeros(1, 3, 64, 200), [eye], SMALL)


@pytest.mark.parametrize("step", [(3.0, 0.0), (0.0, -2.0)])
def test_a_shift_by_whole_pixels_is_exact(step: tuple[float, float]) -> None:
    picture = a_picture(6)[None].astype(np.float64)
    rolled = np.roll(picture, (-int(step[1]), -int(step[0])), axis=(1, 2))
    assert np.allclose(shifted(picture, step)[:, 4:-4, 4:-4], rolled[:, 4:-4, 4:-4])


def test_two_half_shifts_are_a_whole_one() -> None:
    picture = a_picture(6)[None].astype(np.float64)
    half = shifted(shifted(picture, (0.5, 0.5)), (0.5, 0.5))
    whole = shifted(picture, (1.0, 1.0))
    assert np.abs(half - whole)[:, 16:-16, 16:-16].max() < 0.5


def test_still_frames_do_not_flicker() -> None:
    frames = np.repeat(a_picture(7)[None], 3, axis=0)
    assert flicker(frames) == 0
    assert pan_warping(frames, (0.0, 0.0)).mse == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_weave_is_found_at_its_own_period(period: int) -> None:
    scenes = [a_picture(seed, 96, 96)[None] for seed in range(4)]
    rng = np.random.default_rng(0)
    grainy = [
        np.clip(scene * 0.6 + 40 + rng.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)
        for scene in scenes
    ]
    lines = (np.arange(96) % period < period / 2) * np.uint8(12)
    woven = [scene + lines[None, None, :, None] for scene in grainy]
    without, with_weave = spectrum(grainy), spectrum(woven)
    assert weave_peak(without, period) < 3
    assert weave_peak(with_weave, period) > 10
    assert weave_share(with_weave, period) > 2 * weave_share(without, period)


def test_a_period_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="96 pixels don't hold whole periods of 5"):
        weave_peak(spectrum([a_picture(1, 96, 96)[None]]), 5)


def test_a_dark_frame_around_a_picture_is_seen() -> None:
    picture = a_picture(8, 96, 96)[None].copy()
    plain = border(picture)
    picture[:, :8] = picture[:, -8:] = picture[:, :, :8] = picture[:, :, -8:] = 0
    framed = border(picture)
    assert framed.brighter < plain.brighter - 50
    assert framed.contrast != pytest.approx(plain.contrast, rel=0.1)


def test_colour_tells_grey_from_red() -> None:
    grey = colour(np.full((1, 8, 8, 3), 90, np.uint8))
    assert (grey.mean, grey.saturation, grey.deviation) == ((90.0, 90.0, 90.0), 0, 0)
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    assert colour(red).saturation == 200


def test_squeezenet_halves_where_it_should(tmp_path: Path) -> None:
    net = load_squeezenet(small_squeezenet(tmp_path / "squeezenet.pth"))
    assert net is not None
    found = net(torch.zeros(1, 3, 65, 65), ("conv1", "fire3", "fire5", "fire9"))
    assert [tuple(x.shape[1:]) for x in found.values()] == [
        (4, 32, 32), (4, 16, 16), (4, 8, 8), (4, 4, 4),
    ]  # fmt: skip
    assert load_squeezenet(small_vgg(tmp_path / "vgg.pth")) is None


def test_the_setting_refuses_sizes_that_hold_no_whole_weaves() -> None:
    with pytest.raises(RequestError, match="size_px must be a multiple of 8"):
        Setting(size_px=100)
    with pytest.raises(RequestError, match="count must be positive, got 0"):
        Setting(count=0)


def a_checkpoint(path: Path) -> Path:
    """The checkpoint of a training of two styles and, last, an identity."""
    torch.manual_seed(0)
    config = PainterConfig(channels=8, head_channels=8)
    styles = plain_style(config).repeat(3, 1) + torch.rand(3, config.style_size)
    path.parent.mkdir(exist_ok=True)
    torch.save({"learned": Painter(config).state_dict() | {"styles": styles}}, path)
    return path


def test_a_row_of_a_checkpoint_paints_as_the_trained_network_does(tmp_path: Path) -> None:
    checkpoint = a_checkpoint(tmp_path / "trial" / "checkpoint.pt")
    (candidate,) = open_candidates([f"{checkpoint}#1"])
    assert candidate.name == "trial#1"
    learned = torch.load(checkpoint, weights_only=True)["learned"]
    style = learned.pop("styles")[1:2]
    net = Painter(PainterConfig(channels=8, head_channels=8))
    net.load_state_dict(learned)
    frames = a_picture(2, 64, 48)[None]
    with torch.no_grad():
        exact = net(tensor_of(frames), style).clamp(0, 255)
    wanted = exact.permute(0, 2, 3, 1).numpy()
    assert np.abs(candidate(frames).astype(np.float32) - wanted).max() < 0.6


def test_strengths_come_by_pixels_and_by_vectors(tmp_path: Path) -> None:
    checkpoint = a_checkpoint(tmp_path / "trial" / "checkpoint.pt")
    found = {each.name: each for each in open_candidates([f"{checkpoint}#0"], strengths=[0.5])}
    assert list(found) == ["trial#0", "trial#0@0.5", "trial#0~0.5"]
    frames = a_picture(2, 64, 48)[None]
    painted, by_pixels = (found[name](frames).astype(int) for name in ("trial#0", "trial#0@0.5"))
    assert np.abs(by_pixels - (painted + frames) / 2).max() <= 1
    network, vectors = read_painters(checkpoint)
    halfway = mix({"a": vectors[0], "b": vectors[2]}, {"a": 0.5, "b": 0.5})
    wanted = Candidate("halfway", bind_style(network, halfway))
    assert np.array_equal(found["trial#0~0.5"](frames), wanted(frames))


def test_published_checkpoints_can_be_compared(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(TransformerNet(width=4).state_dict(), tmp_path / "candy.pth")
    full, half = open_candidates([str(tmp_path / "candy.pth"), f"{tmp_path / 'candy.pth'}@0.5"])
    assert (full.name, half.name) == ("candy", "candy@0.5")
    assert full.spec.model == half.spec.model
    assert full(a_picture(1, 32, 32)[None]).shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trial/checkpoint.pt#3"], "has 3 style vectors, counted from 0; got #3"),
        (["blots.pt#0"], "cannot be read"),
        (["gone.onnx"], "can't be read"),
        (["gone.pth"], "no checkpoint at"),
        (["trial/checkpoint.pt#1"] * 2, "needs different names"),
        (["trial/checkpoint.pt#1@1.5"], "strength must be within 0..1"),
    ],
)
def test_a_candidate_that_cannot_be_used_is_one_line(
    tmp_path: Path, words: list[str], message: str
) -> None:
    a_checkpoint(tmp_path / "trial" / "checkpoint.pt")
    (tmp_path / "blots.pt").write_bytes(b"blots")
    with pytest.raises(RequestError, match=message):
        open_candidates([str(tmp_path / word) for word in words])


def test_the_command_prints_json_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tmp_path / "content"
    content.mkdir()
    for seed, name in enumerate("abc"):
        Image.fromarray(a_picture(seed)).save(content / f"{name}.png")
    Image.fromarray(a_picture(9)).save(tmp_path / "painting.png")
    checkpoint = a_checkpoint(tmp_path / "trial" / "checkpoint.pt")
    eyes = [small_vgg(tmp_path / "vgg.pth"), small_squeezenet(tmp_path / "squeezenet.pth")]
    code = main(
        [
            f"{checkpoint}#0", f"{checkpoint}#1", "--content", str(content), "--count", "2",
            "--painting", str(tmp_path / "painting.png"), "--size-px", "64", "--painting-px",
            "100", "--against", "trial#1", "--perceptual", *map(str, eyes),
        ]
    )  # fmt: skip
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert code == 0
    assert report["photographs"] == ["b.png", "c.png"]
    assert list(report["candidates"]) == ["source", "trial#0", "trial#1"]
    assert set(report["sha256"]) == {"trial#0", "trial#1"}
    assert set(report["painting"]) == {"name", "gram", "strokes", "weave_peak", "weave_share"}
    for figure in report["candidates"].values():
        assert set(figure["gram"]) == set(report["painting"]["gram"])
        assert set(figure["style"]) == set(figure["content"]) == {"vgg19", "squeezenet"}
        assert set(figure["pans"]) == set(PANS)
        assert set(figure["pans"]["pan_3_px"]) == {"mean", "least", "most"}
        assert set(figure["weave_peak"]) == {"2", "4", "8"}
        assert set(figure["plain"]) == {"black", "grey", "white", "night noise", "dark scenes"}
    assert report["summary"]["source"]["content loss, vgg19"] == 0
    assert report["summary"]["source"]["tripod, over the source's"] == 1
    layers = [v for k, v in report["candidates"]["trial#0"]["gram"].items() if "vgg19" in k]
    style = report["summary"]["trial#0"]["style loss, vgg19"]
    assert style == pytest.approx(np.mean(layers), rel=1e-3)
    short, whole = printed.err.split("\n\n")
    assert short.split("\n")[0].split() == ["source", "trial#0", "trial#1"]
    assert short.count("(1.00x)") >= 5
    assert whole.splitlines()[0].split() == ["painting", "source", "trial#0", "trial#1"]


def test_an_unknown_style_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "content").mkdir()
    Image.fromarray(a_picture(0)).save(tmp_path / "content" / "a.png")
    vgg = str(small_vgg(tmp_path / "vgg.pth"))
    code = main(
        ["nobody", "--content", str(tmp_path / "content"), "--perceptual", vgg, "--size-px", "64"]
    )
    assert code == 2
    assert capsys.readouterr().err.startswith("no style 'nobody'")


def test_two_perceptual_networks_of_a_kind_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vgg = str(small_vgg(tmp_path / "vgg.pth"))
    code = main(["starry_night", "--content", str(tmp_path), "--perceptual", vgg, vgg])
    assert code == 2
    assert "must be of different kinds, got vgg.pth (vgg19)" in capsys.readouterr().err
