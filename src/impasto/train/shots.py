"""What a style has to paint for its evaluation: one photograph -> a still, pans, a tripod shot."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from impasto.errors import RequestError, SourceRefused
from impasto.records import Frames
from impasto.train.data import read_picture
from impasto.train.measures import Pixels, shifted

PANS = {"pan_3_px": (3.0, 0.0), "pan_1.5_px": (1.5, 0.5)}
"""Motion per frame in pixels, right and down."""
_PAN_FRAMES = 4
_TRIPOD_FRAMES = 6
_DIM = 0.06
"""Contrast of a dark scene: what a photograph is multiplied by."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all figures depend on, besides the files."""

    size_px: int = 360
    """Side of the square that is painted, out of the middle of each photograph, which is scaled to
    fit; a multiple of 8."""
    painting_px: int = 720
    """Shorter side of the painting; larger asks for larger strokes."""
    count: int = 24
    """Photographs used: the last of the folder by name, which `TrainConfig.held_out` keeps from
    the training."""
    noise_levels: float = 3.0
    """Standard deviation of the camera noise in the moving and the tripod shots, of 255 levels."""
    clip_frames: int = 12
    """Taken out of the middle of each clip."""
    clip_width_px: int = 640
    """To which wider clips are reduced."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size_px < 64 or self.size_px % 8:
            raise RequestError(
                f"size_px must be a multiple of 8 and at least 64, got {self.size_px}"
            )
        if self.count < 1:
            raise RequestError(f"count must be positive, got {self.count}")
        if self.clip_frames < 2:
            raise RequestError(f"clip_frames must be 2 or more, got {self.clip_frames}")
        if self.clip_width_px < 64:
            raise RequestError(f"clip_width_px must be at least 64, got {self.clip_width_px}")


@dataclass(frozen=True, slots=True)
class Shots:
    """All that is painted for one photograph; uint8 (N, S, S, 3) each."""

    still: Frames
    pans: dict[str, Frames]
    tripod: Frames
    dim: Frames


def make_shots(photograph: Image.Image, setting: Setting, rng: np.random.Generator) -> Shots:
    """From one photograph to the shots that every style has to paint, the same for the same rng."""
    size = setting.size_px
    room = math.ceil(max(max(step) for step in PANS.values()) * _PAN_FRAMES)
    whole = ImageOps.fit(photograph, (size + room, size + room), Image.Resampling.LANCZOS)
    scene: Pixels = np.asarray(whole, dtype=np.float64)[None]
    still = scene[:, :size, :size]
    pans = {
        name: np.concatenate(
            [
                shifted(scene, (i * step[0], i * step[1]))[:, :size, :size]
                for i in range(_PAN_FRAMES)
            ]
        )
        for name, step in PANS.items()
    }
    tripod = np.repeat(still, _TRIPOD_FRAMES, axis=0)
    levels = setting.noise_levels
    return Shots(
        still=_filmed(still, 0.0, rng),
        pans={name: _filmed(frames, levels, rng) for name, frames in pans.items()},
        tripod=_filmed(tripod, levels, rng),
        dim=_filmed(still * _DIM, 1.0, rng),
    )


def _filmed(frames: Pixels, noise_levels: float, rng: np.random.Generator) -> Frames:
    noisy = frames + rng.normal(0.0, noise_levels, frames.shape)
    filmed: Frames = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return filmed


def plain_inputs(size_px: int, rng: np.random.Generator) -> dict[str, Frames]:
    """Flat frames (1, S, S, 3), and a black one with noise of 2 levels."""
    shape = (1, size_px, size_px, 3)
    flat = {
        name: np.full(shape, level, np.uint8)
        for name, level in {"black": 0, "grey": 128, "white": 255}.items()
    }
    return flat | {"night noise": _filmed(np.zeros(shape), 2.0, rng)}


def shots_of(path: Path, number: int, setting: Setting) -> Shots:
    """The shots of a photograph on disk; `number` keeps its noise apart from another one's.

    Raises RequestError when it cannot be read.
    """
    try:
        photograph = read_picture(path)
    except SourceRefused as error:
        raise RequestError(f"{error}; take it out of the folder") from error
    return make_shots(photograph, setting, np.random.default_rng((setting.seed, number)))
