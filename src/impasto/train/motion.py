"""Made-up motion, and the term that makes a style hold still between frames."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_BEND_PX = 3.0
_BEND_CELLS = 4
_LARGEST_OCCLUDER = 0.3


@dataclass(frozen=True, slots=True)
class View:
    """The same scenes a moment later."""

    scene: Tensor
    """float32 (N, 3, H, W), RGB about 0..255."""
    grid: Tensor
    """(N, H, W, 2) in -1..1: where each pixel was before; see `move`."""
    visible: Tensor
    """float32 (N, 1, H, W): 1 where it was in the picture before, and nothing stands before it."""


def second_view(rng: np.random.Generator, scenes: Tensor, *, noise_levels: float) -> View:
    """Move scenes (N, 3, H, W) as between neighbouring frames of a film.

    The camera moves (an affine motion), things move (a smooth flow on top of it), something passes
    in front (a disc of another place), the light changes a little, and every frame has noise of its
    own, `noise_levels` of 255 in standard deviation.
    """
    count, _, height, width = scenes.shape
    grid = (_camera(rng, count, height, width) + _bend(rng, count, height, width)).to(scenes.device)
    inside = (grid.abs().amax(dim=3) <= 1)[:, None].float()
    occluder = _disc(rng, count, height, width).to(scenes.device)  # (N, 1, H, W)
    moved = move(scenes, grid)
    moved = torch.where(occluder > 0, scenes.flip(2, 3), moved)
    gain = _random(rng, 0.94, 1.06, count).to(scenes.device)
    offset = _random(rng, -6, 6, count).to(scenes.device)
    noise = torch.from_numpy(rng.standard_normal(scenes.shape, dtype=np.float32))
    moved = moved * gain + offset + noise_levels * noise.to(scenes.device)
    return View(moved, grid, inside * (1 - occluder))


def move(pictures: Tensor, grid: Tensor) -> Tensor:
    """Sample pictures (N, 3, H, W) float32 at a grid; pixels from outside repeat the border."""
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def stillness_loss(painted_moved: Tensor, moved_painted: Tensor, inside: Tensor) -> Tensor:
    """How far painting a moved scene is from moving a painted one; RGB 0..255 scaled to 0..1.

    `inside` is (N, 1, H, W), 1 where both show the same thing. A synthetic motion in place
    of optical flow: Gupta et al., arXiv:1705.02092, define the term on real pairs; Zheng et al.,
    arXiv:1604.04326, show that small perturbations of single pictures stabilise as well.
    """
    difference = ((painted_moved - moved_painted) / 255).square()
    return (difference * inside).sum() / (3 * inside.sum()).clamp_min(1.0)


def _camera(rng: np.random.Generator, count: int, height: int, width: int) -> Tensor:
    """Up to eight pixels of shift, two degrees of turn, two per cent of zoom: a hand-held one."""
    shift = rng.uniform(-8, 8, (count, 2)) * 2 / (width, height)
    angle = np.deg2rad(rng.uniform(-2, 2, count))
    zoom = rng.uniform(0.98, 1.02, count)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    theta = np.stack(
        [np.stack([cos, -sin, shift[:, 0]], 1), np.stack([sin, cos, shift[:, 1]], 1)], 1
    )  # (N, 2, 3)
    return functional.affine_grid(
        torch.from_numpy(theta.astype(np.float32)), [count, 3, height, width], align_corners=False
    )


def _bend(rng: np.random.Generator, count: int, height: int, width: int) -> Tensor:
    """A smooth flow of a few pixels, (N, H, W, 2) in the units of a sampling grid."""
    cells = (count, 2, _BEND_CELLS, _BEND_CELLS)
    flow = torch.from_numpy(rng.uniform(-_BEND_PX, _BEND_PX, cells).astype(np.float32))
    flow = functional.interpolate(flow, (height, width), mode="bicubic", align_corners=True)
    return flow.permute(0, 2, 3, 1) * flow.new_tensor([2 / width, 2 / height])


def _disc(rng: np.random.Generator, count: int, height: int, width: int) -> Tensor:
    """What hides a part of the scene: (N, 1, H, W), 1 inside a disc."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = rng.uniform(0, 1, (count, 2, 1, 1)) * np.array([[[height]], [[width]]])
    radius = rng.uniform(0, _LARGEST_OCCLUDER, (count, 1, 1)) * min(height, width)
    inside = np.hypot(y - centre[:, 0], x - centre[:, 1]) < radius
    return torch.from_numpy(inside[:, None].astype(np.float32))


def _random(rng: np.random.Generator, low: float, high: float, count: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))
