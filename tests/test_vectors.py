"""Styles as vectors of shared networks: bound exactly, blended, and refused when they don't fit."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import networks
from impasto.cli.options import parse_blend
from impasto.errors import RequestError
from impasto.preview import preview
from impasto.records import Frames, ScorerSpec
from impasto.request import Options
from impasto.run import stylize
from impasto.runtimes import onnx_file
from impasto.scorers import open_scorer
from impasto.settings import Settings
from impasto.styles import (
    QUALITIES,
    Style,
    find_style,
    import_checkpoint,
    list_styles,
    name_of,
    network_bytes,
    save_style,
    style_vectors,
)

A = np.array([0.9, 0.6, 0.3, 10, 20, 30], np.float32)
B = np.array([0.2, 0.5, 0.8, 60, 0, 90], np.float32)


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shared networks of this test's own, one for each quality."""
    folder = tmp_path / "networks"
    folder.mkdir()
    for seed, quality in enumerate(QUALITIES):
        (folder / f"{quality}.onnx").write_bytes(networks.styled(seed))
    monkeypatch.setattr("impasto.styles.vectors._NETWORKS", folder)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of styles: a and b, vectors; fast_only, a vector of one quality; plain, a model."""
    folder = tmp_path / "styles"
    for name, vector in {"a": A, "b": B}.items():
        save(folder, name, dict.fromkeys(QUALITIES, vector))
    save(folder, "fast_only", {"fast": A})
    model = tmp_path / "plain.onnx"
    model.write_bytes(networks.identity())
    import_checkpoint(model, name="plain", user_styles=folder)
    return folder


def save(folder: Path, name: str, vectors: dict[str, NDArray[np.float32]]) -> Style:
    style = Style(name=name, title=name.upper(), network="painter", folder=folder / name)
    return save_style(style, vectors=vectors)


def painted(model: bytes, frame: Frames) -> Frames:
    height, width = frame.shape[:2]
    spec = ScorerSpec("test", "")
    scorer = open_scorer(spec, model, width=width, height=height, precision="f32")
    result: Frames = scorer(frame[None])[0]
    return result


def frame_of(seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_vector_is_the_style_input_of_its_network(quality: str, own: Path) -> None:
    style, model = find_style("a", quality, user_styles=own)
    assert tuple(style.qualities) == QUALITIES
    onnx_file.check(model)
    weights = np.random.default_rng(QUALITIES.index(quality)).uniform(0.9, 1.1, (1, 6))
    scale, shift = np.split((A * weights.astype(np.float32))[0], 2)
    expected = np.rint(frame_of() * scale + shift).clip(0, 255)
    assert np.abs(painted(model, frame_of()) - expected).max() <= 1


def test_a_bound_painter_paints_as_it_does_in_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from impasto.nets.export import export_onnx
    from impasto.nets.painter import Painter, PainterConfig, plain_style

    torch.manual_seed(3)
    config = PainterConfig(channels=16, head_channels=8, dilations=(1, 2), head_blocks=1)
    net = Painter(config).eval()
    vector = plain_style(config) + 0.3 * torch.randn(config.style_size)
    path = tmp_path / "painter.onnx"
    export_onnx(net, path, style=vector[None])
    bound = onnx_file.bind(path.read_bytes(), "style", vector.numpy()[None])
    onnx_file.check(bound)
    frame = frame_of(5)
    with torch.inference_mode():
        tensor = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        expected = net(tensor, vector[None]).clamp(0, 255)[0].permute(1, 2, 0).numpy()
    assert np.abs(painted(bound, frame) - expected).max() <= 0.51
    assert np.abs(expected - frame).mean() > 5


def test_the_vectors_of_a_style_come_back_as_they_were(own: Path) -> None:
    found = style_vectors("a", user_styles=own)
    assert tuple(found) == QUALITIES
    assert all(np.array_equal(vector, A) for vector in found.values())
    assert list(style_vectors("fast_only", user_styles=own)) == ["fast"]
    with pytest.raises(RequestError, match="'plain' has a network of its own"):
        style_vectors("plain", user_styles=own)


def test_a_style_counts_the_bytes_that_it_takes(own: Path) -> None:
    for style in list_styles(own):
        if not style.shipped:
            assert style.bytes == sum(path.stat().st_size for path in style.folder.iterdir())


def test_networks_are_no_style(own: Path, shared: Path) -> None:
    assert "networks" not in {style.name for style in list_styles(own)}
    with pytest.raises(RequestError, match="no style 'networks'"):
        find_style("networks", user_styles=shared.parent)


def test_a_missing_quality_names_those_there_are(own: Path) -> None:
    for style in ("fast_only", {"a": 1.0, "fast_only": 1.0}):
        with pytest.raises(RequestError, match="'fast_only' has no quality 'best'; it has: fast"):
            find_style(style, "best", user_styles=own)
    with pytest.raises(RequestError, match="quality must be one of fast, balanced, best"):
        network_bytes("../secret")


def test_a_blend_of_one_is_that_style_byte_for_byte(own: Path) -> None:
    for quality in QUALITIES:
        pure = find_style("a", quality, user_styles=own)
        for blend in ({"a": 1.0}, {"a": 0.3, "b": 0.0}, {"a": 1e308}):
            assert find_style(blend, quality, user_styles=own) == pure
            assert name_of(blend) == "a"
    plain = find_style("plain", user_styles=own)
    assert find_style({"plain": 2.0}, user_styles=own) == plain


def test_a_blend_goes_from_one_style_to_the_other(own: Path) -> None:
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    models = [find_style({"a": 1 - t, "b": t}, user_styles=own)[1] for t in shares]
    assert len(set(models)) == len(models)
    pictures = [painted(model, frame_of()).astype(float) for model in models]
    from_a = [np.abs(each - pictures[0]).mean() for each in pictures]
    from_b = [np.abs(each - pictures[-1]).mean() for each in pictures]
    assert from_a == sorted(from_a)
    assert from_b == sorted(from_b, reverse=True)


def test_only_the_proportions_of_weights_count(own: Path) -> None:
    style, model = find_style({"a": 0.7, "b": 0.3}, user_styles=own)
    assert (style.name, style.title) == ("a70_b30", "70% A, 30% B")
    assert find_style({"a": 7, "b": 3}, user_styles=own)[1] == model
    huge = find_style({"a": 1.6e308, "b": 1.6e308}, user_styles=own)
    assert huge == find_style({"a": 1, "b": 1}, user_styles=own)


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({}, "at least one style"),
        ({"a": 0.0, "b": 0.0}, "weight above 0"),
        ({"a": 1.0, "b": -0.5}, "a number from 0 up, got b:-0.5"),
        ({"a": float("nan")}, "a number from 0 up, got a:nan"),
        ({"a": float("inf"), "b": 1.0}, "a number from 0 up, got a:inf"),
        ({"a": 1.0, "nobody": 1.0}, "no style 'nobody'"),
        ({"a": 1.0, "nobody": 0.0}, "no style 'nobody'"),
        ({"a": 1.0, "plain": 1.0}, "'plain' has a network of its own"),
    ],
)
def test_a_blend_that_can_not_be_is_one_line(
    blend: dict[str, float], message: str, own: Path
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        find_style(blend, user_styles=own)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--blend reads"),
        ("a", "--blend reads"),
        ("a:", "--blend reads"),
        (":1", "--blend reads"),
        ("a:1,", "--blend reads"),
        ("a:1:2", "--blend reads"),
        ("a=1", "--blend reads"),
        ("a:much", "--blend reads"),
        ("a:1,a:2", "names 'a' twice"),
    ],
)
def test_a_blend_is_read_strictly(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_blend(text)
    assert parse_blend(" a:0.7, b:.3") == {"a": 0.7, "b": 0.3}


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(content: bytes, name: str = "balanced.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def header(text: str) -> bytes:
    line = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"
GOOD = npz(balanced=A)
DAMAGED = {
    "empty": (b"", "not an archive of vectors"),
    "junk": (b"junk", "not an archive of vectors"),
    "cut": (GOOD[:-10], "not an archive of vectors"),
    "flipped": (GOOD.replace(A.tobytes(), B.tobytes()), "not an archive of vectors"),
    "objects": (npz(balanced=np.array([{}], object)), "not an archive of vectors"),
    "pickle": (zipped(b"\x80\x04N."), "float32"),
    "text": (zipped(b"hello", "balanced"), "float32"),
    "unclosed": (zipped(header("{'descr': (((")), "not an archive of vectors"),
    "huge shape": (zipped(header(HUGE)), "not an archive of vectors"),
    "bomb": (npz(balanced=np.zeros(1 << 20, np.float32)), "at most 1048576 are accepted"),
    "packed bomb": (zipped(bytes(1 << 24)), "at most 1048576 are accepted"),
    "other quality": (npz(fast=A), "no vector for 'balanced'"),
    "double": (npz(balanced=A.astype(np.float64)), "float32"),
    "big endian": (npz(balanced=A.astype(">f4")), "float32"),
    "two axes": (npz(balanced=A[None]), "float32"),
    "too short": (npz(balanced=A[:5]), "takes style vectors of 6 numbers, got 5"),
    "nan": (npz(balanced=np.array([*A[:5], np.nan], np.float32)), "not finite"),
    "infinite": (npz(balanced=np.full(6, np.inf, np.float32)), "not finite"),
    "too large": (npz(balanced=np.full(6, 1e30, np.float32)), "far too large"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_vectors_are_refused_in_one_line(case: str, own: Path) -> None:
    content, message = DAMAGED[case]
    put(own / "a", content)
    for style in ("a", {"b": 1.0, "a": 1.0}):
        with pytest.raises(RequestError, match=message) as caught:
            find_style(style, user_styles=own)
        assert "\n" not in str(caught.value)
        assert "'a', vectors.npz" in str(caught.value)


def put(folder: Path, content: bytes) -> None:
    """Replace a style's vectors, with a card that vouches for them."""
    (folder / "vectors.npz").write_bytes(content)
    change_card(folder, sha256=hashlib.sha256(content).hexdigest())


def change_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | changes))


def test_damaged_bytes_never_end_in_a_traceback(own: Path) -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        content = bytearray(GOOD)
        for place in random.integers(0, len(content), random.integers(1, 5)):
            content[place] = random.integers(0, 256)
        put(own / "a", bytes(content))
        try:
            find_style("a", user_styles=own)
        except RequestError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most, not all, are refused


def test_vectors_that_are_not_the_cards_are_refused(own: Path) -> None:
    (own / "a" / "vectors.npz").write_bytes((own / "b" / "vectors.npz").read_bytes())
    with pytest.raises(RequestError, match="the digests differ"):
        find_style("a", user_styles=own)


def test_a_vector_of_another_network_is_to_be_learned_again(own: Path, shared: Path) -> None:
    (shared / "balanced.onnx").write_bytes(networks.styled(9))
    with pytest.raises(RequestError, match="'balanced' network of another release"):
        find_style("a", user_styles=own)
    assert find_style("a", "fast", user_styles=own)
    (shared / "balanced.onnx").unlink()
    with pytest.raises(RequestError, match="can't be read: No such file"):
        find_style("a", user_styles=own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": {"fast": "0" * 64}}, "other networks than qualities"),
        ({"networks": dict.fromkeys(QUALITIES, 7)}, "can't be read"),
        ({"qualities": dict.fromkeys(QUALITIES, "../b/vectors.npz")}, "does not lie beside it"),
        ({"qualities": dict.fromkeys(QUALITIES, "gone.npz")}, "can't be read"),
    ],
)
def test_a_card_that_does_not_fit_its_vectors_is_refused(
    changes: dict[str, object], message: str, own: Path
) -> None:
    change_card(own / "a", **changes)
    with pytest.raises(RequestError, match=message):
        find_style("a", user_styles=own)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"balanced": A[:5]}, "takes style vectors of 6 numbers"),
        ({"balanced": A * np.float32("nan")}, "not finite"),
        ({"balanced": A.astype(np.float64)}, "float32"),
        ({"finest": A}, "quality must be one of"),
        ({}, "needs a network or vectors"),
    ],
)
def test_a_style_that_can_not_be_saved_leaves_the_old_one(
    vectors: dict[str, Any], message: str, own: Path
) -> None:
    before = find_style("a", user_styles=own)
    for name in ("a", "made"):
        with pytest.raises(RequestError, match=message):
            save(own, name, vectors)
    assert find_style("a", user_styles=own) == before
    assert sorted(path.name for path in own.iterdir()) == ["a", "b", "fast_only", "plain"]


def test_a_style_is_replaced_whole_or_not_at_all(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = find_style("a", user_styles=own)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)  # some disks notice it as late as that
        with pytest.raises(RequestError, match="can't be written: No space left"):
            save(own, "a", {"fast": B})
    assert find_style("a", user_styles=own) == before
    assert sorted(path.name for path in own.iterdir()) == ["a", "b", "fast_only", "plain"]
    (own / "a" / "losses.jsonl").write_text("{}\n")
    saved = save(own, "a", {"fast": B})
    assert find_style("a", "fast", user_styles=own)[0] == saved
    assert sorted(path.name for path in (own / "a").iterdir()) == [
        "card.json", "losses.jsonl", "vectors.npz",
    ]  # fmt: skip


def test_a_vector_takes_the_place_of_a_network_and_the_other_way_round(own: Path) -> None:
    save(own, "plain", {"fast": A})
    assert [path.name for path in sorted((own / "plain").iterdir())] == ["card.json", "vectors.npz"]
    style, _ = find_style("plain", "fast", user_styles=own)
    again = save_style(style, model=networks.invert())
    assert find_style("plain", user_styles=own) == (again, networks.invert())
    assert again.networks == {}
    assert [path.name for path in sorted((own / "plain").iterdir())] == ["card.json", "style.onnx"]


def test_a_style_may_be_saved_for_networks_that_do_not_ship_yet(own: Path, shared: Path) -> None:
    coming = networks.styled(7)
    style = Style(name="made", folder=own / "made")
    save_style(style, vectors={"fast": A}, networks={"fast": coming})
    with pytest.raises(RequestError, match="learn it again"):
        find_style("made", "fast", user_styles=own)
    (shared / "fast.onnx").write_bytes(coming)
    assert find_style("made", "fast", user_styles=own)[0].networks.keys() == {"fast"}


def test_the_same_vectors_make_the_same_files(own: Path) -> None:
    before = [path.read_bytes() for path in sorted((own / "a").iterdir())]
    save(own, "a", {quality: A.copy() for quality in reversed(QUALITIES)})
    assert [path.read_bytes() for path in sorted((own / "a").iterdir())] == before


def test_binding_asks_for_an_input_of_that_size() -> None:
    model = networks.styled()
    assert onnx_file.input_shape(model, "style") == (1, 6)
    with pytest.raises(RequestError, match=r"has shape \(1, 6\), got \(6,\)"):
        onnx_file.bind(model, "style", A)
    for name in ("frames", "nothing"):
        with pytest.raises(RequestError, match="no input"):
            onnx_file.bind(model, name, A)
    for broken in (b"", b"junk", model[: len(model) // 2]):
        with pytest.raises(RequestError):
            onnx_file.bind(broken, "style", A[None])


def test_a_blend_paints_a_video_that_is_named_after_it(
    media: Callable[[str], Path], own: Path, tmp_path: Path
) -> None:
    source = tmp_path / "clip.mp4"
    source.write_bytes(media("cfr_24").read_bytes())
    settings = Settings(user_styles=own, system_store=str(tmp_path / "store"))
    options = Options(engine="inline", end="0.2", keep=True, quality="fast")
    blend = {"a": 0.7, "b": 0.3}
    report = stylize(source, style=blend, options=options, settings=settings)
    assert report.verified
    assert Path(report.target).name == "clip.a70_b30.0s-0.2s.mp4"
    (kept,) = (tmp_path / "store" / "runs").glob("*/request.json")
    assert json.loads(kept.read_bytes())["style"] == blend
    other = stylize(source, style={"a": 0.6, "b": 0.4}, options=options, settings=settings)
    assert other.run_id != report.run_id


def test_a_sheet_has_a_row_for_a_blend(
    media: Callable[[str], Path], own: Path, tmp_path: Path
) -> None:
    settings = Settings(user_styles=own, system_store="")
    report = preview(
        media("cfr_24"), styles=["a", {"a": 1, "b": 1}], strengths=[1.0], quality="fast", frames=1,
        target=tmp_path / "sheet.png", settings=settings,
    )  # fmt: skip
    assert report.styles == ("a", "a50_b50")
