"""What a painter is asked for: the painting's strokes, the scene's content, stillness.

All losses are ratios without a unit: a style loss of 1 is as far from the painting as a blank
picture, a content loss of 1 is as far from the scene. So the weights mean the same thing for every
painting and every perceptual network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import RequestError

Features = dict[str, Tensor]  # layer name, such as "3_1" -> (N, C, h, w) after ReLU

# The convolutions of VGG-19 (Simonyan & Zisserman, arXiv:1409.1556) in order, and the index of each
# in torchvision's `features`.
_VGG19 = {
    "1_1": 0, "1_2": 2, "2_1": 5, "2_2": 7, "3_1": 10, "3_2": 12, "3_3": 14, "3_4": 16,
    "4_1": 19, "4_2": 21, "4_3": 23, "4_4": 25, "5_1": 28,
}  # fmt: skip
# The mean and standard deviation that torchvision's networks were trained with.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# Keeps the square root's slope finite.
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    weight: Tensor
    bias: Tensor


class Perceptual(nn.Module):
    """The first convolutions of a VGG-19, frozen: pictures (N, 3, H, W) RGB 0..255 -> Features."""

    def __init__(self, entry: tuple[Tensor, Tensor], layers: list[_Layer], padding: str) -> None:
        super().__init__()
        self.names = [layer.name for layer in layers]
        self._padding = padding
        self.register_buffer("entry_weight", entry[0].float())
        self.register_buffer("entry_bias", entry[1].float())
        for layer in layers:
            weight = layer.weight.float().contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"weight_{layer.name}", weight)
            self.register_buffer(f"bias_{layer.name}", layer.bias.float())

    def forward(self, pictures: Tensor, taps: tuple[str, ...]) -> Features:
        """The feature maps of the layers named in `taps`; raises ValueError for an unknown one."""
        x = functional.conv2d(pictures, self.get_buffer("entry_weight"))
        x = x + self.get_buffer("entry_bias")[:, None, None]
        found: Features = {}
        for name in self.names[: 1 + max(self.names.index(tap) for tap in taps)]:
            if name.endswith("_1") and name != "1_1":
                x = functional.max_pool2d(x, 2)
            x = functional.pad(x, (1, 1, 1, 1), mode=self._padding)
            x = functional.conv2d(
                x, self.get_buffer(f"weight_{name}"), self.get_buffer(f"bias_{name}")
            )
            x = functional.relu(x)
            if name in taps:
                found[name] = x
        return found


def load_perceptual(path: Path) -> Perceptual:
    """Read a VGG-19, whole or cut short, in any of three published layouts.

    They are told apart by their keys: torchvision's (`features.0.weight`; RGB 0..1, mean and
    deviation of ImageNet, zero padding), the WCT conversions of the original network (`0.weight`,
    a 1 x 1 convolution that does the pre-processing; reflection padding), and the compressed
    encoders of Collaborative Distillation (`conv0.weight`, `conv11.weight`, ...).

    Raises RequestError when the file cannot be read or has none of these layouts.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, by the kind of damage
        raise RequestError(
            f"perceptual network {path} cannot be read ({type(error).__name__}); "
            "give a state dict of a VGG-19 saved by torch"
        ) from error
    state = state.get("model", state)
    if "features.0.weight" in state:
        std = torch.tensor(_IMAGENET_STD)
        entry = (
            torch.diag(1 / (255 * std))[:, :, None, None],
            -torch.tensor(_IMAGENET_MEAN) / std,
        )
        keys = {name: f"features.{index}" for name, index in _VGG19.items()}
        return Perceptual(entry, _layers(state, keys), "constant")
    if "conv0.weight" in state:
        keys = {name: f"conv{name.replace('_', '')}" for name in _VGG19}
        return Perceptual(_entry(state, "conv0"), _layers(state, keys), "reflect")
    if "0.weight" in state and "2.weight" in state:
        # Modules 0 and 1 are the pre-processing and the first padding; a padding and a ReLU stand
        # beside each convolution, and a pooling before the first one of a group.
        keys = dict(zip(_VGG19, ("2", "5", "9", "12", "16"), strict=False))
        return Perceptual(_entry(state, "0"), _layers(state, keys), "reflect")
    raise RequestError(
        f"perceptual network {path} has no known layout (first key {next(iter(state), 'none')!r}); "
        "give a VGG-19 with torchvision's keys"
    )


def _entry(state: Mapping[str, Tensor], key: str) -> tuple[Tensor, Tensor]:
    return state[f"{key}.weight"] / 255, state[f"{key}.bias"]


def _layers(state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[_Layer]:
    return [
        _Layer(name, state[f"{key}.weight"], state[f"{key}.bias"])
        for name, key in keys.items()
        if f"{key}.weight" in state
    ]


class Texture(NamedTuple):
    """Statistics of a feature map that do not know where anything is."""

    mean: Tensor
    """(N, C) float32."""
    gram: Tensor
    """(N, C, C) float32: Gram matrix of what is left without the mean, divided by h * w."""


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
    """Distance of both statistics, each over the painting's own norm, halved; the mean of a batch.

    `painting` is of one picture. Johnson et al. (arXiv:1603.08155), eq. 4, as a ratio and without
    the square: with it, one crop of a white wall outweighs a batch, and close to the painting
    nothing pulls any more.
    """
    gram = (painted.gram - painting.gram).square().sum(dim=(1, 2)) / painting.gram.square().sum()
    mean = (painted.mean - painting.mean).square().sum(dim=1) / painting.mean.square().sum()
    return ((gram + _TINY).sqrt() + (mean + _TINY).sqrt()).mean() / 2


def content_loss(painted: Tensor, scene: Tensor) -> Tensor:
    """Mean squared distance of two feature maps over the scene's mean square (Johnson, eq. 2)."""
    painted, scene = painted.float(), scene.float()
    return (painted - scene).square().mean() / scene.square().mean().clamp_min(1e-6)


def grey(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) RGB -> the same shape, all channels the luma of ITU-R BT.601."""
    weights = pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (pictures * weights).sum(dim=1, keepdim=True).expand_as(pictures)


def total_variation(painted: Tensor) -> Tensor:
    """Mean squared difference of neighbours, for a picture (N, 3, H, W) in 0..255, scaled to 0..1.

    Johnson et al., section 3.2; from Mahendran & Vedaldi (arXiv:1412.0035).
    """
    x = painted / 255
    rows = (x[:, :, 1:] - x[:, :, :-1]).square().mean()
    columns = (x[:, :, :, 1:] - x[:, :, :, :-1]).square().mean()
    return rows + columns


def stillness_loss(painted_moved: Tensor, moved_painted: Tensor, inside: Tensor) -> Tensor:
    """How far painting a moved scene is from moving a painted one; RGB 0..255 scaled to 0..1.

    `inside` is (N, 1, H, W), 1 where the motion stays in the picture. A synthetic motion in place
    of optical flow: Gupta et al., arXiv:1705.02092, define the term on real pairs; Zheng et al.,
    arXiv:1604.04326, show that small perturbations of single pictures stabilise as well.
    """
    difference = ((painted_moved - moved_painted) / 255).square()
    return (difference * inside).sum() / (3 * inside.sum()).clamp_min(1.0)
