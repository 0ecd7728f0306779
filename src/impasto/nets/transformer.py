"""The standard transform network of Johnson et al. (arXiv:1603.08155, supplementary material).

In the form that PyTorch's example of fast neural style made common: instance normalisation, nearest
upsampling before the last convolutions, and its names of weights, so that published weights load.
"""

from torch import Tensor, nn
from torch.nn import functional

MULTIPLE_OF = 4
"""Height and width of the input must be multiples of this for the output to have the same size."""


class ReflectedConv(nn.Module):
    """A convolution that sees the picture mirrored beyond its border, optionally upsampled."""

    def __init__(
        self, channels: int, out: int, kernel: int, *, stride: int = 1, upsample: int = 1
    ) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.upsample = upsample
        # Not Conv2d's own padding_mode: these nets are also read by others through their keys, and
        # padding belongs after the upsampling.
        self.conv2d = nn.Conv2d(channels, out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, out, h * upsample / stride, w * upsample / stride)."""
        if self.upsample > 1:
            x = functional.interpolate(x, scale_factor=float(self.upsample), mode="nearest")
        x = functional.pad(x, (self.pad,) * 4, mode="reflect")
        out: Tensor = self.conv2d(x)
        return out


class ResidualBlock(nn.Module):
    """x + two 3 x 3 convolutions, each with instance normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ReflectedConv(channels, channels, 3)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = ReflectedConv(channels, channels, 3)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        y = functional.relu(self.in1(self.conv1(x)))
        out: Tensor = x + self.in2(self.conv2(y))
        return out


class TransformerNet(nn.Module):
    """Paints frames: float32 (N, 3, H, W), RGB 0..255 in and out, not clamped.

    `width` is the channels after the first convolution: 32 is the standard network (1,679,235
    parameters); 16 and 8 are its published narrow forms. H and W must be multiples of 4 and at
    least 8, or the output's size differs from the input's.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = ReflectedConv(3, width, 9)
        self.in1 = nn.InstanceNorm2d(width, affine=True)
        self.conv2 = ReflectedConv(width, 2 * width, 3, stride=2)
        self.in2 = nn.InstanceNorm2d(2 * width, affine=True)
        self.conv3 = ReflectedConv(2 * width, 4 * width, 3, stride=2)
        self.in3 = nn.InstanceNorm2d(4 * width, affine=True)
        self.res1 = ResidualBlock(4 * width)
        self.res2 = ResidualBlock(4 * width)
        self.res3 = ResidualBlock(4 * width)
        self.res4 = ResidualBlock(4 * width)
        self.res5 = ResidualBlock(4 * width)
        self.deconv1 = ReflectedConv(4 * width, 2 * width, 3, upsample=2)
        self.in4 = nn.InstanceNorm2d(2 * width, affine=True)
        self.deconv2 = ReflectedConv(2 * width, width, 3, upsample=2)
        self.in5 = nn.InstanceNorm2d(width, affine=True)
        self.deconv3 = ReflectedConv(width, 3, 9)

    def forward(self, frames: Tensor) -> Tensor:
        """Paint; shapes and ranges are those of the class."""
        x = functional.relu(self.in1(self.conv1(frames)))  # (N, width, H, W)
        x = functional.relu(self.in2(self.conv2(x)))  # (N, 2 width, H/2, W/2)
        x = functional.relu(self.in3(self.conv3(x)))  # (N, 4 width, H/4, W/4)
        for block in (self.res1, self.res2, self.res3, self.res4, self.res5):
            x = block(x)
        x = functional.relu(self.in4(self.deconv1(x)))  # (N, 2 width, H/2, W/2)
        x = functional.relu(self.in5(self.deconv2(x)))  # (N, width, H, W)
        out: Tensor = self.deconv3(x)  # (N, 3, H, W)
        return out
