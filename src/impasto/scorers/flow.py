"""Optical flow between neighbouring frames: where each pixel was, and whether it was seen.

The flow is DIS (Kroeger et al., arXiv:1603.03590) as OpenCV has it; what it can't vouch for is
found as by Ruder et al., "Artistic Style Transfer for Videos" (arXiv:1604.08610), section 4.
"""

import numpy as np
from numpy.typing import NDArray

from impasto.errors import Unavailable

Picture = NDArray[np.uint8]
"""RGB, uint8, (H, W, 3)."""
Flow = NDArray[np.float32]
"""Displacements in pixels (x, y), (H, W, 2)."""


def optical_flow(source: Picture, target: Picture) -> Flow:
    """Where each pixel of `source` lies in `target`, relative to its place.

    Raises:
        Unavailable: OpenCV is missing.
    """
    try:
        import cv2
    except ImportError as error:
        raise Unavailable(
            "optical flow needs: pip install 'impasto[train]' (OpenCV is missing)"
        ) from error

    cv2.setNumThreads(1)  # it cuts a picture into one stripe per thread, and that shows in the flow
    grey = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (source, target)]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = dis.calc(grey[0], grey[1], None)  # type: ignore[call-overload]
    return np.asarray(found, np.float32)


def warp(values: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """Fetch `values` (H, W, C) from where `flow` points to; bilinear, borders repeated."""
    import cv2

    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    there = cv2.remap(
        values,
        x + flow[..., 0],
        y + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(there, np.float32).reshape(height, width, -1)


def seen_in_both(there: Flow, back: Flow) -> NDArray[np.bool_]:
    """Which pixels (H, W) of a frame another one shows, and are not at an edge of motion.

    Those whose way there and back ends elsewhere are hidden, and motion boundaries are unsure:
    Ruder et al., equations 5 and 6. What leaves the frame is hidden as well.

    Args:
        there: from the frame to the other one.
        back: from the other one to the frame.
    """
    height, width = there.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    at_x, at_y = x + there[..., 0], y + there[..., 1]
    inside = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
    returned = warp(back, there)
    mismatch = np.square(there + returned).sum(axis=2)
    size = np.square(there).sum(axis=2)
    consistent = mismatch <= 0.01 * (size + np.square(returned).sum(axis=2)) + 0.5
    down, right = np.gradient(there, axis=(0, 1))
    smooth = (np.square(down) + np.square(right)).sum(axis=2) <= 0.01 * size + 0.002
    kept: NDArray[np.bool_] = inside & consistent & smooth
    return kept
