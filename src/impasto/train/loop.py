"""The training loop: a painting and photographs -> a painter's weights, resumable at any moment."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from impasto.errors import RequestError
from impasto.nets.painter import MULTIPLE_OF, Painter
from impasto.train import losses
from impasto.train.config import Rhythm, TrainConfig
from impasto.train.data import Photographs, picture_tensor, read_picture
from impasto.train.motion import move, small_motion


@dataclass(frozen=True, slots=True)
class Figures:
    """The last value of each loss, averaged over the last lines of the log; ratios, no unit."""

    style: float
    content: float
    variation: float
    stillness: float


class Judge:
    """The painting as numbers: what a painted crop is compared with."""

    def __init__(
        self, networks: Sequence[losses.Perceptual], painting: Tensor, config: TrainConfig
    ) -> None:
        self.networks = [network.to(config.device) for network in networks]
        self.config = config
        self.taps = _share_layers(self.networks, config.style_layers)
        if config.content_layer not in self.networks[-1].names:
            raise RequestError(
                f"content_layer {config.content_layer} is not in the last perceptual network; "
                f"it has {', '.join(self.networks[-1].names)}"
            )
        with torch.no_grad():
            found, _ = self._look(painting.to(config.device), config.content_layer)
            self.painting = {key: losses.texture(value) for key, value in found.items()}

    def __call__(self, painted: Tensor, scene: Tensor) -> tuple[Tensor, Tensor]:
        """Style and content loss of painted crops (N, 3, H, W) against the scenes they show."""
        tap = self.config.content_layer
        found, seen = self._look(painted, tap)
        if self.config.content_in_grey:
            scene = losses.grey(scene)
            seen = self.networks[-1](losses.grey(painted), (tap,))[tap]
        style = torch.stack(
            [losses.style_loss(losses.texture(x), self.painting[key]) for key, x in found.items()]
        ).mean()
        with torch.no_grad():
            wanted = self.networks[-1](scene, (tap,))[tap]
        return style, losses.content_loss(seen, wanted)

    def _look(
        self, pictures: Tensor, content_tap: str
    ) -> tuple[dict[tuple[int, str], Tensor], Tensor]:
        """Feature maps for the style, by scale and layer, and the one for the content."""
        found: dict[tuple[int, str], Tensor] = {}
        content = self.networks[-1](pictures, (content_tap, *self.taps[-1]))
        for scale in self.config.scales:
            scaled = functional.avg_pool2d(pictures, scale) if scale > 1 else pictures
            for network, taps in zip(self.networks, self.taps, strict=True):
                if network is self.networks[-1] and scale == 1:
                    seen = content  # not twice
                else:
                    seen = network(scaled, taps) if taps else {}
                found |= {(scale, tap): seen[tap] for tap in taps}
        return found, content[content_tap]


def _share_layers(
    networks: Sequence[losses.Perceptual], layers: tuple[str, ...]
) -> list[tuple[str, ...]]:
    shared: list[list[str]] = [[] for _ in networks]
    for layer in layers:
        owner = next((i for i, network in enumerate(networks) if layer in network.names), None)
        if owner is None:
            raise RequestError(
                f"style layer {layer} is in none of the perceptual networks; "
                f"they have {', '.join(sorted({n for net in networks for n in net.names}))}"
            )
        shared[owner].append(layer)
    return [tuple(names) for names in shared]


class Trainer:
    """A painter, its optimiser and how far they are; one folder holds it between processes."""

    def __init__(
        self, config: TrainConfig, judge: Judge, photographs: Photographs, *, identity: str
    ) -> None:
        self.config = config
        self.judge = judge
        self.photographs = photographs
        self.identity = identity
        """Digest of all that the result depends on; a checkpoint of another one is refused."""
        torch.manual_seed(config.seed)
        self.net = Painter(config.network).to(config.device)
        # Twice as fast on a CPU as torch's usual layout.
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate)
        self.iteration = 0
        self.earlier = 0
        """Iterations of the training that this one began from."""

    def step(self) -> dict[str, float]:
        """One iteration; returns the losses before the weights moved."""
        config = self.config
        # Seeded by the iteration, so that there is no state of a generator to resume.
        rng = np.random.default_rng((config.seed, self.iteration))
        crops = self.photographs.crops(rng, count=config.batch, size_px=config.crop_px)
        scene = crops.to(config.device).float()  # (N, 3, size, size)
        scene = scene.contiguous(memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(config, self.iteration)
        with torch.autocast(
            torch.device(config.device).type, torch.bfloat16, enabled=config.half_precision
        ):
            terms = self._losses(scene, rng)
        total = (
            config.style_weight * terms["style"]
            + config.content_weight * terms["content"]
            + config.variation_weight * terms["variation"]
            + config.stillness_weight * terms["stillness"]
        )
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        # A rare crop (all black, say) must not throw away what many others taught.
        nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimiser.step()
        self.iteration += 1
        return {name: float(value.detach()) for name, value in {**terms, "total": total}.items()}

    def _losses(self, scene: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        config = self.config
        if self.iteration < config.stillness_begins * config.iterations:
            painted = self.net(scene).float()
            stillness = painted.new_zeros(())
        else:
            grid = small_motion(rng, scene).to(scene.device)  # (N, size, size, 2)
            noise = torch.from_numpy(rng.standard_normal(scene.shape, dtype=np.float32))
            moved = move(scene, grid) + config.noise_levels * noise.to(scene.device)
            both = self.net(torch.cat([scene, moved])).float()
            painted, painted_moved = both.chunk(2)
            inside = (grid.abs().amax(dim=3) <= 1)[:, None].float()
            stillness = losses.stillness_loss(painted_moved, move(painted, grid), inside)
        style, content = self.judge(painted, scene)
        variation = losses.total_variation(painted)
        return {
            "style": style, "content": content, "variation": variation, "stillness": stillness,
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the whole state; the file at `path` is the old one or the new one, never a part."""
        state = {
            "identity": self.identity,
            "iteration": self.iteration,
            "earlier": self.earlier,
            "network": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        write_whole(path, lambda partial: torch.save(state, partial))

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises RequestError when it belongs to another training."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["identity"] != self.identity:
            raise RequestError(
                f"checkpoint {path} belongs to another painting or other settings; "
                "give an empty target folder or the settings it was begun with"
            )
        self.net.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration, self.earlier = state["iteration"], state["earlier"]

    def begin_from(self, path: Path) -> None:
        """Take the weights, and nothing else, of another training's checkpoint.

        Raises RequestError when its network has other sizes.
        """
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        try:
            self.net.load_state_dict(state["network"])
        except RuntimeError as error:
            raise RequestError(
                f"checkpoint {path} holds a network of other sizes than {self.config.network}; "
                "give one of the same sizes, or none"
            ) from error
        self.earlier = state["iteration"] + state["earlier"]


def run(
    trainer: Trainer,
    target_dir: Path,
    *,
    rhythm: Rhythm,
    samples: Sequence[Path],
    report: Callable[[str], None],
) -> Figures:
    """Train until the last iteration; resume from `target_dir/checkpoint.pt` where it exists.

    Writes checkpoint.pt, losses.jsonl (one object per logged iteration) and samples/NNNNNN-name.png
    under `target_dir`.
    """
    checkpoint = target_dir / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
        report(f"resumed at iteration {trainer.iteration}")
    log = target_dir / "losses.jsonl"
    lines = _lines_before(log, trainer.iteration)
    last = trainer.config.iterations
    begin = time.perf_counter()
    with log.open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
        while trainer.iteration < last:
            terms = trainer.step()
            done = trainer.iteration
            if done % rhythm.log_every == 0 or done == last:
                seconds = round(time.perf_counter() - begin, 1)
                entry = {"iteration": done, **terms, "elapsed_s": seconds}
                lines.append(json.dumps(entry) + "\n")
                stream.write(lines[-1])
                stream.flush()
                report(_progress(done, last, terms))
            if done % rhythm.sample_every == 0 or done == last:
                write_samples(trainer.net, samples, target_dir / "samples", prefix=f"{done:06d}")
            if done % rhythm.checkpoint_every == 0 or done == last:
                trainer.save(checkpoint)
    return _figures(lines)


def write_samples(net: Painter, samples: Sequence[Path], folder: Path, *, prefix: str) -> None:
    """Paint each picture and write it as `folder/prefix-name.png`; sizes are cut to multiples of 4.

    Raises what Pillow raises for a picture that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = next(net.parameters()).device
    for path in samples:
        frames = picture_tensor(read_picture(path))  # (1, 3, H, W)
        height, width = (side // MULTIPLE_OF * MULTIPLE_OF for side in frames.shape[2:])
        with torch.inference_mode():
            painted = net(frames[:, :, :height, :width].to(device))[0]
        array = painted.clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()
        Image.fromarray(array).save(folder / f"{prefix}-{path.stem}.png")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.replace(path)


def _learning_rate(config: TrainConfig, iteration: int) -> float:
    rise = min(1.0, (iteration + 1) / max(1, config.warm_up))
    fall = 0.5 * (1 + math.cos(math.pi * iteration / config.iterations))
    return config.learning_rate * rise * fall


def _lines_before(log: Path, iteration: int) -> list[str]:
    """The log up to a checkpoint; what was logged after it will be done again."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [line for line in whole if json.loads(line)["iteration"] <= iteration]


def _progress(done: int, last: int, terms: dict[str, float]) -> str:
    return f"{done}/{last} " + " ".join(f"{name} {value:.4f}" for name, value in terms.items())


def _figures(lines: Sequence[str]) -> Figures:
    entries = [json.loads(line) for line in lines[-20:]]
    mean = {
        field.name: round(sum(entry[field.name] for entry in entries) / max(1, len(entries)), 5)
        for field in dataclasses.fields(Figures)
    }
    return Figures(**mean)
