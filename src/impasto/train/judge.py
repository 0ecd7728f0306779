"""Paintings as numbers: how far a painted crop is from its painting, and from its scene."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from impasto.errors import RequestError
from impasto.nets import texture as textures
from impasto.nets.perceptual import Perceptual
from impasto.train.config import TrainConfig

Textures = dict[tuple[int, str], textures.Texture]
"""By scale and layer."""


class Judge:
    """The paintings as numbers: what painted crops are compared with."""

    def __init__(
        self,
        networks: Sequence[Perceptual],
        paintings: Sequence[Tensor],
        config: TrainConfig,
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
            each = [self.textures(painting.to(config.device)) for painting in paintings]
        self.paintings = {key: textures.stack([found[key] for found in each]) for key in each[0]}
        device = config.device
        self.content_weight = torch.tensor(
            [painting.content_weight for painting in config.paintings], device=device
        )
        self.in_grey = torch.tensor(
            [painting.content_in_grey for painting in config.paintings], device=device
        )

    def __call__(self, painted: Tensor, scene: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Style and content loss (N,) of painted crops (N, 3, H, W) against the scenes they show.

        `which` (N,) is the number of each crop's painting.
        """
        style = torch.stack(
            [
                textures.style_loss(texture, self.paintings[key].of(which))
                for key, texture in self.textures(painted).items()
            ]
        ).mean(dim=0)
        tap, network = self.config.content_layer, self.networks[-1]
        in_grey = self.in_grey[which][:, None, None, None]
        seen, shown = (
            torch.where(in_grey, textures.grey(pictures), pictures) for pictures in (painted, scene)
        )
        with torch.no_grad():
            wanted = network(shown, (tap,))[tap]
        return style, textures.content_loss(network(seen, (tap,))[tap], wanted)

    def textures(self, pictures: Tensor) -> Textures:
        """Statistics of the feature maps of pictures (N, 3, H, W), for the style."""
        found: Textures = {}
        for scale in self.config.scales:
            scaled = functional.avg_pool2d(pictures, scale) if scale > 1 else pictures
            for network, taps in zip(self.networks, self.taps, strict=True):
                seen = network(scaled, taps) if taps else {}
                found |= {(scale, tap): textures.texture(seen[tap]) for tap in taps}
        return found


def _share_layers(networks: Sequence[Perceptual], layers: tuple[str, ...]) -> list[tuple[str, ...]]:
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
