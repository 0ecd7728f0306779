"""What a training begins with: a network's weights and the style vectors to choose from."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from impasto.errors import RequestError
from impasto.nets.export import read_painter
from impasto.nets.painter import Painter, PainterConfig, plain_style
from impasto.nets.texture import style_loss
from impasto.styles import list_styles, network_bytes, style_vectors
from impasto.train.judge import Textures
from impasto.train.loop import Trainer, read_checkpoint

_RIDGE = 0.1
"""Against the mean square of the rows; from 0.01 to 0.3 the mixtures paint alike."""
_TRIED = 6
"""Photographs that each known style paints to show how near it is to a new painting."""


@dataclass(frozen=True, slots=True)
class Start:
    """A painter, and the vectors of the styles that it knows."""

    config: PainterConfig
    network: dict[str, Tensor]
    """State dict of a `Painter` of that size."""
    styles: Tensor
    """(S, config.style_size)."""
    iterations: int = 0
    """That have gone into it, as far as is known."""


def shipped(quality: str) -> Start:
    """The shipped network of a quality, with the vectors of all styles that ship.

    Raises RequestError when it can't be read.
    """
    net = read_painter(network_bytes(quality))
    named = [style.name for style in list_styles() if quality in style.networks]
    vectors = [torch.from_numpy(style_vectors(name)[quality]) for name in named]
    known = torch.stack(vectors) if vectors else plain_style(net.config)[None]
    return Start(net.config, net.state_dict(), known)


def checkpoint(path: Path, config: PainterConfig) -> Start:
    """The network and the vectors of another training.

    Raises RequestError when it is none, holds no network, or one of other sizes.
    """
    state = read_checkpoint(path)
    network = {name: value for name, value in state["learned"].items() if name != "styles"}
    styles = state["learned"]["styles"]
    wanted = Painter(config).state_dict()
    shapes = {n: v.shape for n, v in network.items()} | {"styles": styles.shape[1:]}
    expected = {n: v.shape for n, v in wanted.items()} | {"styles": (config.style_size,)}
    if shapes != expected:
        what = "holds a network of other sizes" if network else "holds no network"
        raise RequestError(
            f"checkpoint {path} {what}; give one of a full training at the same quality"
        )
    done = state.get("iteration", 0) + state.get("earlier", 0)
    return Start(config, network, styles, done)


def begin(trainer: Trainer, start: Start) -> None:
    """Give a trainer the network of `start`, and as many of its vectors as it has room for."""
    _take(trainer, start)
    with torch.no_grad():
        kept = min(len(start.styles), len(trainer.styles))
        trainer.styles[:kept] = start.styles[:kept].to(trainer.styles.device)


def begin_mixed(trainer: Trainer, start: Start) -> Tensor:
    """The same for one new painting: its vector begins as a mixture of the known ones.

    Each known style paints a few held-out photographs. Mixing vectors mixes what they paint
    (Dumoulin et al., arXiv:1610.07629, section 3.5), so the weights of the mixture of those
    textures that is nearest to the painting's serve for the vectors, too. Where it does not paint
    more like the painting than the nearest known style does, that one is taken.

    Returns the weights (S,), whose sum is 1; some may be below 0.
    """
    _take(trainer, start)
    assert len(trainer.styles) == 1
    assert trainer.held_out is not None
    known = start.styles.to(trainer.styles.device)
    scene = trainer.held_out[:_TRIED].to(known.device).float()
    painting = trainer.judge.paintings
    with torch.inference_mode():
        seen = [trainer.judge.textures(trainer.net(scene, row[None])) for row in known]
        losses = [float(_apart(each, painting)) for each in seen]
        weights = _weights(
            torch.stack([_row(each, painting) for each in seen]), _row(painting, painting)
        )
        mixed = trainer.judge.textures(trainer.net(scene, weights @ known[None]))
        if min(losses) < float(_apart(mixed, painting)):
            nearest = min(range(len(losses)), key=losses.__getitem__)
            weights = torch.eye(len(known), device=known.device)[nearest]
        trainer.styles.copy_((weights @ known)[None])
    return weights


def _weights(known: Tensor, wanted: Tensor) -> Tensor:
    """Of the rows (S, F) whose weighted sum is nearest to a row (F,): ridge regression, (S,).

    The weights sum to 1, and are drawn towards equal ones: few styles explain no painting whole.
    """
    mean = known.mean(dim=0)
    rows = known - mean
    products = rows @ rows.T
    ridge = (_RIDGE * products.diagonal().mean()).clamp_min(1e-9)
    held = products + ridge * torch.eye(len(rows), device=rows.device)
    found: Tensor = torch.linalg.solve(held, rows @ (wanted - mean))
    return found - found.mean() + 1 / len(rows)


def _row(seen: Textures, painting: Textures) -> Tensor:
    """Statistics of pictures, their mean, as one row (F,); each over the painting's own norm.

    So the distance of two rows is in the units of the style loss.
    """
    parts = [
        statistic.mean(dim=0).flatten() / own.norm().clamp_min(1e-6)
        for key, wanted in painting.items()
        for statistic, own in zip(seen[key], wanted, strict=True)
    ]
    return torch.cat(parts)


def _apart(seen: Textures, painting: Textures) -> Tensor:
    """Style loss, mean over pictures, scales and layers."""
    return torch.stack(
        [style_loss(seen[key], wanted).mean() for key, wanted in painting.items()]
    ).mean()


def _take(trainer: Trainer, start: Start) -> None:
    trainer.net.load_state_dict(start.network)
    trainer.earlier = start.iterations


def grow(small: Start, config: PainterConfig) -> Start:
    """A larger painter that paints exactly what a smaller one does.

    Its first channels are the smaller one's. The new ones begin at random, but nothing listens to
    them yet: their weights into what was there are zero, and so is the last scale of a new residual
    block. (Net2Net; Chen et al., arXiv:1511.05641. The zero scale: Goyal et al., arXiv:1706.02677,
    section 5.1.)

    Raises RequestError when `config` is not larger in every respect, or has other dilations.
    """
    if not _larger(config, small.config):
        raise RequestError(f"a painter of {small.config} can't grow to one of {config}")
    network = Painter(config).state_dict()
    for name, value in small.network.items():
        # What stands there already hears nothing new: rows of old outputs begin as zeros.
        network[name][: len(value)] = 0
        network[name][tuple(slice(size) for size in value.shape)] = value
    styles = plain_style(config).repeat(len(small.styles), 1)
    old, new = _places(small.config), _places(config)
    for was, now in zip(old, new, strict=False):
        styles[:, now.scales(was.size)] = small.styles[:, was.scales(was.size)]
        styles[:, now.shifts(was.size)] = small.styles[:, was.shifts(was.size)]
    for second in new[len(old) + 1 :: 2]:  # each new block's second normalisation
        styles[:, second.scales(second.size)] = 0
    return dataclasses.replace(small, config=config, network=network, styles=styles)


def _larger(large: PainterConfig, small: PainterConfig) -> bool:
    return (
        large.channels >= small.channels
        and large.head_channels >= small.head_channels
        and large.head_blocks >= small.head_blocks
        and large.dilations == small.dilations
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a normalisation's scales begin in a style vector; its shifts follow them."""

    start: int
    size: int

    def scales(self, count: int) -> slice:
        """The first `count` of them."""
        return slice(self.start, self.start + count)

    def shifts(self, count: int) -> slice:
        """Likewise."""
        return slice(self.start + self.size, self.start + self.size + count)


def _places(config: PainterConfig) -> list[_Place]:
    places, start = [], 0
    for size in config.norms:
        places.append(_Place(start, size))
        start += 2 * size
    return places
