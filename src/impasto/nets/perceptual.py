"""Perceptual networks: what they are, where they come from, and their feature maps.

A style is judged by the feature maps of a network that was trained to recognise things (Gatys et
al., CVPR 2016). Those are not ours, so none ships; one is looked for on this machine, and fetched
from its authors' home on first use, checked against the digest below.
"""

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import RequestError, Unavailable

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

    def arrays(self, last: str) -> dict[str, NDArray[Any]]:
        """The network up to the layer `last`, as arrays that need no pickle; see `from_arrays`."""
        names = self.names[: 1 + self.names.index(last)]
        kept = ["entry_weight", "entry_bias"]
        kept += [f"{kind}_{name}" for name in names for kind in ("weight", "bias")]
        arrays = {key: self.get_buffer(key).contiguous().numpy() for key in kept}
        return arrays | {"reflect": np.array(self._padding == "reflect")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Perceptual":
        """The network that `arrays` describes; keys of other kinds are passed over."""
        tensor = {key: torch.from_numpy(arrays[key]) for key in arrays if key != "reflect"}
        layers = [
            _Layer(name, tensor[f"weight_{name}"], tensor[f"bias_{name}"])
            for name in _VGG19
            if f"weight_{name}" in tensor
        ]
        padding = "reflect" if arrays["reflect"] else "constant"
        return cls((tensor["entry_weight"], tensor["entry_bias"]), layers, padding)


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
    state = state.get("model", state) if isinstance(state, dict) else state
    try:
        network = _of_layout(state)
        if network is not None:  # weights that don't fit together would fail much later
            network(torch.zeros(1, 3, 32, 32), (network.names[-1],))
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise RequestError(
            f"perceptual network {path} is damaged ({type(error).__name__}); "
            "give a state dict of a VGG-19 saved by torch"
        ) from error
    if network is None:
        first = next(iter(state), "none") if isinstance(state, dict) else type(state).__name__
        raise RequestError(
            f"perceptual network {path} has no known layout (first key {str(first)[:80]!r}); "
            "give a VGG-19 with torchvision's keys"
        )
    return network


def _of_layout(state: Any) -> Perceptual | None:
    if not isinstance(state, dict):
        return None
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
    return None


def _entry(state: Mapping[str, Tensor], key: str) -> tuple[Tensor, Tensor]:
    return state[f"{key}.weight"] / 255, state[f"{key}.bias"]


def _layers(state: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[_Layer]:
    return [
        _Layer(name, state[f"{key}.weight"], state[f"{key}.bias"])
        for name, key in keys.items()
        if f"{key}.weight" in state
    ]


@dataclass(frozen=True, slots=True)
class Published:
    """A perceptual network that others published."""

    file: str
    """Its name in the cache."""
    url: str
    """Its authors' home."""
    sha256: str
    bytes: int
    licence: str
    about: str


DEFAULT = "compressed"
PUBLISHED = {
    # Wang et al., "Collaborative Distillation for Ultra-Resolution Universal Style Transfer"
    # (arXiv:2003.08436): VGG-19 to relu4_1 with a sixteenth of its weights.
    DEFAULT: Published(
        file="cd16x-4SE.pth",
        url="https://raw.githubusercontent.com/MingSun-Tse/Collaborative-Distillation/"
        "4a269dc90020721ef9b279b2926c62f5bcd6d209/trained_models/wct_se_16x_new/4SE.pth",
        sha256="d2f059cbcd6669556a43aadef58d20c8b280462c18b60a9e7424a14dd271cd6b",
        bytes=1_235_183,
        licence="MIT",
        about="VGG-19 compressed sixteen times, to relu4_1",
    ),
    "vgg19": Published(
        file="vgg19-dcbb9e9d.pth",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        bytes=574_673_361,
        licence="BSD-3-Clause",
        about="the whole VGG-19 of torchvision",
    ),
}
_TIMEOUT_S = 30
_PIECE_BYTES = 1 << 20


def find_perceptual(
    name_or_path: str | Path | None = None,
    *,
    cache: Path | None,
    fetch: bool = True,
    report: Callable[[str], None] | None = None,
    published: Mapping[str, Published] = PUBLISHED,
) -> Path:
    """Return the file of a perceptual network.

    Args:
        name_or_path: a key of `published`, or a file of one's own; None for the default.
        cache: the folder in which published networks are kept, below `perceptual`; made if it is
            missing. None for no such folder, and no fetching.
        fetch: whether to fetch a published network that is not there.
        report: called with one line before something is fetched.
        published: the networks there are, by name.

    Raises:
        RequestError: no such name or file.
        Unavailable: it is not there and can't be fetched.
    """
    asked = DEFAULT if name_or_path is None else name_or_path
    network = published.get(str(asked))
    if network is None:
        path = Path(asked)
        if path.is_file():
            return path
        raise RequestError(
            f"no perceptual network at {path}; give a VGG-19 state dict, or one of: "
            + ", ".join(published)
        )
    if cache is not None:
        path = cache / "perceptual" / network.file
        if _is(path, network):
            return path
        if fetch:
            if report is not None:
                report(f"fetching {network.about} ({_size(network.bytes)}) from {network.url}")
            _fetch(network, path)
            return path
    place = f"put it at {cache / 'perceptual' / network.file} or " if cache is not None else ""
    raise RequestError(
        f"the perceptual network '{asked}' is not on this machine; fetch {network.url} "
        f"and {place}give its path by --perceptual"
    )


def _is(path: Path, network: Published) -> bool:
    """Whether the file is there and whole."""
    try:
        if path.stat().st_size != network.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == network.sha256
    except OSError:
        return False


def _fetch(network: Published, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path) as partial:
            _stream(network, partial)
            partial.replace(path)
    except (OSError, http.client.HTTPException, _WrongBytes) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        # An HTTP error's text has its code; any other URLError only wraps the reason.
        why = error.reason if type(error) is urllib.error.URLError else error
        raise Unavailable(
            f"{network.url} can't be fetched ({' '.join(str(why).split())[:200]}); fetch it by "
            f"other means and put it at {path}, or give a VGG-19 by --perceptual"
        ) from error


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A new file beside `path`, of this process alone; gone afterwards unless it was renamed."""
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _stream(network: Published, partial: Path) -> None:
    """Write what the URL gives, at most one byte more than there should be, and check it."""
    digest, left = hashlib.sha256(), network.bytes + 1
    # TLS certificates are verified by default; the digest holds whatever the way was.
    with (
        urllib.request.urlopen(network.url, timeout=_TIMEOUT_S) as answer,  # noqa: S310
        partial.open("wb") as file,
    ):
        while left > 0 and (piece := answer.read(min(left, _PIECE_BYTES))):
            digest.update(piece)
            file.write(piece)
            left -= len(piece)
        file.flush()
        os.fsync(file.fileno())
    if left != 1:
        got = "more" if left < 1 else f"only {network.bytes + 1 - left}"
        raise _WrongBytes(f"it should have {network.bytes} bytes and has {got}")
    if digest.hexdigest() != network.sha256:
        raise _WrongBytes("its digest is not the one known for it")


class _WrongBytes(Exception):  # noqa: N818 - reads as what happened
    """What was fetched is not what was asked for."""


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
