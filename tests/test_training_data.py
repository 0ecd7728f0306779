"""What a training sees: paintings and photographs, the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
Image = pytest.importorskip(
    "PIL.Image", reason="training needs pillow: pip install 'impasto[train]'"
)

from impasto.errors import RequestError  # noqa: E402 - after the skips above
from impasto.train.data import open_photographs, read_painting, read_picture  # noqa: E402
from studio import furnish  # noqa: E402


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    return furnish(tmp_path)


def test_a_photograph_of_a_painting_is_read_as_it_is_viewed(tmp_path: Path) -> None:
    upright = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(10, 6) * 4)
    turned = Image.Exif()
    turned[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    read = np.asarray(read_picture(tmp_path / "turned.png"))
    np.testing.assert_array_equal(read[..., 0], np.asarray(upright))
    deep = np.asarray(upright).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    read = np.asarray(read_picture(tmp_path / "deep.png"))
    np.testing.assert_allclose(read[..., 2].astype(int), np.asarray(upright), atol=1)


def test_a_painting_that_nothing_can_be_learned_of_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (20, 40, 60)).save(tmp_path / "plain.png")
    Image.effect_noise((3000, 20), 50).save(tmp_path / "strip.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "other.ppm")
    (tmp_path / "other.ppm").rename(tmp_path / "other.png")
    for name, said in (("plain", "one plain colour"), ("strip", "strip of 3000x20"),
                       ("other", "is not a picture")):  # fmt: skip
        with pytest.raises(RequestError, match=said):
            read_painting(tmp_path / f"{name}.png", shorter_px=64)


def test_a_folder_of_bad_photographs_is_an_error(tmp_path: Path) -> None:
    for name in ("bad.png", "worse.png"):
        (tmp_path / name).write_bytes(b"no picture")
    photographs = open_photographs(tmp_path, lambda line: None)
    with pytest.raises(RequestError, match="unreadable"):
        photographs.crops(np.random.default_rng(0), count=1, size_px=32)
    with pytest.raises(RequestError, match="no photograph in"):
        photographs.hold_out(1)


def test_too_few_photographs_are_an_error(tmp_path: Path, studio: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RequestError, match="holds no photographs"):
        open_photographs(empty, lambda line: None)
    with pytest.raises(RequestError, match="does not exist"):
        open_photographs(tmp_path / "nowhere", lambda line: None)
    (studio / "content" / "0.png").rename(empty / "0.png")
    with pytest.raises(RequestError, match="holds one photograph"):
        open_photographs(empty, lambda line: None).hold_out(24)


def test_photographs_are_held_out_from_the_end(studio: Path) -> None:
    photographs = open_photographs(studio / "content", lambda line: None)
    held_out = photographs.hold_out(24)  # more than there are: a quarter
    assert [path.name for path in held_out.paths] == ["4.png"]
    assert [path.name for path in photographs.paths] == ["0.png", "1.png", "2.png", "3.png"]


def test_crops_depend_on_the_seed_only(studio: Path) -> None:
    photographs = open_photographs(studio / "content", lambda line: None)
    first = photographs.crops(np.random.default_rng(3), count=4, size_px=40)
    photographs.crops(np.random.default_rng(4), count=1, size_px=40)
    again = photographs.crops(np.random.default_rng(3), count=4, size_px=40)
    assert first.shape == (4, 3, 40, 40)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)


def test_photographs_are_the_same_however_their_folder_is_spelled(
    studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(studio)
    spelled = (studio / "content", Path("content"), studio / "content" / ".." / "content")
    sets = [open_photographs(folder, lambda line: None).names() for folder in spelled]
    assert sets[0] == sets[1] == sets[2]
    (studio / "content" / "0.png").rename(studio / "content" / "9.png")
    assert open_photographs(studio / "content", lambda line: None).names() != sets[0]
