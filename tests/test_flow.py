"""Warping errors along optical flow: what moves with the scene is calm, what stays is not."""

from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
pytest.importorskip("cv2", reason="optical flow needs OpenCV: pip install 'impasto[train]'")
Image = pytest.importorskip(
    "PIL.Image", reason="training needs pillow: pip install 'impasto[train]'"
)

from impasto.errors import RequestError  # noqa: E402 - after the skips above
from impasto.records import Frames  # noqa: E402
from impasto.scorers.flow import seen_in_both, warp  # noqa: E402
from impasto.train.clips import (  # noqa: E402
    Clip,
    clip_of,
    clip_warping,
    read_clip,
    read_clips,
)

STEP = (3, 1)
"""Pixels right and down that the scene moves per frame."""


def scene(seed: int, width: int = 160, height: int = 128) -> Frames:
    """A smooth picture with detail everywhere, (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(large)


@pytest.fixture(scope="module")
def pan() -> Clip:
    wide = scene(1)
    frames = [wide[20 - i * STEP[1] :, 20 - i * STEP[0] :][:96, :128] for i in range(4)]
    return clip_of("pan", np.ascontiguousarray(np.stack(frames)))


def test_the_flow_of_a_pan_is_its_step(pan: Clip) -> None:
    for flow, mask in zip(pan.flows, pan.visible, strict=True):
        assert mask.mean() > 0.8
        assert np.abs(flow[mask] - STEP).mean() < 0.2


def test_what_leaves_the_frame_is_not_seen_again(pan: Clip) -> None:
    for mask in pan.visible:
        assert not mask[:, -STEP[0] :].any()
        assert not mask[-STEP[1] :].any()


def test_what_moves_with_the_scene_is_calm_and_what_stays_behind_is_not(pan: Clip) -> None:
    negative = 255 - pan.frames
    grid = (np.indices((96, 128)).sum(axis=0) % 8 < 4)[None, :, :, None] * np.uint8(40)
    calm, stuck = clip_warping(negative, pan), clip_warping(pan.frames // 2 + grid, pan)
    assert calm.mse == pytest.approx(clip_warping(pan.frames, pan).mse, rel=1e-3)
    assert calm.mse < 1e-3
    assert stuck.mse > 10 * calm.mse
    assert stuck.relative > 3 * calm.relative


def test_camera_noise_counts_as_the_mean_square_of_two_frames() -> None:
    still = clip_of("still", np.repeat(scene(2)[None], 5, axis=0))
    assert clip_warping(still.frames, still).mse == 0
    noise = np.random.default_rng(0).normal(0, 5, still.frames.shape)
    noisy = np.clip(128 + noise, 0, 255).round().astype(np.uint8)
    assert clip_warping(noisy, still).mse == pytest.approx(2 * (5 / 255) ** 2, rel=0.05)
    assert clip_warping(noisy, still).relative == pytest.approx(2**0.5, rel=0.05)


def test_a_flow_that_does_not_lead_back_is_occluded() -> None:
    forward = np.zeros((32, 32, 2), np.float32)
    backward = np.zeros((32, 32, 2), np.float32)
    backward[8:16, 8:16] = 4
    visible = seen_in_both(forward, backward)
    assert not visible[8:16, 8:16].any()
    assert visible.sum() == 32 * 32 - 8 * 8


def test_a_motion_boundary_is_left_out() -> None:
    forward = np.zeros((32, 32, 2), np.float32)
    forward[:, 16:, 0] = 0.5
    visible = seen_in_both(forward, -forward)
    assert not visible[:, 15].any()
    assert visible[:, :15].all()


def test_warping_fetches_from_where_the_flow_leads() -> None:
    picture = scene(3)
    flow = np.zeros((*picture.shape[:2], 2), np.float32)
    flow[..., 0] = 1.5
    found = warp(picture.astype(np.float32), flow)
    halfway = (picture[:, 1:-1].astype(np.float32) + picture[:, 2:]) / 2
    assert np.allclose(found[:, : halfway.shape[1]], halfway, atol=1e-3)


def test_scenes_that_have_nothing_in_common_are_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(RequestError, match="clip noise has no neighbouring frames"):
        clip_of("noise", noise)


def test_a_clip_is_read_out_of_its_middle(pan: Clip, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for picture in [*pan.frames, *pan.frames[::-1]]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    clip = read_clip(path, count=4, width=64)
    assert clip.name == "film.mp4"
    assert clip.frames.shape == (4, 48, 64, 3)
    assert len(clip.flows) == len(clip.visible) == 3
    with pytest.raises(RequestError, match="clips need different file names"):
        read_clips([path, path], count=4, width=64)
