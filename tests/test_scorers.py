"""A network with a strength and with colours, and the gate that a lower precision must pass."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import networks
import shared_data
from impasto.errors import RequestError
from impasto.protocols import Scorer
from impasto.records import Frames, ScorerSpec
from impasto.runtimes.openvino import supported_precisions
from impasto.scorers import MAX_DB, gate_db, open_scorer, psnr_db

EVERY_PRECISION = pytest.mark.parametrize("precision", supported_precisions())
NEEDS_BF16 = pytest.mark.skipif(
    "bf16" not in supported_precisions(), reason="this processor does not compute in bf16"
)


def noise(count: int = 2, height: int = 45, width: int = 70) -> Frames:
    return np.random.default_rng(11).integers(0, 256, (count, height, width, 3), np.uint8)


def scorer(
    model: bytes,
    frames: Frames,
    *,
    strength: float = 1.0,
    keep_colors: bool = False,
    precision: str = "f32",
) -> Scorer:
    spec = ScorerSpec("test", "0" * 64, strength=strength, keep_colors=keep_colors)
    height, width = frames.shape[1:3]
    return open_scorer(spec, model, width=width, height=height, precision=precision)


def chroma(frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cb and Cr by Rec. ITU-R BT.709-6, as floats in 8-bit steps."""
    y = luma(frames)
    return (frames[..., 2] - y) / 1.8556, (frames[..., 0] - y) / 1.5748


def luma(frames: Frames) -> NDArray[np.float64]:
    weights = np.array([0.2126, 0.7152, 0.0722])
    return np.asarray(frames @ weights, np.float64)


@EVERY_PRECISION
@pytest.mark.parametrize("keep_colors", [False, True])
def test_strength_0_is_the_source_bit_for_bit(precision: str, keep_colors: bool) -> None:
    frames = noise()
    kept = scorer(
        networks.painterly(), frames, strength=0, keep_colors=keep_colors, precision=precision
    )
    assert np.array_equal(kept(frames), frames)


def test_strength_0_is_the_source_even_where_the_network_gives_no_numbers() -> None:
    frames = noise()
    assert np.array_equal(scorer(networks.constant(np.nan), frames, strength=0)(frames), frames)


def test_strength_1_is_the_network_alone() -> None:
    frames = noise()
    assert np.array_equal(scorer(networks.invert(), frames)(frames), 255 - frames)


@EVERY_PRECISION
@pytest.mark.parametrize("strength", [0.2, 0.25, 0.5, 0.9])
def test_strength_is_the_weight_of_the_style(precision: str, strength: float) -> None:
    frames = noise()
    painted = scorer(networks.invert(), frames, strength=strength, precision=precision)(frames)
    exact = strength * (255.0 - frames) + (1 - strength) * frames
    assert np.abs(painted - exact).max() <= 0.5 + 1e-4


def test_the_style_is_limited_to_its_range_before_it_is_blended() -> None:
    frames = noise()
    painted = scorer(networks.shift(1000), frames, strength=0.5)(frames)
    assert np.abs(painted - (255 + frames.astype(float)) / 2).max() <= 0.5


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_strength_outside_0_to_1_is_refused(strength: float) -> None:
    with pytest.raises(RequestError, match=r"strength must be within 0\.\.1, got"):
        scorer(networks.identity(), noise(), strength=strength)


@EVERY_PRECISION
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_kept_colors_are_the_source_s(precision: str, strength: float) -> None:
    frames = noise() // 2 + 64  # away from the ends, so that little is clipped
    painted = scorer(
        networks.painterly(), frames, strength=strength, keep_colors=True, precision=precision
    )(frames)
    inside = ((painted > 0) & (painted < 255)).all(axis=-1)
    assert inside.mean() > 0.9
    for found, expected in zip(chroma(painted), chroma(frames), strict=True):
        assert np.abs(found - expected)[inside].max() <= 1
    assert np.abs(luma(painted) - luma(frames)).mean() > 10  # and yet it is another picture


def test_kept_colors_have_the_luma_of_the_style() -> None:
    frames = noise() // 2 + 64
    styled = scorer(networks.invert(), frames)(frames)
    painted = scorer(networks.invert(), frames, keep_colors=True)(frames)
    inside = ((painted > 0) & (painted < 255)).all(axis=-1)
    assert np.abs(luma(painted) - luma(styled))[inside].max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 17), (53, 39)])
def test_every_option_keeps_any_size(width: int, height: int) -> None:
    frames = noise(1, height, width)
    painted = scorer(networks.painterly(), frames, strength=0.5, keep_colors=True)(frames)
    assert painted.shape == frames.shape


def test_a_scorer_says_what_executes_it_and_how_much_it_takes() -> None:
    built = scorer(networks.identity(), noise())
    assert built.batch_size >= 1
    assert built.device


def test_psnr_is_that_of_8_bit_pictures() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr_db(black, black) == MAX_DB
    assert psnr_db(black, black + 255) == pytest.approx(0)
    assert psnr_db(black, black + 1) == pytest.approx(48.13, abs=0.01)


def gate(model: bytes, frame: Frames, strength: float = 1.0) -> float:
    return gate_db(ScorerSpec("test", "", strength=strength), model, frame, precision="bf16")


def test_a_precision_against_itself_is_the_cap() -> None:
    frame = noise(1)[0]
    assert gate_db(ScorerSpec("t", ""), networks.painterly(), frame, precision="f32") == MAX_DB


@NEEDS_BF16
def test_a_network_that_bf16_breaks_does_not_pass_the_gate() -> None:
    assert gate(networks.cancelling(), noise(1)) < 40


@NEEDS_BF16
def test_a_small_random_network_passes_the_gate() -> None:
    assert gate(networks.painterly(), noise(1)[0]) > 40


@NEEDS_BF16
def test_the_gate_measures_what_a_viewer_sees() -> None:
    faint = gate(networks.cancelling(), noise(1), strength=0.1)
    assert faint > gate(networks.cancelling(), noise(1)) + 15
    assert gate(networks.cancelling(), noise(1), strength=0) == MAX_DB


@NEEDS_BF16
def test_a_shipped_style_passes_the_gate_on_a_real_picture() -> None:
    from impasto.styles import list_styles
    from impasto.styles.catalogue import find_style

    styles = [style for style in list_styles() if style.shipped]
    if not styles:
        pytest.skip("no style ships yet")
    with Image.open(shared_data.path_of("weights/parity/amber.jpg")) as picture:
        frame = np.asarray(picture.convert("RGB").resize((320, 320)))
    for style in styles:
        _, model = find_style(style.name)
        assert gate(model, frame) >= 40, style.name
