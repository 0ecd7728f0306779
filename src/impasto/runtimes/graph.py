"""The graph around a network: uint8 frames in, uint8 frames out, everything between in OpenVINO.

Transposing, padding, scaling, cropping, limiting and rounding are operators of the same graph as
the network, so that they run where its data lies and are fused with it.
"""

import functools
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from impasto.errors import RequestError
from impasto.runtimes import onnx_file

Finish = Callable[[Any, Any, Any], Any]
"""(ops, source, painted) → node: `ops` is an OpenVINO opset, the others and the result are float32
nodes of shape (1, 3, H, W), RGB 0..255; `painted` is limited to that range, the result may leave
it."""

MULTIPLE_OF = 4
"""Networks halve the picture twice and double it again: the sides they see divide by this."""

# Reflection by 4 pixels before a 9 x 9 convolution, and by 1 at quarter resolution, need as much.
_SMALLEST = 16

_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How a network's numbers stand to RGB 0..255; the default is that they are the same.

    Both ends of the network use `low` and `high`; only its input is normalised by `mean` and
    `std`, which are in the units of `low` and `high`: (x - mean) / std.
    """

    low: float = 0.0
    """The network's black."""
    high: float = 255.0
    """The network's white."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        numbers = (self.low, self.high, *self.mean, *self.std)
        if not all(map(np.isfinite, numbers)) or self.high <= self.low or min(self.std) <= 0:
            raise RequestError(f"a network's scaling needs low < high and std > 0, got {self}")


def build(model: bytes, height: int, width: int, scaling: Scaling, finish: Finish | None) -> Any:
    """Build bytes → bytes around the network: uint8 (1, H, W, 3) in and out."""
    ov, ops = openvino()
    network = _read(model)
    seen_height, seen_width = _seen(height), _seen(width)
    _reshape(network, seen_height, seen_width)

    frame = ops.parameter([1, height, width, _CHANNELS], ov.Type.u8, name="frame")
    source = ops.convert(ops.transpose(frame, np.array([0, 3, 1, 2])), "f32")  # (1, 3, H, W)
    span = scaling.high - scaling.low
    x = _padded(ops, source, height, width)
    if scaling != Scaling():
        x = ops.add(ops.multiply(x, _f32(span / 255)), _f32(scaling.low))
        x = ops.divide(ops.subtract(x, _per_channel(scaling.mean)), _per_channel(scaling.std))
    if network.inputs[0].get_element_type() != ov.Type.f32:
        x = ops.convert(x, network.inputs[0].get_element_type())
    network.inputs[0].get_node().output(0).replace(x.output(0))

    painted = network.outputs[0].get_node().input_value(0)
    if painted.get_element_type() != ov.Type.f32:
        painted = ops.convert(painted, "f32")
    if (seen_height, seen_width) != (height, width):
        first, last, step = np.array([0, 0]), np.array([height, width]), np.array([1, 1])
        painted = ops.slice(painted, first, last, step, np.array([2, 3]))
    if scaling != Scaling():
        painted = ops.multiply(ops.subtract(painted, _f32(scaling.low)), _f32(255 / span))
    painted = ops.clamp(painted, 0.0, 255.0)
    if finish:
        painted = ops.clamp(finish(ops, source, painted), 0.0, 255.0)
    rounded = ops.convert(ops.round(painted, "half_to_even"), "u8")
    result = ops.result(ops.transpose(rounded, np.array([0, 2, 3, 1])))
    return ov.Model([result], [frame], "impasto")


def _read(model: bytes) -> Any:
    """Read an ONNX file; only that: OpenVINO would also take its own formats from bytes."""
    onnx_file.check(model)
    openvino()
    from openvino.frontend import FrontEndManager  # type: ignore[import-untyped]

    frontend = FrontEndManager().load_by_framework("onnx")
    try:
        network = frontend.convert(frontend.load(io.BytesIO(model)))
    except MemoryError:
        raise
    except Exception as error:
        raise RequestError(f"the model can't be read: {reason(error)}") from error
    found = f"{len(network.inputs)} inputs and {len(network.outputs)} outputs"
    if (len(network.inputs), len(network.outputs)) != (1, 1):
        raise RequestError(f"the model must have 1 input and 1 output, found {found}")
    return network


def _reshape(network: Any, height: int, width: int) -> None:
    """Fix the network's size, and see that it makes a picture of the same size."""
    ov, _ = openvino()
    entry = network.inputs[0]
    shape, kind = entry.get_partial_shape(), entry.get_element_type()
    wanted = [1, _CHANNELS, height, width]
    if not kind.is_real() or shape.rank.is_dynamic or len(shape) != len(wanted):
        raise RequestError(f"the model's input must be float [N,3,H,W], found {_said(entry)}")
    channels = ov.Dimension(_CHANNELS)
    if not shape[1].compatible(channels) or (shape[1].is_dynamic and shape[3] == channels):
        raise RequestError(
            f"the model's input must have 3 channels, in [N,3,H,W], found {_said(entry)}"
        )
    said = _said(entry)
    try:
        network.reshape({entry: wanted})
    except MemoryError:
        raise
    except Exception as error:
        raise RequestError(
            f"the model, with input {said}, does not take frames of {width}x{height}: "
            f"{reason(error)}"
        ) from error
    end = network.outputs[0]
    if end.get_partial_shape() != ov.PartialShape(wanted) or not end.get_element_type().is_real():
        raise RequestError(
            f"the model's output must be float and have its input's size {wanted}, "
            f"found {_said(end)}"
        )


def _padded(ops: Any, source: Any, height: int, width: int) -> Any:
    """Grow the picture at its right and bottom to what networks can take."""
    below, right = _seen(height) - height, _seen(width) - width
    if not below and not right:
        return source
    # A mirror shows no edge; but it can't show more than the picture has.
    mode = "reflect" if below < height and right < width else "edge"
    return ops.pad(source, np.array([0, 0, 0, 0]), np.array([0, 0, below, right]), mode)


def _seen(side: int) -> int:
    """Length in pixels that the network sees of a side of `side` pixels."""
    return max(_SMALLEST, -(-side // MULTIPLE_OF) * MULTIPLE_OF)


def _per_channel(values: tuple[float, float, float]) -> Any:
    return np.array(values, np.float32).reshape(1, _CHANNELS, 1, 1)


def _f32(value: float) -> Any:
    return np.float32(value)


def _said(port: Any) -> str:
    return f"{port.get_element_type().get_type_name()} {port.get_partial_shape()}"


@functools.cache
def openvino() -> tuple[Any, Any]:
    """Import OpenVINO; return it and the set of operators that graphs are built from.

    Its model converter reports to the vendor's analytics as soon as it is imported, and the package
    imports it on the way, if it can; graphs don't need it.
    """
    converter = "openvino.tools.ovc"
    hidden = converter not in sys.modules
    if hidden:
        sys.modules[converter] = None  # type: ignore[assignment]  # import's own word for "absent"
    try:
        import openvino  # type: ignore[import-untyped]
        from openvino import opset13
    finally:
        if hidden:
            del sys.modules[converter]
    return openvino, opset13


def reason(error: Exception) -> str:
    """The one line of an OpenVINO error that says something: without source files and checks."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Exception from", "Check '")
    telling = [line for line in lines if line and not line.startswith(noise)]
    return (telling or lines or [type(error).__name__])[-1][:200]
