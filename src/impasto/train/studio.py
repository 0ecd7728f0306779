"""All that a training needs, put together; and what its card says at the end."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from impasto.nets.perceptual import load_perceptual
from impasto.train.config import PaintingConfig, Rhythm, TrainConfig, check, identity_of
from impasto.train.data import Photographs, read_painting
from impasto.train.journal import Figures
from impasto.train.judge import Judge
from impasto.train.loop import Trainer, run
from impasto.train.step import TrainingStep

_SAMPLED = 3


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears how a training goes."""

    report: Callable[[str], None] = print
    """Called with one line for what a person should know."""
    on_step: Callable[[TrainingStep], None] = lambda step: None  # noqa: ARG005


@dataclass(frozen=True, slots=True)
class Studio:
    """A trainer, and the held-out pictures that its samples show."""

    trainer: Trainer
    scenes: list[Image.Image]

    def run(self, folder: Path, rhythm: Rhythm, listener: Listener) -> None:
        """Train in `folder`; see `loop.run`."""
        folder.mkdir(parents=True, exist_ok=True)
        run(self.trainer, folder, rhythm=rhythm, scenes=self.scenes, on_step=listener.on_step)


def open_studio(
    config: TrainConfig,
    *,
    paintings: Sequence[Path],
    perceptual: Sequence[Path],
    photographs: Photographs,
    begun_from: Sequence[str | Path] = (),
) -> Studio:
    """Read paintings and perceptual networks, and hold photographs out.

    `begun_from` is what else the result depends on: files by their bytes, words as they are.

    Raises RequestError for a setting or a file that can't be used.
    """
    check(config)
    pictures = [
        read_painting(path, shorter_px=look.px, inset=look.inset, soften=look.soften)
        for path, look in zip(paintings, config.paintings, strict=True)
    ]
    judge = Judge([load_perceptual(path) for path in perceptual], pictures, config)
    words = [each for each in begun_from if isinstance(each, str)]
    files = [each for each in begun_from if isinstance(each, Path)]
    identity = identity_of(
        config, [*paintings, *perceptual, *files], [*words, *map(str, photographs.names())]
    )
    held_out = photographs.hold_out(config.held_out)
    crops = held_out.each(size_px=config.crop_px, seed=config.seed)
    trainer = Trainer(config, judge, photographs, identity=identity, held_out=crops)
    return Studio(trainer, held_out.first(_SAMPLED))


def trained(trainer: Trainer, today: dt.date, *, painting: int = 0) -> dict[str, Any]:
    """What a card says of a finished training: figures on photographs that it never saw."""
    found = trainer.measure(painting=painting)
    assert trainer.held_out is not None
    figures = {name: round(found[name], 5) for name in Figures.__dataclass_fields__}
    looks: PaintingConfig = trainer.config.paintings[painting]
    return {
        "date": today.isoformat(),
        "iterations": trainer.earlier + trainer.iteration,
        "seed": trainer.config.seed,
        "painting_px": looks.px,
        "held_out": {
            "photographs": len(trainer.held_out),
            **figures,
            "style_unpainted": round(_unpainted(trainer, painting), 5),
        },
    }


def _unpainted(trainer: Trainer, painting: int) -> float:
    """Style loss of the photographs as they are: what a style starts from."""
    assert trainer.held_out is not None
    losses = []
    with torch.inference_mode():
        for crop in trainer.held_out:
            scene = crop[None].to(trainer.config.device).float()
            which = torch.full((1,), painting, device=scene.device)
            losses.append(float(trainer.judge(scene, scene, which)[0]))
    return sum(losses) / len(losses)
