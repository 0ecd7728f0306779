"""SqueezeNet 1.1 as a second opinion: a perceptual network of another family than VGG-19.

Iandola et al., "SqueezeNet", arXiv:1602.07360; the layout and the keys are torchvision's.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import RequestError
from impasto.nets.perceptual import Features

# Index of each module in torchvision's `features`, in order. A pooling (3 x 3, stride 2) stands in
# front of fire2, fire4 and fire6.
_INDEX = {
    "conv1": 0, "fire2": 3, "fire3": 4, "fire4": 6, "fire5": 7,
    "fire6": 9, "fire7": 10, "fire8": 11, "fire9": 12,
}  # fmt: skip
_POOLED_BEFORE = frozenset({"fire2", "fire4", "fire6"})
_PARTS = ("squeeze", "expand1x1", "expand3x3")
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class SqueezeNet(nn.Module):
    """The convolutions of SqueezeNet 1.1, frozen: pictures (N, 3, H, W) RGB 0..255 -> Features."""

    names = tuple(_INDEX)

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in self.names:
            for part in _parts(name):
                key = _key(name, part)
                self.register_buffer(_buffer(key, "weight"), state[f"{key}.weight"].float())
                self.register_buffer(_buffer(key, "bias"), state[f"{key}.bias"].float())

    def forward(self, pictures: Tensor, taps: tuple[str, ...]) -> Features:
        """The feature maps of the layers named in `taps`, after ReLU; conv1 is at half size."""
        mean = pictures.new_tensor(_MEAN)[:, None, None]
        std = pictures.new_tensor(_STD)[:, None, None]
        x = (pictures / 255 - mean) / std
        found: Features = {}
        for name in self.names[: 1 + max(self.names.index(tap) for tap in taps)]:
            if name in _POOLED_BEFORE:
                x = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
            if name == "conv1":
                x = functional.relu(self._convolve(x, _key(name, ""), stride=2))
            else:
                x = functional.relu(self._convolve(x, _key(name, "squeeze")))
                one = self._convolve(x, _key(name, "expand1x1"))
                three = self._convolve(x, _key(name, "expand3x3"), padding=1)
                x = functional.relu(torch.cat([one, three], dim=1))
            if name in taps:
                found[name] = x
        return found

    def _convolve(self, x: Tensor, key: str, *, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = (self.get_buffer(_buffer(key, kind)) for kind in ("weight", "bias"))
        return functional.conv2d(x, weight, bias, stride, padding)


def is_squeezenet(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the keys of torchvision's SqueezeNet 1.1."""
    return all(
        f"{_key(name, part)}.{kind}" in state
        for name in _INDEX
        for part in _parts(name)
        for kind in ("weight", "bias")
    )


def load_squeezenet(path: Path) -> SqueezeNet | None:
    """Read a SqueezeNet 1.1; None when the file holds another network.

    Raises RequestError when the file cannot be read.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, by the kind of damage
        raise RequestError(
            f"perceptual network {path} cannot be read ({type(error).__name__}); "
            "give a state dict saved by torch"
        ) from error
    return SqueezeNet(state) if isinstance(state, dict) and is_squeezenet(state) else None


def _parts(name: str) -> tuple[str, ...]:
    return ("",) if name == "conv1" else _PARTS


def _key(name: str, part: str) -> str:
    return f"features.{_INDEX[name]}" + (f".{part}" if part else "")


def _buffer(key: str, kind: str) -> str:
    return f"{key}_{kind}".replace(".", "_")
