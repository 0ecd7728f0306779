"""The figures of one style: a scorer, shots, perceptual networks -> Evaluation.

The perceptual networks must be others than the style was trained with: a style is good at pleasing
the network that judged it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from impasto.errors import RequestError
from impasto.nets.perceptual import Features, load_perceptual
from impasto.nets.texture import Texture, content_loss, grey, texture
from impasto.records import Frames
from impasto.train.clips import Clip, clip_warping
from impasto.train.measures import (
    Border,
    Colour,
    Warping,
    border,
    colour,
    flicker,
    gram_distance,
    pan_warping,
    spectrum,
    weave_peak,
    weave_share,
)
from impasto.train.shots import PANS, Setting, Shots, plain_inputs
from impasto.train.squeezenet import load_squeezenet

Score = Callable[[Frames], Frames]  # uint8 RGB (N, H, W, 3) -> the same shape

PERIODS = (2, 4, 8)
"""Of the weaves that are looked for, in pixels."""


class Seen(NamedTuple):
    """What a perceptual network sees in a picture."""

    textures: dict[str, Texture]
    """Layer -> statistics."""
    colour: Tensor
    """Features (N, C, h, w) of what is shown."""
    grey: Tensor
    """The same of the picture without its colour."""


@dataclass(frozen=True, slots=True)
class Eye:
    """A perceptual network, and where it is tapped."""

    name: str
    see: Callable[[Tensor, tuple[str, ...]], Features]
    """Pictures (N, 3, H, W) RGB 0..255 and layer names -> feature maps."""
    layers: tuple[str, ...]
    content_layer: str

    @property
    def keys(self) -> tuple[str, ...]:
        """What the layers' figures are called."""
        return tuple(f"{self.name} {layer}" for layer in self.layers)

    def textures(self, pictures: Tensor) -> dict[str, Texture]:
        """Statistics per layer, named "network layer"."""
        with torch.no_grad():
            return self._textures(self.see(pictures, self.layers))

    def look(self, pictures: Tensor) -> Seen:
        """All that is compared of pictures (N, 3, H, W)."""
        tap = self.content_layer
        with torch.no_grad():
            found = self.see(pictures, (*self.layers, tap))
            plain = self.see(grey(pictures), (tap,))
            return Seen(self._textures(found), found[tap], plain[tap])

    def _textures(self, found: Features) -> dict[str, Texture]:
        return {
            key: texture(found[layer]) for key, layer in zip(self.keys, self.layers, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph: what is painted of it, and what every perceptual network sees in it."""

    shots: Shots
    seen: tuple[Seen, ...]
    """In the order of the perceptual networks."""


def scene_of(shots: Shots, eyes: Sequence[Eye]) -> Scene:
    """Look at a photograph once, for all that are compared."""
    still = tensor_of(shots.still)
    return Scene(shots, tuple(eye.look(still) for eye in eyes))


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the photographs."""

    mean: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of one style; ratios without a unit unless they say levels (of 255)."""

    style: dict[str, float]
    """Perceptual network -> style loss of Johnson et al. (arXiv:1603.08155, eq. 4) over the
    painting's energy, mean over the layers; empty without a painting."""
    gram: dict[str, float]
    """The same for each layer."""
    strokes: dict[str, float]
    """Per layer, without the channels' means, which are mostly colour."""
    content: dict[str, float]
    """Perceptual network -> content loss of Johnson et al. (eq. 2) over the energy of the scene's
    features."""
    content_grey: dict[str, float]
    """The same without colour: another palette costs nothing."""
    pans: dict[str, Spread]
    """Pan -> warping error, `Warping.mse`."""
    pans_relative: dict[str, Spread]
    """Pan -> `Warping.relative`."""
    clips: dict[str, Warping]
    """Real clip -> warping error along the flow of the source."""
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
    scenes: Sequence[Scene],
    eyes: Sequence[Eye],
    setting: Setting,
    *,
    painting: Mapping[str, Texture] | None = None,
    clips: Sequence[Clip] = (),
) -> Evaluation:
    """Paint the shots of every photograph and the clips, and measure.

    `painting` is what `Eye.textures` gives.
    """
    shots = [scene.shots for scene in scenes]
    stills = [score(each.still) for each in shots]
    rng = np.random.default_rng(setting.seed)
    flats = plain_inputs(setting.size_px, rng)
    colours = {name: colour(score(frames)) for name, frames in flats.items()}
    dims = [colour(score(each.dim)) for each in shots]
    peaks, shares = _weaves(stills)
    judged = [
        _judge(tensor_of(still), scene, eyes, painting or {})
        for still, scene in zip(stills, scenes, strict=True)
    ]
    gram, strokes, content, content_grey = (_means(each) for each in zip(*judged, strict=True))
    pans = {
        name: [pan_warping(score(each.pans[name]), step) for each in shots]
        for name, step in PANS.items()
    }
    return Evaluation(
        style={eye.name: _mean([gram[key] for key in eye.keys]) for eye in eyes if gram},
        gram=gram,
        strokes=strokes,
        content=content,
        content_grey=content_grey,
        pans={name: _spread([each.mse for each in found]) for name, found in pans.items()},
        pans_relative={
            name: _spread([each.relative for each in found]) for name, found in pans.items()
        },
        clips={clip.name: clip_warping(score(clip.frames), clip) for clip in clips},
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
    parts = [
        _distances(
            {key: value for eye in eyes for key, value in eye.textures(square).items()}, whole
        )
        for square in squares
    ]
    gram, strokes = (_means(each) for each in zip(*parts, strict=True))
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


_Figures = dict[str, float]


def _judge(
    painted: Tensor, scene: Scene, eyes: Sequence[Eye], painting: Mapping[str, Texture]
) -> tuple[_Figures, _Figures, _Figures, _Figures]:
    """Gram, strokes, content and content in grey of one picture (1, 3, H, W)."""
    looks = [eye.look(painted) for eye in eyes]
    textures = {key: value for look in looks for key, value in look.textures.items()}
    coloured, without = {}, {}
    for eye, look, wanted in zip(eyes, looks, scene.seen, strict=True):
        coloured[eye.name] = float(content_loss(look.colour, wanted.colour))
        without[eye.name] = float(content_loss(look.grey, wanted.grey))
    return (*_distances(textures, painting), coloured, without)


def _distances(
    found: Mapping[str, Texture], painting: Mapping[str, Texture]
) -> tuple[_Figures, _Figures]:
    """Per layer: of the whole Gram matrices, and of the centred ones."""
    whole, centred = (
        {key: gram_distance(found[key], wanted, centred=centre) for key, wanted in painting.items()}
        for centre in (False, True)
    )
    return whole, centred


def _means(figures: Sequence[_Figures]) -> _Figures:
    return {key: _mean([each[key] for each in figures]) for key in figures[0]}


def tensor_of(frames: Frames) -> Tensor:
    """Frames (N, H, W, 3) as float32 (N, 3, H, W), RGB 0..255."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float()


def _mean(values: Sequence[float]) -> float:
    return _rounded(float(np.mean(values)))


def _spread(values: Sequence[float]) -> Spread:
    return Spread(_mean(values), _rounded(min(values)), _rounded(max(values)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


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
