"""The training loop: paintings and photographs -> weights and vectors, resumable at any moment."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from impasto.errors import Interrupted, RequestError, Way
from impasto.nets.painter import Painter, plain_style
from impasto.nets.texture import total_variation
from impasto.stopping import Stopping
from impasto.train.config import Rhythm, TrainConfig
from impasto.train.data import Photographs
from impasto.train.journal import PREVIEW, Journal, write_whole
from impasto.train.judge import Judge
from impasto.train.motion import move, second_view, stillness_loss
from impasto.train.step import TrainingStep

CHECKPOINT = "checkpoint.pt"

_STYLES = "styles"
_MEASURED_AT_ONCE = 8
_LEAST_GAIN = 0.002
"""Part of the best loss by which a new one must be lower to count as better."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best look at the held-out photographs so far."""

    total: float
    iteration: int
    learned: dict[str, Tensor]


class Trainer:
    """A painter, its optimiser and how far they are; one folder holds it between processes."""

    def __init__(
        self,
        config: TrainConfig,
        judge: Judge,
        photographs: Photographs,
        *,
        identity: str,
        held_out: Tensor | None = None,
    ) -> None:
        self.config = config
        self.judge = judge
        self.photographs = photographs
        self.held_out = held_out
        """uint8 (N, 3, size, size): what is measured with and never trained on."""
        self.identity = identity
        """Digest of all that the result depends on; a checkpoint of another one is refused."""
        torch.manual_seed(config.seed)
        self.net = Painter(config.network).to(config.device)
        # Twice as fast on a CPU as torch's usual layout.
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rows = len(config.paintings) + (config.identity_weight > 0)
        plain = plain_style(config.network).repeat(rows, 1)
        self.styles = nn.Parameter(plain.to(config.device))
        """(paintings, style_size), one row per painting; the identity's is the last."""
        self.net.requires_grad_(not config.frozen)
        learned = [self.styles] if config.frozen else [*self.net.parameters(), self.styles]
        self.optimiser = torch.optim.Adam(learned, lr=config.learning_rate)
        self.scaler = torch.amp.GradScaler(
            torch.device(config.device).type, enabled=config.precision == "fp16"
        )
        self.iteration = 0
        self.earlier = 0
        """Iterations of the training that this one began from."""
        self.best: Best | None = None
        self.worse = 0
        """Looks at the held-out photographs since the best one."""

    def step(self) -> dict[str, float]:
        """One iteration; returns the losses before the weights moved."""
        config = self.config
        # Seeded by the iteration, so that there is no state of a generator to resume.
        rng = np.random.default_rng((config.seed, self.iteration))
        crops = self.photographs.crops(rng, count=config.batch, size_px=config.crop_px)
        scene = crops.to(config.device).float()  # (N, 3, size, size)
        scene = scene.contiguous(memory_format=torch.channels_last)
        which = torch.from_numpy(_draw(rng, len(self.styles), config.batch)).to(config.device)
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(config, self.iteration)
        with self._autocast():
            terms, total = self._losses(
                scene, which, rng, still=self._all_terms, styles=self.styles
            )
        self.optimiser.zero_grad(set_to_none=True)
        # Without fp16 the scaler passes everything through as it is.
        torch.autograd.backward(self.scaler.scale(total))
        self.scaler.unscale_(self.optimiser)
        # A rare crop (all black, say) must not throw away what many others taught.
        nn.utils.clip_grad_norm_(self.optimiser.param_groups[0]["params"], 10.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.iteration += 1
        return {name: float(value.detach()) for name, value in {**terms, "total": total}.items()}

    def measure(
        self, *, painting: int | None = None, vector: Tensor | None = None
    ) -> dict[str, float]:
        """The losses on the held-out photographs: the same crops, the same motion every time.

        The paintings take turns, or only the one numbered `painting` is measured; `vector`
        (style_size,) takes the place of the trainer's own.
        """
        assert self.held_out is not None
        count, device = len(self.config.paintings), self.config.device
        styles = self.styles if vector is None else vector.expand_as(self.styles)
        rng = np.random.default_rng((self.config.seed, 0, len(self.held_out)))
        sums: dict[str, float] = {}
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(self.held_out), _MEASURED_AT_ONCE):
                scene = self.held_out[start : start + _MEASURED_AT_ONCE].to(device).float()
                scene = scene.contiguous(memory_format=torch.channels_last)
                turns = torch.arange(start, start + len(scene), device=device) % count
                which = turns if painting is None else torch.full_like(turns, painting)
                terms, total = self._losses(scene, which, rng, still=True, styles=styles)
                for name, value in {**terms, "total": total}.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(scene)
        return {name: value / len(self.held_out) for name, value in sums.items()}

    def look(self) -> dict[str, float]:
        """Measure, and keep the weights when they are the best so far."""
        found = self.measure()
        if self._all_terms:
            if self.best is None or found["total"] < self.best.total * (1 - _LEAST_GAIN):
                learned = {name: value.clone() for name, value in self._learned().items()}
                self.best, self.worse = Best(found["total"], self.iteration, learned), 0
            else:
                self.worse += 1
        return found

    @property
    def finished(self) -> bool:
        """Whether the last iteration is done, or patience at an end."""
        patience = self.config.patience
        return self.iteration >= self.config.iterations or 0 < patience <= self.worse

    def take_best(self) -> None:
        """Go back to the best weights, where there is patience to look for them."""
        if self.config.patience and self.best is not None:
            self._take(self.best.learned)

    @property
    def _all_terms(self) -> bool:
        return self.iteration >= self.config.stillness_begins * self.config.iterations

    def _autocast(self) -> torch.autocast:
        half = torch.float16 if self.config.precision == "fp16" else torch.bfloat16
        kind = torch.device(self.config.device).type
        return torch.autocast(kind, half, enabled=self.config.precision != "f32")

    def _learned(self) -> dict[str, Tensor]:
        """What the training changes, by name; a frozen network is not part of it."""
        network = {} if self.config.frozen else self.net.state_dict()
        return {_STYLES: self.styles.detach(), **network}

    def _take(self, learned: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.styles.copy_(learned[_STYLES])
        if not self.config.frozen:
            self.net.load_state_dict({n: value for n, value in learned.items() if n != _STYLES})

    def _losses(
        self,
        scene: Tensor,
        which: Tensor,
        rng: np.random.Generator,
        *,
        still: bool,
        styles: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Each loss, averaged over the crops, and their weighted sum."""
        config = self.config
        style_vectors = styles[which]
        if not still:
            painted = self.net(scene, style_vectors).float()
            stillness = painted.new_zeros(())
        else:
            # Half of the crops do for this term; it costs as much again as painting them.
            half = slice(0, (len(scene) + 1) // 2)
            view = second_view(rng, scene[half], noise_levels=config.noise_levels)
            frames = torch.cat([scene, view.scene])
            both = self.net(frames, torch.cat([style_vectors, style_vectors[half]])).float()
            painted, painted_moved = both[: len(scene)], both[len(scene) :]
            moved = move(painted[half], view.grid)
            stillness = stillness_loss(painted_moved, moved, view.visible)
        variation = total_variation(painted)
        # The identity is asked for every pixel, and for nothing else.
        identity = which == len(config.paintings)
        plain = ((painted - scene).abs() / 255).mean(dim=(1, 2, 3))  # (N,)
        known = which.clamp(max=len(config.paintings) - 1)
        style, content = self.judge(painted, scene, known)
        asked = config.style_weight * style + self.judge.content_weight[known] * content
        total = torch.where(identity, config.identity_weight * plain, asked).mean()
        total = (
            total
            + config.variation_weight * (variation * ~identity).mean()
            + config.stillness_weight * stillness
        )
        share = (~identity).float() / (~identity).sum().clamp_min(1)
        terms = {
            "style": (style * share).sum(),
            "content": (content * share).sum(),
            "variation": (variation * share).sum(),
            "stillness": stillness,
        }
        return terms, total

    def save(self, path: Path) -> None:
        """Write the whole state; the file at `path` is the old one or the new one, never a part."""
        state = {
            "identity": self.identity,
            "iteration": self.iteration,
            "earlier": self.earlier,
            "learned": self._learned(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best and (self.best.total, self.best.iteration, self.best.learned),
            "worse": self.worse,
        }
        write_whole(path, lambda partial: torch.save(state, partial))

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises RequestError when it belongs to another training."""
        state = read_checkpoint(path)
        if state.get("identity") != self.identity:
            raise RequestError(
                f"checkpoint {path} belongs to another painting, other photographs or other "
                "settings; give those it was begun with, or begin anew with another name or folder"
            )
        self._take(state["learned"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.iteration, self.earlier = state["iteration"], state["earlier"]
        self.best = Best(*state["best"]) if state["best"] else None
        self.worse = state["worse"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `Trainer.save` wrote. Raises RequestError for anything else."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, by the kind of damage
        raise RequestError(
            f"checkpoint {path} cannot be read ({type(error).__name__}); give a checkpoint.pt "
            "that a training wrote, or remove it to begin anew"
        ) from error
    if not _is_checkpoint(state):
        raise RequestError(
            f"{path} is not the checkpoint of a training; give a checkpoint.pt that one wrote"
        )
    return state


def _is_checkpoint(state: Any) -> bool:
    """Whether it has what every reader of a checkpoint looks for."""
    learned = state.get("learned") if isinstance(state, dict) else None
    return (
        isinstance(learned, dict)
        and _STYLES in learned
        and all(isinstance(value, Tensor) for value in learned.values())
        and all(isinstance(state.get(name, 0), int) for name in ("iteration", "earlier"))
    )


def run(
    trainer: Trainer,
    folder: Path,
    *,
    rhythm: Rhythm,
    scenes: Sequence[Image.Image],
    on_step: Callable[[TrainingStep], None],
) -> None:
    """Train until it is finished; resume from `folder/checkpoint.pt` where it exists.

    Writes checkpoint.pt, losses.jsonl, curves.png, samples/NNNNNN.png and preview.png into
    `folder`; `scenes` are what the samples show. The trainer then holds the weights to keep.

    Raises Interrupted after a signal, the checkpoint written.
    """
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        trainer.load(checkpoint)
    journal = Journal(folder, trainer.iteration)
    last, begin = trainer.config.iterations, time.perf_counter()
    if trainer.iteration == 0:
        journal.paint(trainer.net, trainer.styles, scenes, f"{0:06d}")
    with Stopping() as stopping:
        while not trainer.finished:
            terms = trainer.step()
            done = trainer.iteration
            due = done % trainer.config.check_every == 0 or done == last
            found = trainer.look() if due and trainer.held_out is not None else None
            ended = trainer.finished
            if done % rhythm.log_every == 0 or found or ended:
                seconds = round(time.perf_counter() - begin, 1)
                entry = {"iteration": done, **terms, "elapsed_s": seconds}
                journal.write(entry | ({"held_out": found} if found else {}))
            if done % rhythm.sample_every == 0 or ended:
                journal.draw()
                journal.paint(trainer.net, trainer.styles, scenes, f"{done:06d}")
            on_step(_told(trainer, terms, folder))
            stop = stopping.requested
            if done % rhythm.checkpoint_every == 0 or ended or stop:
                trainer.save(checkpoint)
            if stop and not ended:
                raise Interrupted(f"stopped after iteration {done}", Way("resume"))
    trainer.take_best()


def _told(trainer: Trainer, terms: dict[str, float], folder: Path) -> TrainingStep:
    best = trainer.best
    return TrainingStep(
        iteration=trainer.iteration,
        iterations=trainer.config.iterations,
        losses=terms,
        best=None if best is None else best.total,
        best_iteration=None if best is None else best.iteration,
        preview=str(folder / PREVIEW),
    )


def _draw(rng: np.random.Generator, styles: int, count: int) -> NDArray[np.int64]:
    """Numbers of the styles of one batch: none twice before all were there."""
    rounds = -(-count // styles)
    return np.concatenate([rng.permutation(styles) for _ in range(rounds)])[:count]


def _learning_rate(config: TrainConfig, iteration: int) -> float:
    rise = min(1.0, (iteration + 1) / max(1, config.warm_up))
    fall = 0.5 * (1 + math.cos(math.pi * iteration / config.iterations))
    return config.learning_rate * rise * fall
