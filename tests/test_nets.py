"""Networks and losses: what their form promises, and that a file paints as its weights do."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
pytest.importorskip("PIL.Image", reason="training needs pillow: pip install 'impasto[train]'")

from torch import Tensor, nn  # noqa: E402

from impasto.errors import RequestError  # noqa: E402 - after the skips above
from impasto.nets.export import INPUT, STYLE, export_onnx, read_painter  # noqa: E402
from impasto.nets.painter import SIZES, Painter, PainterConfig, plain_style  # noqa: E402
from impasto.nets.texture import style_loss, texture  # noqa: E402
from impasto.nets.tiny import TinyNet, load_variables  # noqa: E402
from impasto.nets.transformer import TransformerNet  # noqa: E402
from impasto.train.motion import move, second_view  # noqa: E402
from impasto.train.start import Start, grow  # noqa: E402
from shared_data import path_of  # noqa: E402
from studio import random_styles  # noqa: E402


def test_a_second_view_shows_the_same_scene_where_it_is_visible() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 6, 64), torch.linspace(0, 6, 64), indexing="ij")
    scene = (127 + 60 * torch.stack([y.sin(), x.cos(), (x + y).sin()]))[None].repeat(3, 1, 1, 1)
    view = second_view(np.random.default_rng(1), scene, noise_levels=0.0)
    assert view.scene.shape == scene.shape
    assert view.grid.shape == (3, 64, 64, 2)
    assert view.visible.shape == (3, 1, 64, 64)
    assert set(view.visible.flatten().tolist()) <= {0.0, 1.0}
    assert float(view.visible.mean()) > 0.5
    apart = (view.scene - move(scene, view.grid)).abs() * view.visible
    assert float(apart.max()) < 0.06 * 255 + 7  # nothing but the light differs
    assert float((view.scene - scene).abs().mean()) > 1  # and it did move
    pixels = (view.grid - move_nothing()) * 32
    assert float(pixels.abs().max()) < 8 + 3 + 2 + 2  # shift, bend, turn, zoom


def move_nothing() -> Tensor:
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    return nn.functional.affine_grid(theta, [1, 3, 64, 64], align_corners=False)


def test_the_style_loss_is_zero_for_the_painting_and_blind_to_places() -> None:
    features = torch.rand(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    shuffled = features.flatten(2)[:, :, torch.randperm(64)].reshape(features.shape)
    assert style_loss(texture(shuffled), texture(features)) < 2e-3
    assert style_loss(texture(features * 0), texture(features)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "large", [PainterConfig(16, 8, (1, 2), 1), PainterConfig(24, 16, (1, 2), 2)]
)
@pytest.mark.parametrize("small", [PainterConfig(8, 8, (1, 2)), PainterConfig(8, 4, (1, 2), 1)])
def test_a_grown_painter_paints_what_the_small_one_did(
    small: PainterConfig, large: PainterConfig
) -> None:
    torch.manual_seed(0)
    net, styles = Painter(small).eval(), random_styles(small, 3)
    grown = grow(Start(small, net.state_dict(), styles), large)
    bigger = Painter(large).eval()
    bigger.load_state_dict(grown.network)
    frames = torch.rand(1, 3, 32, 40) * 255
    with torch.inference_mode():
        for old, new in zip(styles, grown.styles, strict=True):
            expected, found = net(frames, old[None]), bigger(frames, new[None])
            torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    with pytest.raises(RequestError, match="can't grow"):
        grow(grown, small)


def test_a_painter_is_read_back_from_its_file(tmp_path: Path) -> None:
    config = PainterConfig(8, 4, (1, 3), 2)
    net = Painter(config)
    export_onnx(net, tmp_path / "net.onnx", style=torch.zeros(1, config.style_size))
    again = read_painter((tmp_path / "net.onnx").read_bytes())
    assert again.config == config
    torch.testing.assert_close(again.state_dict(), net.state_dict(), atol=0, rtol=0)
    with pytest.raises(RequestError, match="not a painter"):
        read_painter(b"something else")


@pytest.mark.parametrize("net", [Painter, TransformerNet, TinyNet])
def test_the_exported_network_equals_torch_at_any_size(
    tmp_path: Path, net: type[nn.Module]
) -> None:
    runtime = pytest.importorskip("openvino", reason="the comparison runs on OpenVINO")
    torch.manual_seed(0)
    module = net().eval()
    style = random_styles(PainterConfig(), 1) if net is Painter else None
    export_onnx(module, tmp_path / "net.onnx", style=style)
    compiled = runtime.Core().compile_model(
        str(tmp_path / "net.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    rng = np.random.default_rng(0)
    for n, height, width in ((1, 64, 64), (2, 40, 72)):
        frames = rng.uniform(0, 255, (n, 3, height, width)).astype(np.float32)
        given = {INPUT: frames} | ({} if style is None else {STYLE: style.numpy()})
        with torch.inference_mode():
            expected = module(*(torch.from_numpy(each) for each in given.values())).numpy()
        painted = compiled(given)[0]
        assert painted.shape == frames.shape
        np.testing.assert_allclose(painted, expected, atol=1e-2)


def test_a_painter_weaves_no_pattern_into_a_flat_frame() -> None:
    torch.manual_seed(0)
    net = Painter().eval()
    torch.nn.init.normal_(net.colour.weight)  # four phases as different as can be
    with torch.inference_mode():
        painted = net.paint(torch.full((1, 3, 64, 64), 90.0), plain_style(net.config)[None])
    assert float(painted.amax((2, 3)).sub(painted.amin((2, 3))).max()) < 1e-2


def test_a_painter_leaves_a_frame_without_contrast_as_it_is() -> None:
    net = Painter().eval()
    style = plain_style(net.config)[None]
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        black = net((noise * 2 + 3).clamp(0, 255), style)
        scene = torch.linspace(0, 255, 64).expand(1, 3, 64, 64)
        share = (net(scene, style) - scene) / (net.paint(scene, style) - scene)
    assert float(black.max()) < 20
    assert float(share.min()) > 0.99


def test_the_networks_have_their_published_sizes() -> None:
    def size(net: nn.Module) -> int:
        return sum(parameter.numel() for parameter in net.parameters())

    assert size(TransformerNet()) == 1_679_235
    assert size(TransformerNet(16)) == 424_899
    assert size(TransformerNet(8)) == 108_771
    assert size(TinyNet()) == 28_270
    assert size(Painter(SIZES["fast"])) <= 350_000
    assert [SIZES[q].style_size for q in ("fast", "balanced", "best")] == [1216, 2016, 2688]


def test_published_weights_load() -> None:
    folder = path_of("weights/transform")
    narrow = torch.load(folder / "gnsmrky_udnie_nc8.pth", weights_only=True)
    TransformerNet(8).load_state_dict(narrow)
    net = TinyNet()
    with np.load(folder / "vangogh_tiny_starry-night.npz") as variables:
        load_variables(net, variables)
    with torch.inference_mode():
        painted = net(torch.rand(1, 3, 32, 48) * 255)
    assert painted.shape == (1, 3, 32, 48)
    assert float(painted.std()) > 5
