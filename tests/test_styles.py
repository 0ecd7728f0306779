"""Styles are found by name, checked against their cards, and made of published checkpoints."""

import hashlib
import io
import json
import os
import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

import networks
import shared_data
from impasto.errors import RequestError
from impasto.records import Frames, ScorerSpec
from impasto.runtimes.openvino import supported_precisions
from impasto.scorers import gate_db, open_scorer, psnr_db
from impasto.styles import Style, find_style, import_checkpoint, list_styles

TRANSFORM = "weights/transform"
CHECKPOINTS = [
    "fns_onnxzoo_candy.pth",
    "fns_onnxzoo_mosaic.pth",
    "fns_onnxzoo_udnie.pth",
    "gnsmrky_mosaic_nc16.pth",
    "gnsmrky_mosaic_nc8.pth",
    "gnsmrky_udnie_nc8.pth",
    "vangogh_tiny_bedroom.npz",
    "vangogh_tiny_starry-night.npz",
]


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of styles with one in it: plain, the identity; never written to."""
    folder = tmp_path_factory.mktemp("plain") / "styles"
    import_model(networks.identity(), "plain", folder)
    return folder


@pytest.fixture
def own(plain: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(plain, tmp_path / "styles"))


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for published checkpoints, each imported once."""
    return tmp_path_factory.mktemp("imported")


def import_model(model: bytes, name: str, folder: Path, *, force: bool = False) -> Style:
    file = folder.parent / f"{name}.onnx"
    file.write_bytes(model)
    return import_checkpoint(file, name=name, user_styles=folder, title="Plain", force=force)


def test_what_a_style_is_made_of_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    style = import_model(networks.identity(), "plain", tmp_path / "styles")
    files = [path.stat().st_ino for path in style.folder.iterdir()]
    assert len(files) == 2
    assert set(files) <= synced


def import_published(file: str, folder: Path) -> bytes:
    path = shared_data.path_of(f"{TRANSFORM}/{file}")
    name = path.stem.lower().replace("-", "_")
    if not (folder / name).exists():
        import_checkpoint(path, name=name, user_styles=folder)
    return find_style(name, user_styles=folder)[1]


@cache
def amber() -> Frames:
    with Image.open(shared_data.path_of("weights/parity/amber.jpg")) as picture:
        return np.asarray(picture.convert("RGB"))


def painted(model: bytes, frame: Frames) -> Frames:
    height, width = frame.shape[:2]
    spec = ScorerSpec("test", "")
    scorer = open_scorer(spec, model, width=width, height=height, precision="f32")
    result: Frames = scorer(frame[None])[0]
    return result


def test_the_shipped_styles_open_and_match_their_cards() -> None:
    for style in list_styles():
        assert style.shipped
        for quality in style.qualities:
            found, model = find_style(style.name, quality)
            assert found == style
            assert model


def test_a_style_of_ones_own_is_listed_after_the_shipped_ones(own: Path) -> None:
    assert [style.name for style in list_styles(own)][-1] == "plain"
    assert [style.shipped for style in list_styles(own)][-1] is False
    assert list_styles(own)[:-1] == list_styles()
    assert list_styles(own / "nowhere") == list_styles()


def test_a_style_is_found_with_its_bytes(own: Path) -> None:
    style, model = find_style("plain", user_styles=own)
    assert model == networks.identity()
    assert (style.title, style.network) == ("Plain", "onnx")
    assert style.bytes == sum(path.stat().st_size for path in style.folder.iterdir())
    frame = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    assert np.array_equal(painted(model, frame), frame)


def test_an_unknown_style_brings_close_names_and_the_way_to_all(own: Path) -> None:
    with pytest.raises(RequestError, match=r"did you mean plain\?$"):
        find_style("plian", user_styles=own)
    with pytest.raises(RequestError, match="no style 'q'; see the list of styles"):
        find_style("q", user_styles=own)
    for asked in ("my.jpg", {"my.jpg": 1.0}):
        with pytest.raises(RequestError, match=r"learned first: impasto styles learn my\.jpg"):
            find_style(asked, user_styles=own)


def test_an_unknown_quality_brings_the_known_ones(own: Path) -> None:
    with pytest.raises(RequestError, match="no quality 'best'; it has: balanced"):
        find_style("plain", "best", user_styles=own)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../plain", "plain/", "/etc", "Plain", "a b", "a\nb", "é", "x" * 65]
)
def test_a_name_is_never_a_path(name: str, own: Path) -> None:
    with pytest.raises(RequestError) as unknown:
        find_style(name, user_styles=own)
    with pytest.raises(RequestError, match="a style's name is") as refused:
        import_checkpoint(own.parent / "plain.onnx", name=name, user_styles=own)
    assert "\n" not in f"{unknown.value}{refused.value}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "the digests differ"),
        ({"name": "other"}, "is the card of 'other'"),
        ({"qualities": {}}, "names no quality"),
        ({"qualities": {"balanced": "../../plain.onnx"}}, "does not lie beside it"),
        ({"qualities": {"balanced": ".."}}, "does not lie beside it"),
        ({"qualities": {"balanced": "style\0.onnx"}}, "does not lie beside it"),
        ({"qualities": {"balanced": "s" * 300}}, "does not lie beside it"),
        ({"qualities": {"balanced": "gone.onnx"}}, "can't be read"),
        ({"qualities": 3}, "can't be read"),
        ({"parameters": "many"}, "can't be read"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    change: dict[str, object], message: str, own: Path
) -> None:
    card = own / "plain" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    with pytest.raises(RequestError, match=message):
        find_style("plain", user_styles=own)


def test_a_card_of_the_first_release_is_still_read(own: Path) -> None:
    card = own / "plain" / "card.json"
    card.write_text(json.dumps({
        "name": "plain", "title": "Plain", "artist": "", "year": "", "source": "", "licence": "",
        "network": "onnx", "parameters": 0, "preprocessing": "RGB 0..255 float32 NCHW",
        "multiple_of": 4, "bytes": len(networks.identity()),
        "sha256": hashlib.sha256(networks.identity()).hexdigest(), "trained": {},
        "qualities": {"balanced": "style.onnx"}, "sha256_by_quality": {},
    }))  # fmt: skip
    style, model = find_style("plain", user_styles=own)
    assert model == networks.identity()
    assert (style.title, list(style.qualities)) == ("Plain", ["balanced"])


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b"[" * 100_000])
def test_a_damaged_card_is_named(text: bytes, own: Path) -> None:
    (own / "plain" / "card.json").write_bytes(text)
    for call in (lambda: find_style("plain", user_styles=own), lambda: list_styles(own)):
        with pytest.raises(RequestError, match=r"card\.json can't be read"):
            call()


def test_a_damaged_network_is_refused(own: Path) -> None:
    with (own / "plain" / "style.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(RequestError, match="the digests differ"):
        find_style("plain", user_styles=own)


def test_every_quality_is_checked_by_its_own_digest(own: Path) -> None:
    fast = networks.invert()
    (own / "plain" / "fast.onnx").write_bytes(fast)
    path = own / "plain" / "card.json"
    card = json.loads(path.read_text())
    card["qualities"]["fast"] = "fast.onnx"
    path.write_text(json.dumps(card))
    with pytest.raises(RequestError, match="the digests differ"):
        find_style("plain", "fast", user_styles=own)
    card["sha256_by_quality"] = {"fast": hashlib.sha256(fast).hexdigest()}
    path.write_text(json.dumps(card))
    assert find_style("plain", "fast", user_styles=own)[1] == fast


def test_a_taken_name_needs_force(own: Path) -> None:
    with pytest.raises(RequestError, match="style 'plain' exists"):
        import_model(networks.invert(), "plain", own)
    import_model(networks.invert(), "plain", own, force=True)
    assert find_style("plain", user_styles=own)[1] == networks.invert()


def test_a_shipped_name_stays_the_shipped_style(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impasto.styles.catalogue.is_shipped", lambda name: name == "starry_night")
    with pytest.raises(RequestError, match="ships with Impasto"):
        import_model(networks.identity(), "starry_night", own, force=True)


def npy(array: NDArray[np.float32]) -> bytes:
    """A single array in numpy's own format."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.pth", b"", "not a checkpoint that holds weights only"),
        ("a.pth", b"junk", "not a checkpoint that holds weights only"),
        ("a.npz", b"junk", "not an archive of arrays"),
        ("a.npz", b"PK\x03\x04junk", "not an archive of arrays"),
        ("a.npz", npy(np.zeros(3, np.float32)), "not an archive of arrays"),
        ("a.onnx", b"junk", "not a sound ONNX file"),
        ("a.onnx", networks.doubling(), "same size|its input's size"),
        ("a.onnx", networks.with_external_weights("/etc/hostname"), "in other files"),
        ("a.onnx", networks.pad_without_pads(), "model"),
    ],
)
def test_a_malformed_checkpoint_leaves_nothing_behind(
    file: str, content: bytes, message: str, own: Path, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        import_checkpoint(path, name="made", user_styles=own)
    assert "\n" not in str(caught.value)
    assert sorted(each.name for each in own.iterdir()) == ["plain"]


def test_what_is_no_file_is_refused(own: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "gone.pth", tmp_path):
        with pytest.raises(RequestError, match="no checkpoint at"):
            import_checkpoint(path, name="made", user_styles=own)


def test_an_archive_that_unpacks_to_too_much_is_refused(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, Variable_00=np.zeros(1 << 20, np.float32))
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr("impasto.styles.importer.MAX_BYTES", 1 << 20)
    with pytest.raises(RequestError, match="at most 1048576 are accepted"):
        import_checkpoint(path, name="made", user_styles=own)


def test_an_array_of_objects_is_never_unpickled(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    np.savez(path, Variable_00=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RequestError, match="not an archive of arrays"):
        import_checkpoint(path, name="made", user_styles=own)


def test_a_pickle_that_runs_code_is_never_run(own: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    marker = tmp_path / "was_here"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    torch.save({"conv1.conv2d.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(RequestError, match="weights only"):
        import_checkpoint(tmp_path / "trap.pth", name="made", user_styles=own)
    assert not marker.exists()


def test_a_state_dict_of_another_network_is_refused(own: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from impasto.nets.transformer import TransformerNet

    good = TransformerNet(width=4).state_dict()
    path = tmp_path / "made.pth"
    wrong = {
        "holds no state dict": [1, 2],
        r"conv1\.conv2d\.weight is missing": {"features.0.weight": torch.zeros(1)},
        "in5.weight is missing": {key: good[key] for key in good if key != "in5.weight"},
        "more is unknown": good | {"more": torch.zeros(1)},
        r"in1\.bias has shape \(5,\), expected \(4,\)": good | {"in1.bias": torch.zeros(5)},
        "in1.bias holds a number that is not finite": good | {"in1.bias": torch.full((4,), np.nan)},
    }
    for message, content in wrong.items():
        torch.save(content, path)
        with pytest.raises(RequestError, match=message):
            import_checkpoint(path, name="made", user_styles=own)


def test_statistics_of_old_releases_are_left_out(own: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from impasto.nets.transformer import TransformerNet

    weights = TransformerNet(width=4).state_dict()
    old = {f"in1.running_{what}": torch.zeros(4) for what in ("mean", "var")}
    old |= {f"res2.in2.running_{what}": torch.zeros(16) for what in ("mean", "var")}
    torch.save(weights | old, tmp_path / "old.pth")
    style = import_checkpoint(tmp_path / "old.pth", name="old", user_styles=own)
    assert style.network == "transformer"
    assert find_style("old", user_styles=own)[0] == style


def test_without_torch_the_way_out_is_named(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"anything")
    with pytest.raises(RequestError, match=r"pip install 'impasto\[train\]'"):
        import_checkpoint(tmp_path / "a.pth", name="made", user_styles=own)


@pytest.mark.parametrize("file", CHECKPOINTS)
def test_a_published_checkpoint_paints_as_its_definition_does(file: str, imported: Path) -> None:
    torch = pytest.importorskip("torch")
    from impasto.styles.importer import _tiny, _transformer

    model = import_published(file, imported)
    path = shared_data.path_of(f"{TRANSFORM}/{file}")
    net = (_tiny if path.suffix == ".npz" else _transformer)(path).eval()
    frame = np.ascontiguousarray(amber()[300:428, 400:560])
    with torch.inference_mode():
        tensor = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
        expected = net(tensor).clamp(0, 255).round()[0].permute(1, 2, 0).numpy().astype(np.uint8)
    assert psnr_db(painted(model, frame), expected) >= 60


@pytest.mark.parametrize("style", ["candy", "mosaic", "udnie"])
def test_a_published_style_gives_its_published_picture(style: str, imported: Path) -> None:
    model = import_published(f"fns_onnxzoo_{style}.pth", imported)
    with Image.open(shared_data.path_of(f"weights/parity/amber-{style}.jpg")) as published:
        expected = np.asarray(published.convert("RGB"))
        assert isinstance(published, JpegImagePlugin.JpegImageFile)
        tables, sampling = published.quantization, JpegImagePlugin.get_sampling(published)
    packed = io.BytesIO()
    Image.fromarray(painted(model, amber())).save(
        packed, "JPEG", qtables=tables, subsampling=sampling
    )
    with Image.open(packed) as same_way:
        assert psnr_db(np.asarray(same_way), expected) >= 30


@pytest.mark.skipif("bf16" not in supported_precisions(), reason="this processor has no bf16")
@pytest.mark.parametrize("file", CHECKPOINTS[:4])
def test_a_published_style_passes_the_gate_in_bf16(file: str, imported: Path) -> None:
    model = import_published(file, imported)
    frame = np.ascontiguousarray(amber()[200:520, 300:620])
    assert gate_db(ScorerSpec("test", ""), model, frame, precision="bf16") >= 40
