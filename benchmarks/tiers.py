"""The shared networks of all qualities, and the standard transform network beside them.

    python benchmarks/tiers.py WEIGHTS.pth MODEL.onnx FRAME.npy SECONDS ROUNDS

WEIGHTS and MODEL are the standard network twice, FRAME is a picture, uint8 (H, W, 3). In one
process the networks take turns of SECONDS each, ROUNDS times, at the picture's size and at twice
that. Printed are the frames per second, and how close each network's frame is to what PyTorch
paints with the same weights in fp32.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reference_method
from impasto.errors import RequestError
from impasto.media.still import resize
from impasto.nets.export import export_onnx, read_painter
from impasto.nets.painter import SIZES, Painter, PainterConfig, plain_style
from impasto.records import Frames
from impasto.runtimes.openvino import Network, supported_precisions
from impasto.scorers import psnr_db
from impasto.styles import network_bytes, style_vectors
from impasto.styles.vectors import bind_style
from processes import spread

STANDARD = "standard"
_STYLE = "starry_night"
_LARGE = (STANDARD, "fast")  # what is measured at twice the size
_TURN_FRAMES = 2  # per stream and call: a slow network's turn must end as well
_SEED = 20


@dataclass(frozen=True, slots=True)
class Painting:
    """One network, as an ONNX file and as PyTorch paints with it."""

    model: bytes
    exact: Callable[[Frames], Frames]
    """Picture (H, W, 3) -> the same shape."""
    weights: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One network at one size and precision."""

    name: str
    width: int
    height: int
    precision: str
    network: Network
    batch: Frames
    weights: str
    psnr_db: float
    rates: list[float] = field(default_factory=list)

    def take(self, seconds: float) -> None:
        """Paint for so long, and note the frames per second."""
        frames, started = 0, time.perf_counter()
        while not frames or time.perf_counter() - started < seconds:
            self.network(self.batch)
            frames += len(self.batch)
        self.rates.append(frames / (time.perf_counter() - started))


def measure(weights: Path, model: Path, frame: Frames, seconds: float, rounds: int) -> list[Any]:
    """Frames per second of every network, each round's over the standard network's beside them."""
    net = reference_method.load(weights)
    paintings = {
        STANDARD: Painting(
            model.read_bytes(), lambda picture: reference_method.apply(net, picture), "as above"
        )
    }
    paintings |= {quality: _shared(quality, config) for quality, config in SIZES.items()}
    height, width = frame.shape[:2]
    large = resize(frame, width=2 * width, height=2 * height)
    turns = [
        _turn(name, painting, picture, precision)
        for picture in (frame, large)
        for precision in reversed(supported_precisions())
        for name, painting in paintings.items()
        if picture is frame or name in _LARGE
    ]
    for _ in range(rounds):
        for turn in turns:
            turn.take(seconds)
    return [_found(turn, turns) for turn in turns]


def _found(turn: Turn, turns: list[Turn]) -> dict[str, Any]:
    (standard,) = (
        each
        for each in turns
        if (each.name, each.width, each.precision) == (STANDARD, turn.width, turn.precision)
    )
    return {
        "network": turn.name,
        "size": f"{turn.width}x{turn.height}",
        "precision": turn.precision,
        "weights": turn.weights,
        "frames_per_s": spread(turn.rates),
        "ratio": spread([a / b for a, b in zip(turn.rates, standard.rates, strict=True)]),
        "psnr_db": turn.psnr_db,
    }


def _turn(name: str, painting: Painting, picture: Frames, precision: str) -> Turn:
    height, width = picture.shape[:2]
    network = Network(painting.model, height=height, width=width, precision=precision)
    batch = np.repeat(picture[None], network.streams * _TURN_FRAMES, axis=0)
    painted = network(batch)  # the first call also allocates
    exact = painting.exact(picture)
    db = round(min(psnr_db(exact, each) for each in painted), 2)
    return Turn(name, width, height, precision, network, batch, painting.weights, db)


def _shared(quality: str, config: PainterConfig) -> Painting:
    """The network that ships at `quality`, or one of its sizes with random weights."""
    try:
        network, weights = network_bytes(quality), _STYLE
        style = torch.from_numpy(style_vectors(_STYLE)[quality])
        net = read_painter(network)
    except (KeyError, RequestError):  # not part of this copy
        torch.manual_seed(_SEED)
        style, weights = plain_style(config), "random, fixed seed"
        net = Painter(config)
        network = _exported(net, style)
    net.eval()

    def exact(picture: Frames) -> Frames:
        with torch.no_grad():
            frame = torch.from_numpy(picture).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
            painted = net(frame, style[None]).clamp(0, 255).round()[0]
        result: Frames = painted.permute(1, 2, 0).to(torch.uint8).numpy()
        return result

    return Painting(bind_style(network, style.numpy()), exact, weights)


def _exported(net: Painter, style: torch.Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(net, path, style=style[None])
        return path.read_bytes()


def main() -> None:
    """See the top of this file."""
    weights, model, frame, seconds, rounds = sys.argv[1:]
    found = measure(Path(weights), Path(model), np.load(frame), float(seconds), int(rounds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
