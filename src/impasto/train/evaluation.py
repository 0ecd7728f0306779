"""The figures of one style: a scorer, shots, perceptual networks -> Evaluation.

The perceptual networks must be others than the style was trained with: a style is good at pleasing
the network that judged it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from impasto.errors import RequestError
from impasto.records import Frames
from impasto.train.losses import Features, Texture, content_loss, grey, load_perceptual, texture
from impasto.train.measures import (
    Border,
    Colour,
    border,
    colour,
    flicker,
    gram_distance,
    spectrum,
    warping_error,
    weave_peak,
    weave_share,
)
from impasto.train.shots import PANS, Setting, Shots, plain_inputs
from impasto.train.squeezenet import load_squeezenet

Score = Callable[[Frames], Frames]  # uint8 RGB (N, S, S, 3) -> the same shape

PERIODS = (2, 4, 8)
"""Of the weaves that are looked for, in pixels."""


@dataclass(frozen=True, slots=True)
class Eye:
    """A perceptual network, and where it is tapped."""

    name: str
    see: Callable[[Tensor, tuple[str, ...]], Features]
    """Pictures (N, 3, H, W) RGB 0..255 and layer names -> feature maps."""
    layers: tuple[str, ...]
    content_layer: str

    def textures(self, pictures: Tensor) -> dict[str, Texture]:
        """Statistics per layer, named "network layer"."""
        with torch.no_grad():
            found = self.see(pictures, self.layers)
            return {f"{self.name} {layer}": texture(found[layer]) for layer in self.layers}

    def content(self, painted: Tensor, scene: Tensor) -> float:
        """Content loss of one picture (1, 3, H, W) against the scene it shows; 0 for equal ones."""
        with torch.no_grad():
            a, b = (
                self.see(x, (self.content_layer,))[self.content_layer] for x in (painted, scene)
            )
            return float(content_loss(a, b))


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the photographs."""

    mean: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one style; ratios without a unit unless they say levels (of 255)."""

    gram: dict[str, float]
    """Layer -> Gatys' style loss over the painting's energy; empty without a painting."""
    strokes: dict[str, float]
    """The same without the channels' means, which are mostly colour."""
    content: dict[str, float]
    """Layer -> distance to the scene's features over their energy."""
    content_grey: dict[str, float]
    """The same without colour: another palette costs nothing."""
    warping: dict[str, Spread]
    """Pan -> warping error over the picture's standard deviation."""
    tripod_levels: Spread
    """Standard deviation over time of a still scene's pixels, levels."""
    weave_peak: dict[str, float]
    """Period in pixels -> how far it stands out of the spectrum; about 1 for none."""
    weave_share: dict[str, float]
    """Period in pixels -> part of the spectrum's energy there."""
    border: Border
    """Mean over the photographs."""
    plain: dict[str, Colour]
    """Flat and dark inputs -> what becomes of them."""


def open_eye(path: Path) -> Eye:
    """Read a perceptual network: SqueezeNet 1.1, or a VGG-19 that `load_perceptual` knows.

    Raises RequestError for anything else.
    """
    squeezenet = load_squeezenet(path)
    if squeezenet is not None:
        layers = ("conv1", "fire3", "fire5")
        return Eye("squeezenet", squeezenet, layers, "fire5")
    vgg = load_perceptual(path)
    return Eye("vgg19", vgg, tuple(vgg.names), vgg.names[-1])


def evaluate(
    score: Score,
    shots: Sequence[Shots],
    eyes: Sequence[Eye],
    setting: Setting,
    *,
    painting: Mapping[str, Texture] | None = None,
) -> Evaluation:
    """Paint the shots of every photograph and measure; `painting` is what `Eye.textures` gives."""
    stills = [score(each.still) for each in shots]
    rng = np.random.default_rng(setting.seed)
    flats = plain_inputs(setting.size_px, rng)
    colours = {name: colour(score(frames)) for name, frames in flats.items()}
    dims = [colour(score(each.dim)) for each in shots]
    tensors = [tensor_of(still) for still in stills]
    peaks, shares = _weaves(stills)
    gram, strokes = _distances(tensors, eyes, painting or {})
    return Evaluation(
        gram=gram,
        strokes=strokes,
        content=_contents(tensors, shots, eyes, lambda picture: picture),
        content_grey=_contents(tensors, shots, eyes, grey),
        warping={
            name: _spread([warping_error(score(each.pans[name]), step) for each in shots])
            for name, step in PANS.items()
        },
        tripod_levels=_spread([flicker(score(each.tripod)) for each in shots]),
        weave_peak=peaks,
        weave_share=shares,
        border=_mean_border([border(still) for still in stills]),
        plain=colours | {"dark scenes": _mean_colour(dims)},
    )


def painting_itself(
    picture: Tensor, eyes: Sequence[Eye], setting: Setting
) -> tuple[dict[str, Texture], dict[str, dict[str, float]]]:
    """The painting's statistics, and how far squares cut out of it are from the whole.

    No style can be expected to come closer to the painting than a part of it does. `picture` is
    float32 (1, 3, H, W), RGB 0..255, at least one square in size.
    """
    size = setting.size_px
    height, width = picture.shape[2:]
    if min(height, width) < size:
        raise RequestError(
            f"painting_px must be at least size_px, {size}, got {min(height, width)}"
        )
    squares = [
        picture[:, :, top : top + size, left : left + size]
        for top in range(0, height - size + 1, size)
        for left in range(0, width - size + 1, size)
    ]
    whole = {key: value for eye in eyes for key, value in eye.textures(picture).items()}
    peaks, shares = _weaves([_frames_of(square) for square in squares])
    gram, strokes = _distances(squares, eyes, whole)
    return whole, {
        "gram": gram,
        "strokes": strokes,
        "weave_peak": peaks,
        "weave_share": shares,
    }


def _frames_of(pictures: Tensor) -> Frames:
    rounded = pictures.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).numpy())


def _weaves(pictures: Sequence[Frames]) -> tuple[dict[str, float], dict[str, float]]:
    power = spectrum(pictures)
    return (
        {str(period): round(weave_peak(power, period), 2) for period in PERIODS},
        {str(period): round(weave_share(power, period), 6) for period in PERIODS},
    )


def _distances(
    pictures: Sequence[Tensor], eyes: Sequence[Eye], painting: Mapping[str, Texture]
) -> tuple[dict[str, float], dict[str, float]]:
    """Means over the pictures per layer: of the whole Gram matrices, and of the centred ones."""
    if not painting:
        return {}, {}
    seen = [
        {key: value for eye in eyes for key, value in eye.textures(picture).items()}
        for picture in pictures
    ]
    whole, centred = (
        {
            key: _mean([gram_distance(each[key], wanted, centred=centre) for each in seen])
            for key, wanted in painting.items()
        }
        for centre in (False, True)
    )
    return whole, centred


def _contents(
    painted: Sequence[Tensor],
    shots: Sequence[Shots],
    eyes: Sequence[Eye],
    seen_in: Callable[[Tensor], Tensor],
) -> dict[str, float]:
    scenes = [tensor_of(each.still) for each in shots]
    return {
        f"{eye.name} {eye.content_layer}": _mean(
            [
                eye.content(seen_in(picture), seen_in(scene))
                for picture, scene in zip(painted, scenes, strict=True)
            ]
        )
        for eye in eyes
    }


def tensor_of(frames: Frames) -> Tensor:
    """Frames (N, H, W, 3) as float32 (N, 3, H, W), RGB 0..255."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float()


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(_mean(values), round(min(values), 4), round(max(values), 4))


def _mean_border(borders: Sequence[Border]) -> Border:
    return Border(
        _mean([each.brighter for each in borders]), _mean([each.contrast for each in borders])
    )


def _mean_colour(colours: Sequence[Colour]) -> Colour:
    red, green, blue = np.mean([each.mean for each in colours], axis=0).round(1).tolist()
    return Colour(
        (red, green, blue),
        _mean([each.saturation for each in colours]),
        _mean([each.deviation for each in colours]),
    )
