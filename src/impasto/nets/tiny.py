"""A 28,000-parameter transform network: 4, 8 and 16 channels, upsampled by transposed convolutions.

The topology of `transformer` with a bounded output; the published weights of this kind number
their variables in the order of the layers.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

MULTIPLE_OF = 4
"""Height and width of the input must be multiples of this."""

# The published weights were trained with this; the usual 1e-5 is larger than the variance of some
# channels on flat scenes.
_EPSILON = 1e-9


class NormalisedConv(nn.Module):
    """Convolution without bias, then affine instance normalisation.

    `stride` 2 halves the size; `up` doubles it by a transposed convolution instead.
    """

    def __init__(
        self, channels: int, out: int, kernel: int, *, stride: int = 1, up: bool = False
    ) -> None:
        super().__init__()
        self.up = up
        self.pad = 0 if up else kernel // 2
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if up:
            self.conv = nn.ConvTranspose2d(
                channels, out, kernel, 2, padding=1, output_padding=1, bias=False
            )
        else:
            self.conv = nn.Conv2d(channels, out, kernel, stride, bias=False)
        self.norm = nn.InstanceNorm2d(out, eps=_EPSILON, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, out, h, w), halved by a stride of 2, doubled by `up`."""
        if not self.up:
            x = functional.pad(x, (self.pad,) * 4, mode="reflect")
        out: Tensor = self.norm(self.conv(x))
        return out


class TinyNet(nn.Module):
    """Paints frames: float32 (N, 3, H, W), RGB 0..255 in; out within -22.5..277.5, not clamped."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [
                NormalisedConv(3, 4, 9),
                NormalisedConv(4, 8, 3, stride=2),
                NormalisedConv(8, 16, 3, stride=2),
            ]
        )
        self.residual = nn.ModuleList([NormalisedConv(16, 16, 3) for _ in range(10)])
        self.upwards = nn.ModuleList(
            [NormalisedConv(16, 8, 3, up=True), NormalisedConv(8, 4, 3, up=True)]
        )
        self.last = NormalisedConv(4, 3, 9)

    def forward(self, frames: Tensor) -> Tensor:
        """Paint; shapes and ranges are those of the class."""
        x = frames
        for layer in self.down:
            x = functional.relu(layer(x))  # (N, 4, H, W), then (N, 8, H/2, W/2), (N, 16, H/4, W/4)
        for first, second in zip(self.residual[::2], self.residual[1::2], strict=True):
            x = x + second(functional.relu(first(x)))
        for layer in self.upwards:
            x = functional.relu(layer(x))  # (N, 8, H/2, W/2), then (N, 4, H, W)
        return torch.tanh(self.last(x)) * 150 + 127.5


def load_variables(net: TinyNet, variables: Mapping[str, NDArray[np.float32]]) -> None:
    """Fill the net from arrays named Variable_00 ... Variable_47: per layer weight, shift, scale.

    Weights are (out, in, k, k); those of the two transposed convolutions (in, out, k, k), and the
    normalisation's (1, C, 1, 1). Raises KeyError for a missing name.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, NormalisedConv)]
    with torch.no_grad():
        for number, layer in enumerate(layers):
            weight, shift, scale = (
                torch.from_numpy(np.array(variables[f"Variable_{3 * number + i:02d}"]))
                for i in range(3)
            )
            layer.conv.weight.copy_(weight)
            layer.norm.bias.copy_(shift.flatten())
            layer.norm.weight.copy_(scale.flatten())
