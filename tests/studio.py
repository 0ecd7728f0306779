"""A training in miniature: a painting, photographs, a VGG-19 of random weights, small networks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from impasto.nets.painter import Painter, PainterConfig, plain_style
from impasto.nets.perceptual import load_perceptual
from impasto.train.config import PaintingConfig, Rhythm, TrainConfig
from impasto.train.data import open_photographs
from impasto.train.judge import Judge
from impasto.train.loop import Trainer
from impasto.train.style import network_of

TINY = PainterConfig(channels=8, head_channels=8, dilations=(1,))
LOOK = PaintingConfig(px=48, inset=0.0, soften=1.0, content_weight=1.0)
SMALL = TrainConfig(
    iterations=40,
    batch=2,
    crop_px=32,
    paintings=(LOOK,),
    style_layers=("1_1", "1_2", "2_1"),
    content_layer="2_1",
    style_weight=20.0,
    variation_weight=1.0,
    stillness_weight=20.0,
    stillness_begins=0.5,
    learning_rate=5e-3,
    warm_up=1,
    check_every=10,
    precision="f32",
    network=TINY,
)
OFTEN = Rhythm(log_every=1, checkpoint_every=10, sample_every=20)


def furnish(folder: Path, photographs: int = 5) -> Path:
    """Draw painting.png and content/, and save vgg.pth."""
    rng = np.random.default_rng(7)
    (folder / "content").mkdir()
    for place in range(photographs):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(folder / f"content/{place}.png")
    stripes = np.zeros((60, 60, 3), np.uint8)
    stripes[::6] = stripes[1::6] = (250, 180, 20)
    stripes[3::6] = (20, 40, 200)
    Image.fromarray(stripes).save(folder / "painting.png")
    generator = torch.Generator().manual_seed(1)
    layers = {0: (3, 8), 2: (8, 8), 5: (8, 12), 7: (12, 12), 10: (12, 8), 12: (8, 8), 14: (8, 8),
              16: (8, 8), 19: (8, 8)}  # fmt: skip
    state = {}
    for index, (inputs, outputs) in layers.items():
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
        state[f"features.{index}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
        state[f"features.{index}.bias"] = torch.zeros(outputs)
    torch.save(state, folder / "vgg.pth")
    return folder


def ship(folder: Path, networks: dict[str, PainterConfig]) -> Path:
    """Write small random networks as if they shipped; returns their folder."""
    target = folder / "networks"
    target.mkdir()
    for quality, config in networks.items():
        torch.manual_seed(3)
        (target / f"{quality}.onnx").write_bytes(network_of(Painter(config)))
    return target


def trainer_of(folder: Path, config: TrainConfig = SMALL) -> Trainer:
    """A trainer on a grey painting, the same every time."""
    grey = torch.full((1, 3, 48, 48), 99.0)
    judge = Judge([load_perceptual(folder / "vgg.pth")], [grey] * len(config.paintings), config)
    photographs = open_photographs(folder / "content", lambda line: None)
    held_out = photographs.hold_out(config.held_out).each(size_px=config.crop_px, seed=0)
    return Trainer(config, judge, photographs, identity="the same", held_out=held_out)


def random_styles(config: PainterConfig, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    plain = plain_style(config).repeat(count, 1)
    return plain + 0.3 * torch.randn(plain.shape, generator=generator)


def losses_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
