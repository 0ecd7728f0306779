"""Find where scenes change, and a frame that stands for each of the longest ones."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

_THUMB_WIDTH, _THUMB_HEIGHT = 64, 36
_WINDOW = 3
"""Frames on either side that a change is compared with."""
_RATIO = 3.0
"""How far a cut stands out from the changes around it."""
_LEAST_CHANGE = 6.0
"""Levels of 255 by which thumbnails differ at a cut, at least."""
_LEAST_SCENE_FRAMES = 8
_CLEAR = 0.85
"""Share of its scene's best contrast that a representative frame has."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What a pass over the frames leaves behind: two numbers a frame."""

    change: NDArray[np.float32]
    """(N,): mean difference of luma thumbnails to the frame before, levels of 255; 0 first."""
    contrast: NDArray[np.float32]
    """(N,): standard deviation of the thumbnail's luma, levels of 255."""


def watch(frames: Iterable[VideoFrame]) -> Activity:
    """Measure decoded frames, which are let go of one by one.

    Raises:
        ValueError: there are none.
    """
    reformatter = VideoReformatter()
    change, contrast = [], []
    before: NDArray[np.float32] | None = None
    for frame in frames:
        small = reformatter.reformat(
            frame, width=_THUMB_WIDTH, height=_THUMB_HEIGHT, format="gray",
            interpolation=Interpolation.AREA, threads=1,
        )  # fmt: skip
        thumb = small.to_ndarray().astype(np.float32)
        change.append(0.0 if before is None else float(np.abs(thumb - before).mean()))
        contrast.append(float(thumb.std()))
        before = thumb
    if before is None:
        raise ValueError("there must be at least one frame to watch")
    return Activity(np.array(change, np.float32), np.array(contrast, np.float32))


def cut_scenes(activity: Activity) -> list[tuple[int, int]]:
    """Return the scenes as frames [start, stop), in order and without gaps.

    A cut is a change several times as large as the mean of those around it, so that a fast pan or
    a shaking camera is not taken for one; PySceneDetect's adaptive detector has the same idea.
    """
    change = activity.change
    cuts = [0]
    for index in range(1, len(change)):
        near = change[max(1, index - _WINDOW) : index + _WINDOW + 1]
        around = (float(near.sum()) - float(change[index])) / max(1, len(near) - 1)
        stands_out = change[index] >= max(_LEAST_CHANGE, _RATIO * around)
        if stands_out and index - cuts[-1] >= _LEAST_SCENE_FRAMES:
            cuts.append(index)
    return list(zip(cuts, [*cuts[1:], len(change)], strict=True))


def choose_frames(activity: Activity, count: int) -> list[int]:
    """Return `count` frames in order, one of each of the longest scenes; fewer when there are.

    Where there are fewer scenes, the longest are halved. In the middle half of a scene the
    stillest frame stands for it that has nearly the most contrast: neither a blur nor a fade.
    """
    scenes = cut_scenes(activity)
    while len(scenes) < min(count, len(activity.change)):
        start, stop = max(scenes, key=lambda scene: scene[1] - scene[0])
        middle = (start + stop) // 2
        scenes.remove((start, stop))
        scenes += [(start, middle), (middle, stop)]
    longest = sorted(scenes, key=lambda scene: scene[0] - scene[1])[:count]
    return sorted(_representative(activity, start, stop) for start, stop in longest)


def _representative(activity: Activity, start: int, stop: int) -> int:
    quarter = (stop - start) // 4
    first, last = start + quarter, stop - quarter
    contrast = activity.contrast[first:last]
    # What comes after a frame blurs it as much as what came before.
    after = np.append(activity.change[1:], activity.change[-1])
    unrest = np.maximum(activity.change, after)[first:last]
    clear = contrast >= _CLEAR * contrast.max()
    return first + int(np.argmin(np.where(clear, unrest, np.inf)))
