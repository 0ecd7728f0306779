"""What a training is asked to do, as values."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from impasto.nets.painter import PainterConfig


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that a result depends on, besides the painting, the photographs and the judges."""

    iterations: int = 3000
    batch: int = 2
    """Crops per iteration."""
    crop_px: int = 256
    """Side of a crop; a multiple of 8 so that half of it suits the network too."""
    painting_px: int = 720
    """Shorter side the painting is scaled to: strokes come out as large as they are there."""
    painting_inset: float = 0.03
    """Part of each side cut off the painting before use: frames, edges of canvas, captions."""
    painting_soften: float = 2.5
    """The painting is reduced by this factor and enlarged again: a network whose trunk has one cell
    per 4 x 4 pixels answers a demand for finer texture with a weave."""
    scales: tuple[int, ...] = (1, 2)
    """The style is compared at full size divided by each of these."""
    style_layers: tuple[str, ...] = ("1_2", "2_2", "3_1", "4_1")
    """Layers of VGG-19; each is taken from the first perceptual network that reaches it."""
    content_layer: str = "2_2"
    """Taken from the last perceptual network: give the cheapest one last."""
    content_in_grey: bool = True
    """Compare the content without colour: the palette is then the painting's alone."""
    style_weight: float = 8.0
    content_weight: float = 6.0
    variation_weight: float = 15.0
    stillness_weight: float = 150.0
    stillness_begins: float = 0.5
    """Part of the iterations before the stillness term sets in: asked for at once, it forbids
    strokes before there are any."""
    noise_levels: float = 3.0
    """Standard deviation of the camera noise in the stillness term, of 255 levels."""
    learning_rate: float = 2.5e-3
    """At the start; it falls to zero along a cosine."""
    warm_up: int = 50
    """Iterations over which the learning rate rises from zero."""
    seed: int = 0
    half_precision: bool = True
    """bfloat16 autocast for convolutions; weights and Gram matrices stay in float32."""
    device: str = "cpu"
    network: PainterConfig = dataclasses.field(default_factory=PainterConfig)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often the loop writes; none of it changes the result."""

    log_every: int = 10
    checkpoint_every: int = 100
    sample_every: int = 200


def identity_of(config: TrainConfig, files: Sequence[Path]) -> str:
    """Digest of the settings and of the bytes of the painting and the perceptual networks."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
