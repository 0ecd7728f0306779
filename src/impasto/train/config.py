"""What a training is asked to do, as values."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from impasto.errors import RequestError
from impasto.nets.painter import PainterConfig

Precision = Literal["f32", "bf16", "fp16"]
"""What convolutions compute in; fp16 is for CUDA, with the loss scaled."""


@dataclass(frozen=True, slots=True)
class PaintingConfig:
    """How one painting is looked at, and what it weighs against the scene."""

    px: int = 720
    """Shorter side the painting is scaled to: strokes come out as large as they are there."""
    inset: float = 0.03
    """Part of each side cut off the painting before use: frames, edges of canvas, captions."""
    soften: float = 2.0
    """The painting is reduced by this factor and enlarged again: a network whose trunk has one cell
    per 4 x 4 pixels answers a demand for finer texture with a weave."""
    content_weight: float = 8.0
    content_in_grey: bool = True
    """Compare the content without colour: the palette is then the painting's alone."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that a result depends on, besides the paintings, photographs and judges."""

    iterations: int = 3000
    batch: int = 2
    """Crops per iteration, each in another style as long as there are enough."""
    crop_px: int = 256
    """Side of a crop; a multiple of 8 so that half of it suits the network too."""
    paintings: tuple[PaintingConfig, ...] = (PaintingConfig(),)
    """One per style."""
    frozen: bool = False
    """Learn style vectors only; the network stays as it is."""
    identity_weight: float = 0.0
    """Of one more style that leaves every frame as it is; 0 for none."""
    scales: tuple[int, ...] = (1, 2)
    """The style is compared at full size divided by each of these."""
    style_layers: tuple[str, ...] = ("1_2", "2_2", "3_1", "4_1")
    """Layers of VGG-19; each is taken from the first perceptual network that reaches it."""
    content_layer: str = "2_2"
    """Taken from the last perceptual network: give the cheapest one last."""
    style_weight: float = 8.0
    variation_weight: float = 12.0
    stillness_weight: float = 80.0
    stillness_begins: float = 0.1
    """Part of the iterations before the stillness term sets in: asked for at once, it forbids
    strokes before there are any."""
    noise_levels: float = 3.0
    """Standard deviation of the camera noise in the stillness term, of 255 levels."""
    learning_rate: float = 2.5e-3
    """At the start; it falls to zero along a cosine."""
    warm_up: int = 50
    """Iterations over which the learning rate rises from zero."""
    held_out: int = 24
    """Photographs, the last by name, that are never trained on but measured with."""
    check_every: int = 100
    """Iterations between two looks at the held-out photographs."""
    patience: int = 0
    """Looks in a row without a better one after which the training ends, with the weights of the
    best; 0 goes on to the last iteration and keeps that one's."""
    seed: int = 0
    precision: Precision = "bf16"
    """Weights and Gram matrices stay in float32."""
    device: str = "cpu"
    network: PainterConfig = dataclasses.field(default_factory=PainterConfig)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often the loop writes; none of it changes the result."""

    log_every: int = 10
    checkpoint_every: int = 100
    sample_every: int = 200


def check(config: TrainConfig) -> TrainConfig:
    """Return a configuration that can be trained with.

    Raises:
        RequestError: a number is out of range, the device is unknown or not there, or fp16 is asked
            for where it only makes sense on CUDA.
    """
    for name in ("iterations", "batch", "check_every", "held_out"):
        if getattr(config, name) < 1:
            raise RequestError(f"{name} must be above zero, got {getattr(config, name)}")
    if config.crop_px < 16 or config.crop_px % 8:
        raise RequestError(f"crop_px must be a multiple of 8 from 16 up, got {config.crop_px}")
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    except Exception as error:  # torch raises several types, by the backend
        raise RequestError(
            f"device {config.device!r} is not on this machine; give cpu, or cuda:0 where torch "
            "finds one"
        ) from error
    if config.precision == "fp16" and device.type != "cuda":
        raise RequestError(
            f"fp16 is for training on CUDA, not on {device.type}; give --precision bf16 or f32"
        )
    return config


def identity_of(config: TrainConfig, files: Sequence[Path], seen: Sequence[str] = ()) -> str:
    """Digest of the settings, of the bytes of `files` and of what else there is to see.

    `files` are the paintings, perceptual networks and checkpoints; `seen` names the photographs.
    """
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for name in seen:
        digest.update(name.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()
