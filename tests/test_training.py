"""Training: it learns, it resumes exactly, what it exports is what it trained."""

import dataclasses
import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
Image = pytest.importorskip(
    "PIL.Image", reason="training needs pillow: pip install 'impasto[train]'"
)

from torch import nn  # noqa: E402

from impasto.errors import RequestError  # noqa: E402 - after the skips above
from impasto.nets.export import INPUT, export_onnx  # noqa: E402
from impasto.nets.painter import MULTIPLE_OF, Painter, PainterConfig  # noqa: E402
from impasto.nets.tiny import TinyNet, load_variables  # noqa: E402
from impasto.nets.transformer import TransformerNet  # noqa: E402
from impasto.train import About, Judges, Rhythm, TrainConfig, TrainedStyle, train_style  # noqa: E402
from impasto.train.__main__ import main  # noqa: E402
from impasto.train.data import open_photographs  # noqa: E402
from impasto.train.loop import Judge, Trainer, run  # noqa: E402
from impasto.train.losses import load_perceptual, style_loss, texture  # noqa: E402

DATA = Path(os.environ.get("IMPASTO_DATA", Path(__file__).parents[2] / "shared" / "data"))
STYLES = Path(__file__).parents[1] / "src" / "impasto" / "styles"
SMALL = TrainConfig(
    iterations=40,
    batch=2,
    crop_px=32,
    painting_px=48,
    painting_inset=0.0,
    painting_soften=1.0,
    style_layers=("1_1", "1_2", "2_1"),
    content_layer="2_1",
    style_weight=20.0,
    content_weight=1.0,
    variation_weight=1.0,
    stillness_weight=20.0,
    stillness_begins=0.5,
    learning_rate=5e-3,
    warm_up=1,
    half_precision=False,
    network=PainterConfig(channels=8, head_channels=8, dilations=(1,)),
)
ABOUT = About("dots", "Dots", "A. Painter", "1900", "drawn here", "public domain")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads differ in the last bit, and so would a resumed training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """A painting, a folder with two photographs, and a VGG-19 of random weights, cut short."""
    rng = np.random.default_rng(7)
    content = tmp_path / "content"
    content.mkdir()
    for name in ("a.png", "b.png"):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(content / name)
    stripes = np.zeros((60, 60, 3), np.uint8)
    stripes[::6] = stripes[1::6] = (250, 180, 20)
    stripes[3::6] = (20, 40, 200)
    Image.fromarray(stripes).save(tmp_path / "painting.png")
    generator = torch.Generator().manual_seed(1)
    state = {}
    for index, (inputs, outputs) in {0: (3, 8), 2: (8, 8), 5: (8, 12)}.items():
        scale = (2 / (9 * inputs)) ** 0.5
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator) * scale
        state[f"features.{index}.weight"] = weight
        state[f"features.{index}.bias"] = torch.zeros(outputs)
    torch.save(state, tmp_path / "vgg.pth")
    return tmp_path


OFTEN = Rhythm(log_every=1, checkpoint_every=10, sample_every=20)


def train(
    studio: Path,
    target: str,
    config: TrainConfig = SMALL,
    *,
    report: Callable[[str], None] = lambda line: None,
    start: Path | None = None,
) -> TrainedStyle:
    return train_style(
        studio / "painting.png",
        studio / "content",
        studio / target,
        config,
        about=ABOUT,
        judges=Judges((studio / "vgg.pth",), (studio / "content" / "a.png",)),
        today=dt.date(2026, 11, 21),
        start=start,
        rhythm=OFTEN,
        report=report,
    )


def losses_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_the_style_is_whole(studio: Path) -> None:
    style = train(studio, "out")
    totals = [entry["style"] for entry in losses_of(style.folder)]
    assert len(totals) == SMALL.iterations
    assert np.mean(totals[-5:]) < 0.85 * totals[0]
    assert losses_of(style.folder)[-1]["stillness"] > 0
    assert (style.folder / "samples" / "000040-a.png").exists()
    card = json.loads((style.folder / "card.json").read_text())
    model = (style.folder / card["qualities"]["balanced"]).read_bytes()
    assert card["sha256"] == hashlib.sha256(model).hexdigest()
    assert card["bytes"] == len(model)
    assert card["trained"]["date"] == "2026-11-21"
    assert not list(style.folder.glob("*.partial"))


def trainer_of(studio: Path, config: TrainConfig = SMALL) -> Trainer:
    judge = Judge([load_perceptual(studio / "vgg.pth")], torch.full((1, 3, 48, 48), 99.0), config)
    photographs = open_photographs(studio / "content", lambda line: None)
    return Trainer(config, judge, photographs, identity="the same")


def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(studio: Path) -> None:
    through = trainer_of(studio)
    for _ in range(24):
        through.step()

    first = trainer_of(studio)
    for _ in range(13):
        first.step()
    first.save(studio / "checkpoint.pt")
    second = trainer_of(studio)
    second.load(studio / "checkpoint.pt")
    while second.iteration < 24:
        second.step()

    for name, value in through.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[name]), name


def test_the_log_forgets_what_was_done_after_the_checkpoint(studio: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop_at_17(line: str) -> None:
        if line.startswith("17/"):
            raise Stop

    with pytest.raises(Stop):
        train(studio, "out", report=stop_at_17)
    train(studio, "out")
    resumed = losses_of(studio / "out")
    assert [entry["iteration"] for entry in resumed] == list(range(1, 41))
    train(studio, "through")
    for one, other in zip(resumed, losses_of(studio / "through"), strict=True):
        assert {**one, "elapsed_s": 0} == {**other, "elapsed_s": 0}


def test_a_training_can_begin_from_another_one(studio: Path) -> None:
    short = dataclasses.replace(SMALL, iterations=3)
    first = train(studio, "first", short).folder
    second = train(studio, "second", short, start=first / "checkpoint.pt").folder
    assert json.loads((second / "card.json").read_text())["trained"]["iterations"] == 6
    other = dataclasses.replace(short, network=PainterConfig(8, 4, (1,)))
    with pytest.raises(RequestError, match="other sizes"):
        train(studio, "third", other, start=first / "checkpoint.pt")


def test_a_checkpoint_of_other_settings_is_refused(studio: Path) -> None:
    train(studio, "out", dataclasses.replace(SMALL, iterations=2))
    with pytest.raises(RequestError, match="other settings"):
        train(studio, "out", dataclasses.replace(SMALL, iterations=2, seed=5))


def test_a_bad_photograph_is_skipped_and_reported(studio: Path) -> None:
    (studio / "content" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    lines: list[str] = []
    style = train(studio, "out", dataclasses.replace(SMALL, iterations=8), report=lines.append)
    assert [path.name for path in style.skipped] == ["broken.jpg"]
    assert sum("skipped" in line and "broken.jpg" in line for line in lines) == 1


def test_a_folder_of_bad_photographs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    photographs = open_photographs(tmp_path, lambda line: None)
    with pytest.raises(RequestError, match="unreadable"):
        photographs.crops(np.random.default_rng(0), count=1, size_px=32)


def test_an_empty_folder_is_an_error(tmp_path: Path, studio: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RequestError, match="holds no photographs"):
        open_photographs(empty, lambda line: None)
    with pytest.raises(RequestError, match="does not exist"):
        open_photographs(tmp_path / "nowhere", lambda line: None)


@pytest.mark.parametrize("damage", ["text", "unknown keys"])
def test_a_wrong_perceptual_network_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "vgg.pth"
    if damage == "text":
        path.write_text("no network")
    else:
        torch.save({"layer1.weight": torch.zeros(1)}, path)
    with pytest.raises(RequestError, match="perceptual network"):
        load_perceptual(path)


def test_a_layer_that_no_network_has_is_an_error(studio: Path) -> None:
    with pytest.raises(RequestError, match="5_1"):
        trainer_of(studio, dataclasses.replace(SMALL, style_layers=("5_1",)))


def test_the_command_reports_a_wrong_request_on_one_line(
    studio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(studio / name) for name in ("none.png", "content", "out")]
    code = main([*arguments, "--perceptual", str(studio / "vgg.pth")])
    printed = capsys.readouterr().err
    assert code == 2
    assert printed.count("\n") == 1
    assert "none.png" in printed


def test_crops_depend_on_the_seed_only(studio: Path) -> None:
    photographs = open_photographs(studio / "content", lambda line: None)
    first = photographs.crops(np.random.default_rng(3), count=4, size_px=40)
    photographs.crops(np.random.default_rng(4), count=1, size_px=40)
    again = photographs.crops(np.random.default_rng(3), count=4, size_px=40)
    assert first.shape == (4, 3, 40, 40)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)


def test_the_style_loss_is_zero_for_the_painting_and_blind_to_places() -> None:
    features = torch.rand(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    shuffled = features.flatten(2)[:, :, torch.randperm(64)].reshape(features.shape)
    assert style_loss(texture(shuffled), texture(features)) < 2e-3
    assert style_loss(texture(features * 0), texture(features)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("net", [Painter, TransformerNet, TinyNet])
def test_the_exported_network_equals_torch_at_any_size(
    tmp_path: Path, net: type[nn.Module]
) -> None:
    runtime = pytest.importorskip("openvino", reason="the comparison runs on OpenVINO")
    torch.manual_seed(0)
    module = net().eval()
    export_onnx(module, tmp_path / "net.onnx")
    compiled = runtime.Core().compile_model(
        str(tmp_path / "net.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    rng = np.random.default_rng(0)
    for n, height, width in ((1, 64, 64), (2, 40, 72)):
        frames = rng.uniform(0, 255, (n, 3, height, width)).astype(np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(frames)).numpy()
        painted = compiled({INPUT: frames})[0]
        assert painted.shape == frames.shape
        np.testing.assert_allclose(painted, expected, atol=5e-3)


def test_a_painter_weaves_no_pattern_into_a_flat_frame() -> None:
    torch.manual_seed(0)
    net = Painter().eval()
    torch.nn.init.normal_(net.colour.weight)  # four phases as different as can be
    with torch.inference_mode():
        painted = net.paint(torch.full((1, 3, 64, 64), 90.0))
    assert float(painted.amax((2, 3)).sub(painted.amin((2, 3))).max()) < 1e-2


def test_a_painter_leaves_a_frame_without_contrast_as_it_is() -> None:
    net = Painter().eval()
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        black = net((noise * 2 + 3).clamp(0, 255))
        scene = torch.linspace(0, 255, 64).expand(1, 3, 64, 64)
        share = (net(scene) - scene) / (net.paint(scene) - scene)
    assert float(black.max()) < 20
    assert float(share.min()) > 0.99


def test_the_networks_have_their_published_sizes() -> None:
    def size(net: nn.Module) -> int:
        return sum(parameter.numel() for parameter in net.parameters())

    assert size(TransformerNet()) == 1_679_235
    assert size(TransformerNet(16)) == 424_899
    assert size(TransformerNet(8)) == 108_771
    assert size(TinyNet()) == 28_270
    assert size(Painter()) <= 350_000


def test_published_weights_load() -> None:
    folder = DATA / "weights" / "transform"
    if not folder.is_dir():
        pytest.skip(f"no published weights at {folder}; set IMPASTO_DATA")
    narrow = torch.load(folder / "gnsmrky_udnie_nc8.pth", weights_only=True)
    TransformerNet(8).load_state_dict(narrow)
    net = TinyNet()
    with np.load(folder / "vangogh_tiny_starry-night.npz") as variables:
        load_variables(net, variables)
    with torch.inference_mode():
        painted = net(torch.rand(1, 3, 32, 48) * 255)
    assert painted.shape == (1, 3, 32, 48)
    assert float(painted.std()) > 5


@pytest.mark.parametrize("name", ["starry_night", "the_scream"])
def test_a_shipped_style_is_what_its_card_says(name: str) -> None:
    runtime = pytest.importorskip("openvino", reason="the style runs on OpenVINO")
    card = json.loads((STYLES / name / "card.json").read_text(encoding="utf-8"))
    path = STYLES / name / card["qualities"]["balanced"]
    model = path.read_bytes()
    assert card["name"] == name
    assert card["multiple_of"] == MULTIPLE_OF
    assert len(model) == card["bytes"] < 1_500_000
    assert hashlib.sha256(model).hexdigest() == card["sha256"]
    # A dark, a flat and a light scene: each is painted, and none the same as another.
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (1, 3, 64, 64))
    compiled = runtime.Core().compile_model(str(path), "CPU")
    painted = [compiled({INPUT: frames})[0] for frames in (ramp * 40, ramp * 0 + 99, ramp * 255)]
    for picture in painted:
        assert np.isfinite(picture).all()
        assert picture.min() > -30
        assert picture.max() < 285
    assert abs(painted[0] - painted[2]).mean() > 1


def test_run_without_work_left_changes_nothing(studio: Path) -> None:
    config = dataclasses.replace(SMALL, iterations=3)
    trainer = trainer_of(studio, config)
    run(trainer, studio, rhythm=Rhythm(1, 1, 9), samples=(), report=lambda line: None)
    before = (studio / "checkpoint.pt").read_bytes()
    again = trainer_of(studio, config)
    run(again, studio, rhythm=Rhythm(1, 1, 9), samples=(), report=lambda line: None)
    assert again.iteration == 3
    assert (studio / "checkpoint.pt").read_bytes() == before
