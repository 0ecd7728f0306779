"""Made-up camera motion, for the term that makes a style hold still between frames."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def small_motion(rng: np.random.Generator, pictures: Tensor) -> Tensor:
    """A random small camera motion per picture, as a sampling grid (N, H, W, 2) in -1..1.

    Up to eight pixels of shift, two degrees of turn and two per cent of zoom: what a hand-held
    camera does between neighbouring frames.
    """
    n, _, height, width = pictures.shape
    shift = rng.uniform(-8, 8, (n, 2)) * 2 / (width, height)
    angle = np.deg2rad(rng.uniform(-2, 2, n))
    zoom = rng.uniform(0.98, 1.02, n)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    theta = np.stack(
        [np.stack([cos, -sin, shift[:, 0]], 1), np.stack([sin, cos, shift[:, 1]], 1)], 1
    )  # (N, 2, 3)
    return functional.affine_grid(
        torch.from_numpy(theta.astype(np.float32)), [n, 3, height, width], align_corners=False
    )


def move(pictures: Tensor, grid: Tensor) -> Tensor:
    """Sample pictures (N, 3, H, W) float32 at a grid; pixels from outside repeat the border."""
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
