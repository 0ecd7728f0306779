"""Real clips: the optical flow of the source, and how far painted frames depart from it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impasto.errors import RequestError
from impasto.media.decode import FrameReader
from impasto.media.pixels import RgbReader
from impasto.media.probe import probe
from impasto.records import Frames
from impasto.scorers.flow import Flow, optical_flow, seen_in_both, warp
from impasto.train.measures import Warping, warping

_LEAST_VISIBLE = 0.5
"""Share of a frame; of a pair that shows less of the same thing, a cut say, nothing is measured."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames of a film, and where their pixels go."""

    name: str
    frames: Frames
    flows: tuple[Flow, ...]
    """From each frame to the next one, of the source."""
    visible: tuple[NDArray[np.bool_], ...]
    """(H, W): what the next frame still shows, and the flow is sure of."""


def read_clip(path: Path, *, count: int, width: int) -> Clip:
    """Read `count` frames out of the middle of a film, made `width` pixels wide at most.

    Raises RequestError when it cannot be read, has less than two frames, or no pair of neighbours
    that show the same thing; and when OpenCV is missing.
    """
    source = probe(path)
    whole = len(source.ledger)
    if whole < 2:
        raise RequestError(f"clip {path} has {whole} frame; give one of two or more")
    scale = min(1.0, width / source.display_width)
    size = {
        "width": round(source.display_width * scale / 2) * 2,
        "height": round(source.display_height * scale / 2) * 2,
    }
    to_rgb = RgbReader(source, **size)
    start = max(0, (whole - count) // 2)
    with FrameReader(path, source) as reader:
        frames = np.stack([to_rgb(each) for each in reader.read(start, min(whole, start + count))])
    return clip_of(path.name, frames)


def clip_of(name: str, frames: Frames) -> Clip:
    """Estimate the flow between neighbours of uint8 frames (N, H, W, 3). Raises as `read_clip`."""
    flows, visible = [], []
    for here, there in itertools.pairwise(frames):
        forward, backward = optical_flow(here, there), optical_flow(there, here)
        flows.append(forward)
        visible.append(seen_in_both(forward, backward))
    if max(mask.mean() for mask in visible) < _LEAST_VISIBLE:
        raise RequestError(f"clip {name} has no neighbouring frames that show the same thing")
    return Clip(name, frames, tuple(flows), tuple(visible))


def clip_warping(painted: Frames, clip: Clip) -> Warping:
    """Warping error of the painted frames of a clip, along the flow of its source.

    Lai et al., "Learning Blind Video Temporal Consistency" (arXiv:1808.00449), section 4.2: the
    mean square of frame - warp(next frame) over the pixels that are not occluded, mean over the
    pairs.
    """
    apart = []
    for i, (flow, mask) in enumerate(zip(clip.flows, clip.visible, strict=True)):
        if mask.mean() >= _LEAST_VISIBLE:
            apart.append((painted[i] - warp(painted[i + 1].astype(np.float32), flow))[mask])
    return warping(apart, painted)


def read_clips(paths: Sequence[Path], *, count: int, width: int) -> list[Clip]:
    """Read several; their names must differ. Raises RequestError as `read_clip` does."""
    if len({path.name for path in paths}) < len(paths):
        raise RequestError("clips need different file names, got " + ", ".join(map(str, paths)))
    return [read_clip(path, count=count, width=width) for path in paths]
