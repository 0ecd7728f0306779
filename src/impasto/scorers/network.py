"""A network applied with a strength, and with the style's colours or the source's.

Both happen in float before the one rounding, inside the runtime's graph.
"""

from typing import Any

import numpy as np

from impasto.errors import RequestError
from impasto.records import Frames, ScorerSpec
from impasto.runtimes.openvino import Finish, Network, Scaling

MAX_DB = 100.0
"""What equal pictures count as; one pixel's step in a 4K frame is about 123 dB."""

SCALINGS = {
    "0..255": Scaling(),
    "0..1": Scaling(low=0.0, high=1.0),
    "-1..1": Scaling(low=-1.0, high=1.0),
}

# Rec. ITU-R BT.709-6, item 3.2: luma from R'G'B'.
_LUMA = (0.2126, 0.7152, 0.0722)


def open_scorer(
    spec: ScorerSpec,
    model: bytes,
    *,
    width: int,
    height: int,
    precision: str,
    streams: int = 0,
) -> Network:
    """Compile the network of `spec` for frames of `width` x `height` pixels.

    Args:
        spec: what is applied, and how.
        model: the bytes of the ONNX file that `spec.model` is the digest of.
        width: pixels.
        height: pixels.
        precision: "f32" or "bf16".
        streams: frames at the same time, one core each; 0 takes every core.

    Raises:
        RequestError: a strength outside 0..1, an unusable model or precision.
        OutOfMemory: no room for the network even with one frame at a time.
    """
    if not 0 <= spec.strength <= 1:
        raise RequestError(f"strength must be within 0..1, got {spec.strength}")
    return Network(
        model,
        height=height,
        width=width,
        precision=precision,
        streams=streams,
        scaling=SCALINGS[spec.pixels],
        finish=_finish(spec.strength, keep_colors=spec.keep_colors),
    )


def gate_db(
    spec: ScorerSpec,
    model: bytes,
    frame: Frames,
    *,
    precision: str,
) -> float:
    """PSNR in dB of one frame at `precision` against the same frame in f32, at most MAX_DB.

    Measured on the finished 8-bit frames (H, W, 3) or (1, H, W, 3), so with the spec's strength:
    it is the difference that a viewer would see. Raises as `open_scorer` does.
    """
    frame = frame.reshape(1, *frame.shape[-3:])
    exact, rough = (
        open_scorer(
            spec,
            model,
            width=frame.shape[2],
            height=frame.shape[1],
            precision=each,
            streams=1,
        )(frame)
        for each in ("f32", precision)
    )
    return psnr_db(exact, rough)


def psnr_db(a: Frames, b: Frames) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255² / mean squared error); at most MAX_DB."""
    error = float(np.mean(np.square(a.astype(np.float32) - b.astype(np.float32)), dtype=np.float64))
    return MAX_DB if error == 0 else min(MAX_DB, float(10 * np.log10(255**2 / error)))


def _finish(strength: float, *, keep_colors: bool) -> Finish | None:
    if strength == 1 and not keep_colors:
        return None

    def finish(ops: Any, source: Any, painted: Any) -> Any:
        if strength == 0:
            return source  # the network drops out of the graph: no rounding, no work
        if keep_colors:
            # It may leave 0..255 here: limited before the blend, it would shift colours that the
            # blend brings back into the range.
            painted = _in_colors_of(ops, source, painted)
        if strength == 1:
            return painted
        return ops.add(
            ops.multiply(painted, np.float32(strength)),
            ops.multiply(source, np.float32(1 - strength)),
        )

    return finish


def _in_colors_of(ops: Any, source: Any, painted: Any) -> Any:
    """Give `painted` the colours of `source`: its luma, with the source's Cb and Cr.

    Cb = (B - Y) / 1.8556 and Cr = (R - Y) / 1.5748 (Rec. ITU-R BT.709-6, item 3.3) hold differences
    to luma alone. The weights of luma sum to 1, so the same amount added to R, G and B adds that
    amount to Y and leaves both differences as they are.
    """
    # Not a convolution by one pixel, though it is one: those run in bf16 where the network does.
    weights = np.array(_LUMA, np.float32).reshape(1, 3, 1, 1)
    change = ops.multiply(ops.subtract(painted, source), weights)
    return ops.add(source, ops.reduce_sum(change, np.array([1]), keep_dims=True))
