"""The side-by-side clip: every frame beside its own, on the source's timestamps, with its sound."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from frame_mark import read_frame_number
from impasto.errors import RequestError
from impasto.media.compare import compare
from impasto.media.probe import probe
from impasto.media.verify import verify
from media_table import case_named

Media = Callable[[str], Path]
_DIVIDER_PX = 4


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def by_name(source: Path, clip: Path) -> dict[str, bool]:
    return {check.name: check.ok for check in verify(source, clip)}


@pytest.mark.parametrize("name", ["cfr_24", "vfr", "bframes"])
def test_every_frame_stands_beside_its_own_at_its_own_time(
    media: Media, tmp_path: Path, name: str
) -> None:
    source = media(name)
    out = tmp_path / f"side{source.suffix}"
    compare(source, source, out)
    expected = list(case_named(name).expected_numbers)
    shown = pictures(out)
    half = (shown[0].shape[1] - _DIVIDER_PX) // 2
    assert [read_frame_number(picture[:, :half]) for picture in shown] == expected
    assert [read_frame_number(picture[:, -half:]) for picture in shown] == expected
    checks = by_name(source, out)
    assert checks["timestamps"]
    assert checks["audio_packets"]
    assert checks["stream_offsets"]


def test_a_rotated_source_stands_upright(media: Media, tmp_path: Path) -> None:
    turned = media("rotation_90")
    source = probe(turned)
    out = tmp_path / "side.mp4"
    compare(turned, turned, out)
    side = probe(out)
    assert side.rotation == 0
    assert (side.width, side.height) == (2 * source.display_width + _DIVIDER_PX,
                                         source.display_height)  # fmt: skip
    assert side.sample_aspect_ratio == 1


def test_the_halves_are_told_apart_by_a_thin_line(media: Media, tmp_path: Path) -> None:
    out = tmp_path / "side.mp4"
    compare(media("cfr_24"), media("cfr_24"), out)
    picture = pictures(out)[0]
    middle = picture.shape[1] // 2
    assert picture[:, middle - 1 : middle + 1].mean() > 200


def test_a_target_of_another_length_is_refused_before_anything_is_written(
    media: Media, tmp_path: Path
) -> None:
    out = tmp_path / "side.mp4"
    with pytest.raises(RequestError, match="frames"):
        compare(media("cfr_24"), media("one_frame"), out)
    assert not list(tmp_path.iterdir())


def test_a_clip_is_not_overwritten_unless_forced(media: Media, tmp_path: Path) -> None:
    out = tmp_path / "side.mp4"
    out.write_bytes(b"mine")
    with pytest.raises(RequestError, match="force overwrites it"):
        compare(media("cfr_24"), media("cfr_24"), out)
    assert out.read_bytes() == b"mine"
    compare(media("cfr_24"), media("cfr_24"), out, force=True)
    assert len(probe(out).ledger) == 36


def test_a_container_that_holds_no_h264_is_refused(media: Media, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="h264"):
        compare(media("cfr_24"), media("cfr_24"), tmp_path / "side.webm")
