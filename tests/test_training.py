"""Training: it learns, it resumes exactly, what it exports is what it trained."""

import dataclasses
import datetime as dt
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
Image = pytest.importorskip(
    "PIL.Image", reason="training needs pillow: pip install 'impasto[train]'"
)

from torch import Tensor  # noqa: E402

from impasto.errors import Interrupted, RequestError  # noqa: E402 - after the skips above
from impasto.nets.painter import SIZES, Painter, PainterConfig, plain_style  # noqa: E402
from impasto.nets.perceptual import load_perceptual  # noqa: E402
from impasto.styles import find_style  # noqa: E402
from impasto.train.config import Precision, TrainConfig, check  # noqa: E402
from impasto.train.loop import Trainer, run  # noqa: E402
from impasto.train.start import Start, begin_mixed, checkpoint  # noqa: E402
from impasto.train.step import TrainingStep  # noqa: E402
from impasto.train.studio import Listener  # noqa: E402
from impasto.train.style import About, TrainedStyle, train_style  # noqa: E402
from studio import (  # noqa: E402
    LOOK,
    OFTEN,
    SMALL,
    TINY,
    furnish,
    losses_of,
    random_styles,
    trainer_of,
)

TODAY = dt.date(2026, 11, 21)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads differ in the last bit, and so would a resumed training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(SIZES, "fast", TINY)
    return furnish(tmp_path)


def train(
    studio: Path,
    name: str = "dots",
    config: TrainConfig = SMALL,
    *,
    start: str = "scratch",
    force: bool = False,
    report: Callable[[str], None] = lambda line: None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
) -> TrainedStyle:
    return train_style(
        studio / "painting.png",
        studio / "content",
        config,
        name=name,
        user_styles=studio / "styles",
        perceptual=studio / "vgg.pth",
        about=About(title="Dots"),
        today=TODAY,
        start=start,
        quality="fast",
        force=force,
        rhythm=OFTEN,
        listener=Listener(report, on_step),
    )


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    return {"styles": trainer.styles.detach(), **trainer.net.state_dict()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_loss_falls_and_the_style_is_whole(studio: Path) -> None:
    steps: list[TrainingStep] = []
    made = train(studio, on_step=steps.append)
    folder = made.style.folder / "training"
    entries = losses_of(folder)
    assert [entry["iteration"] for entry in entries] == list(range(1, 41))
    assert np.mean([e["style"] for e in entries[-5:]]) < 0.85 * entries[0]["style"]
    assert entries[-1]["stillness"] > 0
    assert [e["iteration"] for e in entries if "held_out" in e] == [10, 20, 30, 40]
    for file in ("samples/000000.png", "samples/000040.png", "preview.png", "curves.png"):
        with Image.open(folder / file) as picture:
            assert min(picture.size) > 40
    card = json.loads((made.style.folder / "card.json").read_text())
    assert card["trained"]["date"] == "2026-11-21"
    assert card["trained"]["held_out"]["photographs"] == 1
    assert card["trained"]["held_out"]["style"] < card["trained"]["held_out"]["style_unpainted"]
    assert len(steps) == 40
    assert Path(steps[-1].preview).exists()
    assert not list(made.style.folder.rglob("*.partial"))


def test_the_finished_style_paints_as_its_weights_do(studio: Path) -> None:
    runtime = pytest.importorskip("openvino", reason="the comparison runs on OpenVINO")
    made = train(studio, config=dataclasses.replace(SMALL, iterations=4))
    _, model = find_style("dots", user_styles=studio / "styles")
    state = torch.load(made.style.folder / "training" / "checkpoint.pt", weights_only=True)
    net = Painter(TINY).eval()
    net.load_state_dict({k: v for k, v in state["learned"].items() if k != "styles"})
    (studio / "model.onnx").write_bytes(model)
    compiled = runtime.Core().compile_model(
        str(studio / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    frames = np.random.default_rng(0).uniform(0, 255, (1, 3, 32, 48)).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(frames), state["learned"]["styles"]).numpy()
    np.testing.assert_allclose(compiled([frames])[0], expected, atol=5e-3)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    studio: Path, precision: Precision
) -> None:
    config = dataclasses.replace(SMALL, precision=precision, patience=3, check_every=4)

    def forward(trainer: Trainer, until: int) -> None:
        while trainer.iteration < until:
            trainer.step()
            if trainer.iteration % 4 == 0:
                trainer.look()

    through = trainer_of(studio, config)
    forward(through, 28)
    first = trainer_of(studio, config)
    forward(first, 25)
    first.save(studio / "checkpoint.pt")
    second = trainer_of(studio, config)
    second.load(studio / "checkpoint.pt")
    forward(second, 28)
    assert same(state_of(through), state_of(second))
    assert through.best is not None
    assert second.best is not None
    assert (through.best.total, through.worse) == (second.best.total, second.worse)
    assert same(through.best.learned, second.best.learned)


KILLED = """
import dataclasses, sys
from pathlib import Path
import torch
from test_training import SIZES, SMALL, TINY, train
torch.set_num_threads(1)
SIZES["fast"] = TINY
config = dataclasses.replace(SMALL, iterations=24, patience=9)
train(Path(sys.argv[1]), config=config, on_step=lambda step: print(step.iteration, flush=True))
"""


def test_a_killed_training_goes_on_exactly(studio: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(studio)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as p:
        assert p.stdout is not None
        for line in p.stdout:
            if int(line) == 17:
                p.send_signal(signal.SIGKILL)
                break
    assert p.returncode == -signal.SIGKILL
    assert not (studio / "styles" / "dots" / "card.json").exists()
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=Path(__file__).parent, check=True
    )
    assert done.stdout.split()[0] == "11"  # the last checkpoint was at 10
    train(studio, "through", dataclasses.replace(SMALL, iterations=24, patience=9))
    killed, through = (studio / "styles" / name for name in ("dots", "through"))
    assert (killed / "style.onnx").read_bytes() == (through / "style.onnx").read_bytes()
    one, other = (
        torch.load(folder / "training" / "checkpoint.pt", weights_only=True)
        for folder in (killed, through)
    )
    assert same(one["learned"], other["learned"])
    for before, after in zip(
        losses_of(killed / "training"), losses_of(through / "training"), strict=True
    ):
        assert {**before, "elapsed_s": 0} == {**after, "elapsed_s": 0}


def test_a_signal_stops_a_training_after_a_checkpoint(studio: Path) -> None:
    def stop_at_13(step: TrainingStep) -> None:
        if step.iteration == 13:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="after iteration 13"):
        train(studio, on_step=stop_at_13)
    steps: list[TrainingStep] = []
    train(studio, on_step=steps.append)
    assert [step.iteration for step in steps] == list(range(14, 41))


def test_training_ends_when_held_out_photographs_gain_nothing(studio: Path) -> None:
    config = dataclasses.replace(
        SMALL, learning_rate=0.0, patience=2, check_every=3, stillness_begins=0.0
    )
    made = train(studio, config=config)
    assert made.trained["iterations"] == 9  # the first look is the best, two bring nothing
    again: list[TrainingStep] = []
    train(studio, config=config, on_step=again.append)
    assert again == []  # the decision stands in the checkpoint


def test_the_best_weights_are_kept(studio: Path) -> None:
    trainer = trainer_of(studio, dataclasses.replace(SMALL, patience=5, stillness_begins=0.0))
    trainer.look()
    best = {name: value.clone() for name, value in state_of(trainer).items()}
    with torch.no_grad():
        trainer.net.colour.weight.fill_(9.0)
    trainer.look()
    assert trainer.worse == 1
    trainer.take_best()
    assert same(best, state_of(trainer))


def test_a_frozen_network_stays_as_it_is_bit_for_bit(studio: Path) -> None:
    trainer = trainer_of(studio, dataclasses.replace(SMALL, frozen=True, learning_rate=2e-2))
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    begin = trainer.measure()["style"]
    for _ in range(20):
        trainer.step()
    assert same(before, trainer.net.state_dict())
    assert not torch.equal(trainer.styles[0], plain_style(TINY))
    assert trainer.measure()["style"] < begin
    trainer.save(studio / "checkpoint.pt")
    learned = torch.load(studio / "checkpoint.pt", weights_only=True)["learned"]
    assert list(learned) == ["styles"]


def test_several_paintings_and_the_identity_take_turns(studio: Path) -> None:
    config = dataclasses.replace(
        SMALL, paintings=(LOOK, LOOK), identity_weight=4.0, batch=3, learning_rate=1e-3
    )
    trainer = trainer_of(studio, config)
    assert trainer.styles.shape == (3, TINY.style_size)
    before = trainer.styles.detach().clone()
    trainer.step()
    assert (trainer.styles != before).any(dim=1).all()


def test_a_training_can_begin_from_another_one(studio: Path) -> None:
    short = dataclasses.replace(SMALL, iterations=3)
    first = train(studio, "first", short).style.folder / "training" / "checkpoint.pt"
    assert train(studio, "second", short, start=str(first)).trained["iterations"] == 6
    with pytest.raises(RequestError, match="no checkpoint"):
        train(studio, "third", short, start="nowhere.pt")
    SIZES["fast"] = PainterConfig(8, 4, (1,))  # the fixture puts the old one back
    with pytest.raises(RequestError, match="other sizes"):
        train(studio, "third", short, start=str(first))


def test_a_new_painting_begins_no_further_away_than_the_nearest_style(studio: Path) -> None:
    config = dataclasses.replace(SMALL, frozen=True)
    trainer, known = trainer_of(studio, config), random_styles(TINY, 5)
    start = Start(TINY, Painter(TINY).state_dict(), known)
    trainer.net.load_state_dict(start.network)
    assert trainer.held_out is not None
    scene, which = trainer.held_out.float(), torch.zeros(len(trainer.held_out), dtype=torch.int64)

    def loss(vector: Tensor) -> float:
        with torch.inference_mode():
            return float(trainer.judge(trainer.net(scene, vector[None]), scene, which)[0].mean())

    weights = begin_mixed(trainer, start)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(trainer.styles[0].detach(), weights @ known)
    assert loss(trainer.styles[0].detach()) <= min(loss(each) for each in known) + 1e-5

    alone = dataclasses.replace(start, styles=known[:1])
    assert begin_mixed(trainer, alone).tolist() == [1]
    assert torch.equal(trainer.styles.detach(), known[:1])


def test_a_checkpoint_of_other_settings_is_refused_unless_forced(studio: Path) -> None:
    short = dataclasses.replace(SMALL, iterations=2)
    train(studio, config=short)
    other = dataclasses.replace(short, seed=5)
    with pytest.raises(RequestError, match="other settings"):
        train(studio, config=other)
    train(studio, config=other, force=True)


def test_a_damaged_checkpoint_is_named(studio: Path) -> None:
    path = studio / "styles" / "dots" / "training" / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(RequestError, match="cannot be read"):
        train(studio)
    for state in ({"learned": 3}, {"learned": {"styles": 1}}, [1]):
        torch.save(state, path)
        with pytest.raises(RequestError, match="is not the checkpoint of a training"):
            train(studio)
    torch.save({"learned": {"styles": torch.zeros(1, 7), **Painter(TINY).state_dict()}}, path)
    with pytest.raises(RequestError, match="of other sizes"):
        checkpoint(path, TINY)


def test_a_bad_photograph_is_skipped_and_reported(studio: Path) -> None:
    (studio / "content" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    (studio / "content" / "0-broken.jpg").write_bytes(b"")
    lines: list[str] = []
    made = train(studio, config=dataclasses.replace(SMALL, iterations=8), report=lines.append)
    assert sorted(path.name for path in made.skipped) == ["0-broken.jpg", "broken.jpg"]
    assert sum("skipped" in line and "/broken.jpg" in line for line in lines) == 1


def test_settings_that_make_no_sense_are_refused(studio: Path) -> None:
    for wrong, said in (
        ({"precision": "fp16"}, "fp16 is for training on CUDA"),
        ({"device": "toaster"}, "not on this machine"),
        ({"iterations": 0}, "iterations must be above zero"),
        ({"crop_px": 30}, "multiple of 8"),
        ({"style_layers": ("5_1",)}, "5_1"),
        ({"content_layer": "5_1"}, "5_1"),
    ):
        with pytest.raises(RequestError, match=said):
            train(studio, config=dataclasses.replace(SMALL, **wrong))
    assert not (studio / "styles").exists()
    assert check(SMALL) is SMALL


def test_fp16_learns_on_cuda(studio: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    config = dataclasses.replace(SMALL, precision="fp16", device="cuda")
    trainer = trainer_of(studio, config)
    begin = trainer.measure()["total"]
    for _ in range(30):
        trainer.step()
    assert trainer.measure()["total"] < begin


def test_run_without_work_left_changes_nothing(studio: Path) -> None:
    config = dataclasses.replace(SMALL, iterations=3)
    digests = []
    for _ in range(2):
        trainer = trainer_of(studio, config)
        run(trainer, studio, rhythm=OFTEN, scenes=(), on_step=lambda step: None)
        assert trainer.iteration == 3
        digests.append(hashlib.sha256((studio / "checkpoint.pt").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    assert load_perceptual(studio / "vgg.pth").names[0] == "1_1"
