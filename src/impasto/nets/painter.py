"""The network that Impasto trains for its own styles, shaped for the machine that runs it.

Three facts give it its form:

- Convolutions over a picture at full resolution are where the standard network spends half of its
  time. Here a pixel-unshuffle moves 4 x 4 pixels into channels first, and everything but the last
  step runs at quarter or half resolution.
- A picture made by upsampling carries a weave with the upsampling's period (Odena et al.,
  "Deconvolution and Checkerboard Artifacts", 2016). Bilinear doubling is the filter [1 3 3 1]/4,
  and the last step, a pixel-shuffle by two, is followed by [1 2 1]/4: both have no response at
  period two, so a weave cannot come from them, whatever the weights.
- Instance normalisation (Ulyanov et al., arXiv:1607.08022) divides by a scene's contrast, and so
  turns the noise of a black or flat frame into a painting, another one in every frame. So a frame
  without contrast passes as it is, and a fade to black ends in black.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MULTIPLE_OF = 4
"""Height and width of the input must be multiples of this: the stem gathers 4 x 4 pixels."""

_STEM_EPSILON = 0.5
_EPSILON = 1.0
_LEAST_VARIANCE = 2e-3
# On the scale of the network's input, (RGB - 127.5) / 64. The variance in front of a trained stem's
# norm is about 40 for an ordinary scene and 0.2 for one with a sixteenth of its contrast. Of the
# brightness of 4 x 4 cells it is about 0.5 for an ordinary scene, under 1e-4 for camera noise of 2
# levels, and 2e-3 where the standard deviation of the cells is 3 levels: there half is painted.


@dataclass(frozen=True, slots=True)
class PainterConfig:
    """Sizes of a painter; the defaults are those of the styles that ship."""

    channels: int = 64
    """Width of the trunk, at quarter resolution."""
    head_channels: int = 32
    """Width of the head, at half resolution."""
    dilations: tuple[int, ...] = (1, 2, 2, 1)
    """One residual block per entry; the dilation of its first convolution, in quarter pixels."""


class ResidualBlock(nn.Module):
    """x + branch(x); two 3 x 3 convolutions with instance normalisation."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        # Edge padding: zeros would darken the frame's border, and reflection needs more pixels
        # than a very small frame has.
        self.conv1 = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, padding_mode="replicate"
        )
        self.norm1 = nn.InstanceNorm2d(channels, eps=_EPSILON, affine=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.norm2 = nn.InstanceNorm2d(channels, eps=_EPSILON, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        y = functional.relu(self.norm1(self.conv1(x)))
        out: Tensor = x + self.norm2(self.conv2(y))
        return out


class Painter(nn.Module):
    """Paints frames: float32 (N, 3, H, W), RGB 0..255 in and out; H and W multiples of 4.

    The output stays within -22.5..277.5 and is not clamped.
    """

    blur: Tensor

    def __init__(self, config: PainterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PainterConfig()
        width, head = config.channels, config.head_channels
        self.stem = nn.Conv2d(3 * 16, width, 3, padding=1, padding_mode="replicate")
        self.stem_norm = nn.InstanceNorm2d(width, eps=_STEM_EPSILON, affine=True)
        self.blocks = nn.Sequential(*(ResidualBlock(width, step) for step in config.dilations))
        # Fewer channels before the upsampling: a 1 x 1 convolution is four times cheaper there.
        self.narrow = nn.Conv2d(width, head, 1)
        self.shape = nn.Conv2d(head, head, 3, padding=1, padding_mode="replicate")
        self.shape_norm = nn.InstanceNorm2d(head, eps=_EPSILON, affine=True)
        self.colour = nn.Conv2d(head, 3 * 4, 3, padding=1, padding_mode="replicate")
        _equal_phases(self.colour)
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(line, line).expand(3, 1, 3, 3).clone()
        self.register_buffer("blur", kernel, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Paint, as far as there is something to see; shapes and ranges are those of the class."""
        cells = functional.avg_pool2d(frames.mean(dim=1, keepdim=True), 4) / 64  # (N, 1, H/4, W/4)
        deviation = cells - cells.mean(dim=(2, 3), keepdim=True)
        variance = deviation.square().mean(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1)
        share = variance / (variance + _LEAST_VARIANCE)
        return frames + share * (self.paint(frames) - frames)

    def paint(self, frames: Tensor) -> Tensor:
        """Paint whatever is there, noise too."""
        x = (frames - 127.5) / 64  # (N, 3, H, W)
        x = functional.pixel_unshuffle(x, 4)  # (N, 48, H/4, W/4)
        x = functional.relu(self.stem_norm(self.stem(x)))  # (N, channels, H/4, W/4)
        x = self.narrow(self.blocks(x))  # (N, head, H/4, W/4)
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear")  # (N, head, H/2, W/2)
        x = functional.relu(self.shape_norm(self.shape(x)))
        x = functional.pixel_shuffle(self.colour(x), 2)  # (N, 3, H, W)
        x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        x = functional.conv2d(x, self.blur, groups=3)
        # A soft limit a little outside 0..255: pure colours stay reachable without being the
        # place where every strong activation ends.
        return torch.tanh(x) * 150 + 127.5


def _equal_phases(conv: nn.Conv2d) -> None:
    """Start all four phases of a shuffle by two equal (ICNR; Aitken et al., arXiv:1707.02937)."""
    with torch.no_grad():
        first = conv.weight[::4].clone()  # (3, head, 3, 3)
        conv.weight.copy_(first.repeat_interleave(4, dim=0))
        if conv.bias is not None:
            conv.bias.zero_()
