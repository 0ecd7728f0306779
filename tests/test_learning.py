"""Any painting as a style: learned at first use, known at the second; and many of them at once."""

import dataclasses
import datetime as dt
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
Image = pytest.importorskip(
    "PIL.Image", reason="training needs pillow: pip install 'impasto[train]'"
)
pytest.importorskip("onnx", reason="reading networks needs onnx: pip install 'impasto[train]'")

from impasto import api  # noqa: E402 - after the skips above
from impasto.cli import main  # noqa: E402
from impasto.cli.look import THEME, make_console  # noqa: E402
from impasto.cli.training import follow_training  # noqa: E402
from impasto.errors import RequestError  # noqa: E402
from impasto.nets.painter import SIZES, PainterConfig  # noqa: E402
from impasto.records import Event, Noted  # noqa: E402
from impasto.request import Options  # noqa: E402
from impasto.settings import Settings  # noqa: E402
from impasto.styles import find_style, list_styles, network_bytes, style_vectors  # noqa: E402
from impasto.train import joint, learn  # noqa: E402
from impasto.train.__main__ import main as train_main  # noqa: E402
from impasto.train.paintings import is_painting, learn_painting, name_for  # noqa: E402
from impasto.train.step import TrainingStep  # noqa: E402
from studio import SMALL, TINY, furnish, losses_of, ship  # noqa: E402

Media = Callable[[str], Path]

TODAY = dt.date(2026, 11, 21)
LEARNING = dataclasses.replace(
    SMALL, iterations=12, check_every=4, patience=3, frozen=True, stillness_begins=0.0
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs and a painting; the package ships small networks, and nothing else."""
    furnish(tmp_path)
    networks = ship(tmp_path, {"fast": TINY, "balanced": PainterConfig(8, 4, (1,))})
    monkeypatch.setattr("impasto.styles.vectors._NETWORKS", networks)
    monkeypatch.setattr("impasto.styles.catalogue._SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(learn, "LEARNING", LEARNING)
    monkeypatch.setattr(learn, "_FRAMES", 8)
    monkeypatch.setenv("IMPASTO_STYLES", str(tmp_path / "styles"))
    monkeypatch.setenv("IMPASTO_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("IMPASTO_PERCEPTUAL", str(tmp_path / "vgg.pth"))
    return tmp_path


def settings_of(studio: Path) -> Settings:
    return Settings(
        user_styles=studio / "styles",
        system_store=str(studio / "work"),
        perceptual=str(studio / "vgg.pth"),
    )


def learned(studio: Path, quality: str = "fast", **more: object) -> str:
    given = {"content": studio / "content"} | more
    return learn_painting(
        studio / "painting.png",
        quality=quality,
        settings=settings_of(studio),
        today=TODAY,
        report=lambda line: None,
        **given,  # type: ignore[arg-type]
    )


def test_a_painting_is_learned_once(studio: Path) -> None:
    network = network_bytes("fast")
    steps: list[int] = []
    name = learned(studio, on_step=lambda step: steps.append(step.iteration))
    digest = hashlib.sha256((studio / "painting.png").read_bytes()).hexdigest()
    assert name == f"painting-{digest[:8]}"
    assert steps == list(range(1, 13))
    style, _ = find_style(name, "fast", user_styles=studio / "styles")
    assert style.networks == {"fast": hashlib.sha256(network).hexdigest()}
    assert style.trained["fast"]["held_out"]["photographs"] == 1
    assert sorted(path.name for path in style.folder.iterdir()) == [
        "card.json", "curves.png", "preview.png", "vectors.npz",
    ]  # fmt: skip

    assert learned(studio, on_step=lambda step: steps.append(step.iteration)) == name
    assert len(steps) == 12
    assert network_bytes("fast") == network


def test_a_second_quality_is_added_to_the_first(studio: Path) -> None:
    name = learned(studio)
    fast = style_vectors(name, user_styles=studio / "styles")["fast"]
    assert learned(studio, "balanced") == name
    both = style_vectors(name, user_styles=studio / "styles")
    assert list(both) == ["fast", "balanced"]
    np.testing.assert_array_equal(both["fast"], fast)
    card = next(each for each in list_styles(studio / "styles") if each.name == name)
    assert set(card.trained) == {"fast", "balanced"}


def test_processes_that_meet_a_painting_at_once_learn_it_in_turn(studio: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system has no file locks of that kind")
    with (studio / "painting.png").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        lines: list[str] = []

        def hear(line: str) -> None:
            lines.append(line)
            fcntl.flock(other, fcntl.LOCK_UN)

        learn_painting(
            studio / "painting.png",
            quality="fast",
            settings=settings_of(studio),
            today=TODAY,
            content=studio / "content",
            report=hear,
        )
    assert lines == ["waiting for another process, which is learning painting.png"]


def test_a_name_never_joins_two_paintings(studio: Path) -> None:
    learned(studio, name="mine")
    striped = Image.open(studio / "painting.png")
    striped.rotate(90).save(studio / "painting.png")
    learned(studio, "balanced", name="mine")
    assert list(style_vectors("mine", user_styles=studio / "styles")) == ["balanced"]


def test_another_styles_damaged_card_does_not_keep_one_from_learning(studio: Path) -> None:
    (studio / "styles" / "damaged").mkdir(parents=True)
    (studio / "styles" / "damaged" / "card.json").write_text("{")
    assert learned(studio, name="mine") == "mine"
    assert main(["styles", "show", "mine"]) == 0


def test_a_training_of_its_own_is_not_swept_away(studio: Path) -> None:
    checkpoint = studio / "styles" / "mine" / "training" / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"of days")
    with pytest.raises(RequestError, match="network of its own"):
        learned(studio, name="mine")
    assert checkpoint.read_bytes() == b"of days"


def test_what_is_wrong_is_said_before_learning(
    studio: Path, media: Media, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["stylize", str(media("vfr")), "--style", str(studio / "painting.png")]
    (studio / "there.mp4").write_bytes(b"")
    assert main([*words, "-o", str(studio / "there.mp4")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*words, "--perceptual", "vgg19"]) == 2
    assert "belongs to --method optimise" in capsys.readouterr().err
    with pytest.raises(RequestError, match="exists"):
        api.stylize(
            media("vfr"),
            style=str(studio / "painting.png"),
            target=studio / "there.mp4",
            settings=settings_of(studio),
        )
    assert not (studio / "styles").exists()


def test_a_vector_for_another_network_is_learned_anew(studio: Path) -> None:
    name = learned(studio)
    (studio / "networks" / "fast.onnx").unlink()
    shutil.copy(studio / "networks" / "balanced.onnx", studio / "networks" / "fast.onnx")
    with pytest.raises(RequestError, match="learn it again"):
        find_style(name, "fast", user_styles=studio / "styles")
    assert learned(studio) == name
    find_style(name, "fast", user_styles=studio / "styles")


def test_learning_goes_on_where_it_was_stopped(studio: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: object) -> None:
        if getattr(step, "iteration", 0) == 8:
            raise Stop

    through = learned(studio, name="through")
    with pytest.raises(Stop):
        learned(studio, name="stopped", on_step=stop)
    assert not (studio / "styles" / "stopped" / "card.json").exists()
    learned(studio, name="stopped")
    one, other = (
        style_vectors(name, user_styles=studio / "styles")["fast"] for name in (through, "stopped")
    )
    np.testing.assert_array_equal(one, other)


def test_a_name_that_is_taken_is_refused(studio: Path) -> None:
    learned(studio, name="mine")
    with pytest.raises(RequestError, match="exists"):
        learned(studio, name="mine")
    assert learned(studio, name="mine", force=True) == "mine"


def test_stylize_learns_a_painting_from_the_source_itself(studio: Path, media: Media) -> None:
    clip = media("vfr")
    events: list[Event] = []
    for _ in range(2):
        report = api.stylize(
            clip,
            style=str(studio / "painting.png"),
            target=studio / "painted.mp4",
            options=Options(engine="inline", precision="f32", quality="fast", force=True),
            settings=settings_of(studio),
            on_event=events.append,
        )
        assert report.verified
    assert not [each for each in events if isinstance(each, Noted) and "skipped" in each.text]


def test_the_commands_learn_and_stylize(
    studio: Path, media: Media, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = Path(shutil.copy(media("vfr"), studio))
    painting = str(studio / "painting.png")
    words = ["styles", "learn", painting, "--content", str(studio / "content"), "--quality", "fast"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == name_for(studio / "painting.png")
    assert told["trained"]["fast"]["iterations"] == 12
    assert main(words) == 0
    assert "known already" in capsys.readouterr().out
    words = ["stylize", str(clip), "--style", painting, "--quality", "fast", "--json"]
    assert main([*words, "--engine", "inline", "--precision", "f32"]) == 0
    assert json.loads(capsys.readouterr().out)["target"].endswith(f".{told['name']}.mp4")


def test_wrong_requests_are_one_line(studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (studio / "text.png").write_text("no picture")
    content = str(studio / "content")
    for words, said in (
        (["styles", "learn", "none.png", "--content", content], "none.png can't be read"),
        (["styles", "learn", str(studio / "painting.png")], "needs --content"),
        (["styles", "learn", str(studio / "text.png"), "--content", content], "is not a picture"),
        (["styles", "learn", str(studio / "painting.png"), "--content", "nowhere"], "nowhere"),
        (["styles", "train", "none.png", "--content", content, "--name", "Bad"], "'Bad'"),
        (
            ["styles", "train", str(studio / "painting.png"), "--content", content, "--name", "x",
             "--precision", "fp16"],
            "fp16 is for training on CUDA",
        ),
    ):  # fmt: skip
        assert main(words) == 2, words
        printed = capsys.readouterr().err
        assert said in printed
        assert len([line for line in printed.splitlines() if "impasto:" in line]) == 1
        assert "Traceback" not in printed
    assert not (studio / "styles").exists()


def test_a_painting_is_told_from_a_name() -> None:
    assert is_painting("my.jpg")
    assert is_painting("/somewhere/My Painting.PNG")
    assert not is_painting("starry_night")


RECIPE = """
[training]
batch = 2
crop_px = 32
style_layers = ["1_1", "1_2"]
content_layer = "2_1"
check_every = 2
precision = "f32"
warm_up = 1
identity_weight = 4.0

[tier.fast]
iterations = 4

[tier.balanced]
iterations = 2

[tier.balanced.painting.again]
px = 56

[[painting]]
name = "stripes"
file = "painting.png"
title = "Stripes"
px = 48
inset = 0.0

[[painting]]
name = "again"
file = "painting.png"
px = 64
"""


def test_a_recipe_trains_networks_and_a_vector_for_each_painting(
    studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "fast", TINY)
    monkeypatch.setitem(SIZES, "balanced", PainterConfig(12, 8, (1,), 1))
    (studio / "recipe.toml").write_text(RECIPE)
    target = studio / "made"
    words = [str(studio / "recipe.toml"), "--paintings", str(studio), "--target", str(target)]
    words += ["--content", str(studio / "content")]
    assert train_main([*words, "--tier", "fast"]) == 0
    grown = ["--tier", "balanced", "--grow", str(target / "training-fast" / "checkpoint.pt")]
    assert train_main([*words, *grown]) == 0
    entries = losses_of(target / "training-fast")
    assert [each["iteration"] for each in entries if "held_out" in each] == [2, 4]

    # What it wrote is what the package holds.
    monkeypatch.setattr("impasto.styles.vectors._NETWORKS", target / "networks")
    monkeypatch.setattr("impasto.styles.catalogue._SHIPPED", target)
    assert [style.name for style in list_styles()] == ["again", "stripes"]
    assert find_style("again")[0].trained["fast"]["painting_px"] == 64
    assert find_style("again")[0].trained["balanced"]["painting_px"] == 56
    for quality in ("fast", "balanced"):
        style, _ = find_style("stripes", quality)
        assert style.title == "Stripes"
        assert style.trained[quality]["held_out"]["photographs"] == 1


def test_a_recipe_says_what_is_wrong_with_it(studio: Path) -> None:
    path = studio / "recipe.toml"
    for wrong, said in (
        (RECIPE.replace("px = 48", "pixels = 48"), "unknown key 'pixels'"),
        (RECIPE.replace("px = 48", 'px = "large"'), "int"),
        (RECIPE.replace("tier.fast", "tier.huge"), "'huge' is none of"),
        (RECIPE + "[tier.fast.painting.dots]\npx = 48", "unknown key 'dots'"),
        (RECIPE.replace("stripes", "Stripes!"), "name"),
        ("[training]", "at least one"),
        ("[", "not TOML"),
    ):
        path.write_text(wrong)
        with pytest.raises(RequestError, match=said):
            joint.read_recipe(path)
    with pytest.raises(RequestError, match="can't be read"):
        joint.read_recipe(studio / "none.toml")


def test_the_recipe_of_the_shipped_styles_can_be_read(studio: Path) -> None:
    recipe = joint.read_recipe(joint.RECIPE)
    assert list(recipe.tiers) == ["fast", "balanced", "best"]
    assert {entry.name for entry in recipe.paintings} >= {"starry_night", "the_scream"}
    assert all(config.network == SIZES[tier] for tier, config in recipe.tiers.items())
    folders = joint.Folders(studio, studio / "content", studio / "made")
    with pytest.raises(RequestError, match="no tier 'huge'"):
        joint.train_jointly(recipe, "huge", folders, perceptual=[studio / "vgg.pth"], today=TODAY)


def steps_of(count: int) -> list[TrainingStep]:
    return [
        TrainingStep(
            iteration=place,
            iterations=count,
            losses={"style": 1 / place, "total": 2.0},
            best=1.5 if place > 2 else None,
            best_iteration=2 if place > 2 else None,
            preview="here/preview.png",
        )
        for place in range(1, count + 1)
    ]


def test_a_training_is_shown_as_lines_where_nobody_watches() -> None:
    out = io.StringIO()
    now_s = iter(range(0, 1000, 4))
    with follow_training(make_console(out), "my.jpg", clock_s=lambda: float(next(now_s))) as ears:
        ears.report("skipped bad.jpg")
        for step in steps_of(8):
            ears.on_step(step)
    lines = out.getvalue().splitlines()
    assert lines[0] == "note: skipped bad.jpg"
    assert lines[1] == "my.jpg: see here/preview.png"
    assert lines[-1].startswith("my.jpg: 8 of 8 iterations, 0:00 left, style 0.")
    assert 4 <= len(lines) <= 8


def test_a_training_is_shown_as_a_picture_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=70, theme=THEME, color_system=None)
    with follow_training(console, "my.jpg", clock_s=lambda: 0.0) as ears:
        for step in steps_of(4)[:3]:
            ears.on_step(step)
    shown = out.getvalue()
    for words in ("my.jpg", "75 %", "3 of 4 iterations", "best on held-out pictures 1.500, at 2",
                  "see here/preview.png"):  # fmt: skip
        assert words in shown
    quiet = io.StringIO()
    with follow_training(make_console(quiet), "my.jpg", quiet=True) as ears:
        ears.on_step(steps_of(1)[0])
    assert not quiet.getvalue()
