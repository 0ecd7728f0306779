"""How near a picture is to a painting's texture and to a scene's content.

All losses are ratios without a unit: a style loss of 1 is as far from the painting as a blank
picture, a content loss of 1 is as far from the scene. So weights mean the same thing for every
painting and every perceptual network.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Keeps the square root's slope finite.
_TINY = 1e-6


class Texture(NamedTuple):
    """Statistics of a feature map that do not know where anything is."""

    mean: Tensor
    """(N, C) float32."""
    gram: Tensor
    """(N, C, C) float32: Gram matrix of what is left without the mean, divided by h * w."""

    def of(self, which: Tensor) -> "Texture":
        """The statistics of the pictures numbered in `which`."""
        return Texture(self.mean[which], self.gram[which])


def stack(textures: Sequence[Texture]) -> Texture:
    """Statistics of many pictures as one value, in their order."""
    return Texture(torch.cat([t.mean for t in textures]), torch.cat([t.gram for t in textures]))


def texture(features: Tensor) -> Texture:
    """Mean and centred Gram matrix per picture of a feature map (N, C, h, w).

    Gatys et al., "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), eq. 3,
    split in two: of an uncentred Gram matrix nearly all is the mean, which is colour, and strokes
    are in the rest. (Gatys et al. + mean = Li et al., arXiv:1701.01036, table 1.)
    """
    # Positions as rows: that is how a channels-last feature map lies in memory.
    flat = features.permute(0, 2, 3, 1).flatten(1, 2)  # (N, h * w, C)
    # In float32 even under autocast: eight bits of mantissa lose the small entries of a sum.
    with torch.autocast(features.device.type, enabled=False):
        flat = flat.float()
        mean = flat.mean(dim=1)
        flat = flat - mean[:, None]
        return Texture(mean, flat.transpose(1, 2) @ flat / flat.shape[1])


def style_loss(painted: Texture, painting: Texture) -> Tensor:
    """Distance of both statistics, each over the painting's own norm, halved: (N,).

    `painting` is of one picture for each painted one. Johnson et al. (arXiv:1603.08155), eq. 4, as
    a ratio and without the square: with it, one crop of a white wall outweighs a batch, and close
    to the painting nothing pulls any more.
    """
    gram = _ratio((painted.gram - painting.gram).flatten(1), painting.gram.flatten(1))
    return (gram + _ratio(painted.mean - painting.mean, painting.mean)) / 2


def _ratio(difference: Tensor, whole: Tensor) -> Tensor:
    """Norms (N,) of rows over the norms of other rows."""
    return (difference.square().sum(dim=1) / whole.square().sum(dim=1) + _TINY).sqrt()


def content_loss(painted: Tensor, scene: Tensor) -> Tensor:
    """Mean squared distance of feature maps over the scene's mean square (Johnson, eq. 2): (N,)."""
    painted, scene = painted.float(), scene.float()
    apart = (painted - scene).square().mean(dim=(1, 2, 3))
    return apart / scene.square().mean(dim=(1, 2, 3)).clamp_min(1e-6)


def grey(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) RGB -> the same shape, all channels the luma of ITU-R BT.601."""
    weights = pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (pictures * weights).sum(dim=1, keepdim=True).expand_as(pictures)


def total_variation(painted: Tensor) -> Tensor:
    """Mean squared difference of neighbours of pictures (N, 3, H, W) 0..255, scaled to 0..1: (N,).

    Johnson et al., section 3.2; from Mahendran & Vedaldi (arXiv:1412.0035).
    """
    x = painted / 255
    rows = (x[:, :, 1:] - x[:, :, :-1]).square().mean(dim=(1, 2, 3))
    columns = (x[:, :, :, 1:] - x[:, :, :, :-1]).square().mean(dim=(1, 2, 3))
    return rows + columns
