"""The network that Impasto trains for its own styles, shaped for the machine that runs it.

Four facts give it its form:

- A style is a vector: the scale and the shift of every channel after every instance normalisation.
  The convolutions are the same for all styles (conditional instance normalisation; Dumoulin et
  al., "A Learned Representation for Artistic Style", arXiv:1610.07629, section 2.2).
- Convolutions over a picture at full resolution are where the standard network spends half of its
  time. Here a pixel-unshuffle moves 4 x 4 pixels into channels first, and everything runs at
  quarter or half resolution.
- A picture made by upsampling carries a weave with the upsampling's period (Odena et al.,
  "Deconvolution and Checkerboard Artifacts", 2016). Bilinear doubling is the filter [1 3 3 1]/4,
  and the last step, a pixel-shuffle by two, goes through [1 2 1]/4: both have no response at
  period two, so a weave cannot come from them, whatever the weights.
- Instance normalisation (Ulyanov et al., arXiv:1607.08022) divides by a scene's contrast, and so
  turns the noise of a black or flat frame into a painting, another one in every frame. So a frame
  without contrast passes as it is, and a fade to black ends in black.
"""

import math
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
    """Sizes of a painter."""

    channels: int = 64
    """Width of the trunk, at quarter resolution."""
    head_channels: int = 32
    """Width of the head, at half resolution."""
    dilations: tuple[int, ...] = (1, 2, 2, 1)
    """One residual block per entry; the dilation of its first convolution, in quarter pixels."""
    head_blocks: int = 0
    """Residual blocks at half resolution."""

    @property
    def norms(self) -> tuple[int, ...]:
        """Channels of each normalisation, in the order in which the style vector holds them."""
        trunk = (self.channels,) * (1 + 2 * len(self.dilations))
        return (*trunk, self.head_channels, *((self.head_channels,) * (2 * self.head_blocks)))

    @property
    def style_size(self) -> int:
        """Length of a style vector: a scale and a shift for every normalised channel."""
        return 2 * sum(self.norms)


SIZES = {
    "fast": PainterConfig(64, 32, (1, 2, 2, 1), 0),
    "balanced": PainterConfig(96, 48, (1, 2, 2, 1), 1),
    "best": PainterConfig(128, 64, (1, 2, 2, 1), 1),
}
"""The sizes that ship, by quality."""


class Styled(nn.Module):
    """Instance normalisation whose scale and shift come from outside.

    Dumoulin et al., equation 5: gamma * (x - mean) / deviation + beta, with a row of gamma and
    beta for each style.
    """

    def __init__(self, channels: int, epsilon: float = _EPSILON) -> None:
        super().__init__()
        self.channels = channels
        self.epsilon = epsilon

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """(N, channels, h, w) and twice (N or 1, channels, 1, 1) -> the shape of x."""
        return functional.instance_norm(x, eps=self.epsilon) * gamma + beta


Affine = tuple[Tensor, Tensor]


class ResidualBlock(nn.Module):
    """x + branch(x); two 3 x 3 convolutions with conditional instance normalisation."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        # Edge padding: zeros would darken the frame's border, and reflection needs more pixels
        # than a very small frame has.
        self.conv1 = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, padding_mode="replicate"
        )
        self.norm1 = Styled(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.norm2 = Styled(channels)

    def forward(self, x: Tensor, first: Affine, second: Affine) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        y = functional.relu(self.norm1(self.conv1(x), *first))
        out: Tensor = x + self.norm2(self.conv2(y), *second)
        return out


class Painter(nn.Module):
    """Paints frames in a style: float32 (N, 3, H, W), RGB 0..255 in and out; H, W multiples of 4.

    The output stays within -22.5..277.5 and is not clamped.
    """

    smooth: Tensor

    def __init__(self, config: PainterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PainterConfig()
        width, head = config.channels, config.head_channels
        self.stem = nn.Conv2d(3 * 16, width, 3, padding=1, padding_mode="replicate")
        self.stem_norm = Styled(width, _STEM_EPSILON)
        self.blocks = nn.ModuleList(ResidualBlock(width, step) for step in config.dilations)
        # Fewer channels before the upsampling: a 1 x 1 convolution is four times cheaper there.
        self.narrow = nn.Conv2d(width, head, 1)
        self.shape = nn.Conv2d(head, head, 3, padding=1, padding_mode="replicate")
        self.shape_norm = Styled(head)
        self.head_blocks = nn.ModuleList(ResidualBlock(head, 1) for _ in range(config.head_blocks))
        self.colour = nn.Conv2d(head, 3 * 4, 3, padding=1, padding_mode="replicate")
        _equal_phases(self.colour)
        self.register_buffer("smooth", _smoothing(), persistent=False)

    def forward(self, frames: Tensor, style: Tensor) -> Tensor:
        """Paint, as far as there is something to see; `style` is (N or 1, config.style_size)."""
        cells = functional.avg_pool2d(frames.mean(dim=1, keepdim=True), 4) / 64  # (N, 1, H/4, W/4)
        deviation = cells - cells.mean(dim=(2, 3), keepdim=True)
        variance = deviation.square().mean(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1)
        share = variance / (variance + _LEAST_VARIANCE)
        return frames + share * (self.paint(frames, style) - frames)

    def paint(self, frames: Tensor, style: Tensor) -> Tensor:
        """Paint whatever is there, noise too."""
        affine = iter(_affines(style, self.config.norms))
        x = (frames - 127.5) / 64  # (N, 3, H, W)
        x = functional.pixel_unshuffle(x, 4)  # (N, 48, H/4, W/4)
        x = functional.relu(self.stem_norm(self.stem(x), *next(affine)))  # (N, channels, H/4, W/4)
        for block in self.blocks:
            x = block(x, next(affine), next(affine))
        x = self.narrow(x)  # (N, head, H/4, W/4)
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear")  # (N, head, H/2, W/2)
        x = functional.relu(self.shape_norm(self.shape(x), *next(affine)))
        for block in self.head_blocks:
            x = block(x, next(affine), next(affine))
        x = functional.pad(self.colour(x), (1, 1, 1, 1), mode="replicate")
        x = functional.conv2d(x, self.smooth)  # (N, 12, H/2, W/2)
        x = functional.pixel_shuffle(x, 2)  # (N, 3, H, W)
        # A soft limit a little outside 0..255: pure colours stay reachable without being the
        # place where every strong activation ends.
        return torch.tanh(x) * 150 + 127.5


def plain_style(config: PainterConfig) -> Tensor:
    """The vector that changes nothing after a normalisation: (config.style_size,), ones and zeros.

    A style vector holds, for each normalisation in turn, its scales and then its shifts.
    """
    return torch.cat([torch.cat([torch.ones(n), torch.zeros(n)]) for n in config.norms])


def _affines(style: Tensor, norms: tuple[int, ...]) -> list[Affine]:
    lengths = [n for n in norms for _ in range(2)]
    pieces: tuple[Tensor, ...] = torch.split(style[:, :, None, None], lengths, dim=1)
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def _equal_phases(conv: nn.Conv2d) -> None:
    """Start all four phases of a shuffle by two equal (ICNR; Aitken et al., arXiv:1707.02937)."""
    with torch.no_grad():
        first = conv.weight[::4].clone()  # (3, head, 3, 3)
        conv.weight.copy_(first.repeat_interleave(4, dim=0))
        if conv.bias is not None:
            conv.bias.zero_()


def _smoothing() -> Tensor:
    """The filter [1 2 1]/4 both ways, for a picture that still lies in the channels of a shuffle.

    (12, 12, 3, 3). On the finished picture it is a convolution per channel at full resolution,
    which costs a fifth of the whole network; a small dense one at half resolution costs nothing.
    """
    kernel = torch.zeros(12, 12, 3, 3)
    taps = {-1: 0.25, 0: 0.5, 1: 0.25}
    for channel in range(3):
        for phase in range(4):
            y, x = divmod(phase, 2)
            for down, right in ((a, b) for a in taps for b in taps):
                from_y, from_x = y + down, x + right
                source = channel * 4 + (from_y % 2) * 2 + from_x % 2
                cell = (1 + math.floor(from_y / 2), 1 + math.floor(from_x / 2))
                kernel[channel * 4 + phase, source, cell[0], cell[1]] += taps[down] * taps[right]
    return kernel
