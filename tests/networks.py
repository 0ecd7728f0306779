"""Small ONNX networks for tests, as bytes; every one maps float32 (N, 3, H, W) to the same size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)

_OPSET = 17


def identity() -> bytes:
    """Frames as they are."""
    return _model([helper.make_node("Identity", ["frames"], ["painted"])])


def invert() -> bytes:
    """255 - frames."""
    return _model(
        [helper.make_node("Sub", ["white", "frames"], ["painted"])], {"white": np.float32(255)}
    )


def constant(value: float) -> bytes:
    """`value` everywhere, whatever the frames hold."""
    nodes = [
        helper.make_node("Mul", ["frames", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], ["painted"]),
    ]
    return _model(nodes, {"zero": np.float32(0), "value": np.float32(value)})


def shift(value: float) -> bytes:
    """frames + value, which may leave 0..255."""
    return _model(
        [helper.make_node("Add", ["frames", "value"], ["painted"])], {"value": np.float32(value)}
    )


def painterly(seed: int = 0, channels: int = 8) -> bytes:
    """A random network with all that makes the real ones hard: reflection, stride, normalisation.

    Convolution by 3 with stride 2, instance normalisation, convolution, nearest upsampling,
    convolution to RGB.
    """
    random = np.random.default_rng(seed)

    def kernel(out: int, into: int) -> Any:
        return random.normal(0, 1 / np.sqrt(9 * into), (out, into, 3, 3)).astype(np.float32)

    weights = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w1": kernel(channels, 3),
        "w2": kernel(channels, channels),
        "w3": 40 * kernel(3, channels),
        "b3": np.full(3, 128, np.float32),
        "gain": random.uniform(0.5, 1.5, channels).astype(np.float32),
        "bias": random.normal(0, 0.3, channels).astype(np.float32),
    }
    nodes = [
        helper.make_node("Pad", ["frames", "pads"], ["a"], mode="reflect"),
        helper.make_node("Conv", ["a", "w1"], ["b"], strides=[2, 2]),
        helper.make_node("InstanceNormalization", ["b", "gain", "bias"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Pad", ["d", "pads"], ["e"], mode="reflect"),
        helper.make_node("Conv", ["e", "w2"], ["f"]),
        helper.make_node("InstanceNormalization", ["f", "gain", "bias"], ["g"]),
        helper.make_node("Relu", ["g"], ["h"]),
        helper.make_node("Resize", ["h", "", "scales"], ["i"], mode="nearest"),
        helper.make_node("Pad", ["i", "pads"], ["j"], mode="reflect"),
        helper.make_node("Conv", ["j", "w3", "b3"], ["painted"]),
    ]
    return _model(nodes, weights)


def cancelling() -> bytes:
    """Right in f32 and wrong in bf16: it doubles a channel's small difference to a large number.

    The first convolution adds 4096 to each channel, and the second takes it away again; bfloat16
    keeps 8 bits, so around 4096 it counts in steps of 32.
    """
    eye = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    weights = {
        "eye": eye,
        "up": np.full(3, 4096, np.float32),
        "down": np.full(3, -4096, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["frames", "eye", "up"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "eye", "down"], ["painted"]),
    ]
    return _model(nodes, weights)


def styled(seed: int = 0) -> bytes:
    """A network of two inputs, frames and style (1, 6): each channel scaled, then shifted.

    With random weights around the style, so that no two seeds give the same bytes.
    """
    random = np.random.default_rng(seed)
    weights = {
        "plain": random.uniform(0.9, 1.1, (1, 6)).astype(np.float32),
        "shape": np.array([1, 6, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Mul", ["style", "plain"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Split", ["b"], ["scale", "shift"], axis=1),
        helper.make_node("Mul", ["frames", "scale"], ["c"]),
        helper.make_node("Add", ["c", "shift"], ["painted"]),
    ]
    graph = _graph(nodes, weights)
    graph.input.append(_value("style", [1, 6]))
    return _bytes(graph)


def doubling() -> bytes:
    """Twice the frames' size: what a super-resolution network makes."""
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)}
    return _model([helper.make_node("Resize", ["frames", "", "scales"], ["painted"])], weights)


def two_inputs() -> bytes:
    """A network that wants two pictures."""
    graph = _graph([helper.make_node("Add", ["frames", "others"], ["painted"])], {})
    graph.input.append(_value("others", ["N", 3, "H", "W"]))
    return _bytes(graph)


def of_type(kind: int, shape: Sequence[str | int]) -> bytes:
    """The identity of an ONNX tensor type and shape."""
    graph = _graph([helper.make_node("Identity", ["frames"], ["painted"])], {})
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("frames", kind, shape))
    graph.output.append(helper.make_tensor_value_info("painted", kind, shape))
    return _bytes(graph)


def with_external_weights(location: str) -> bytes:
    """A network whose weights lie in the file `location`."""
    model = ModelProto.FromString(invert())
    _make_external(model.graph.initializer[0], location)
    return bytes(model.SerializeToString())


def with_hidden_external_weights(location: str) -> bytes:
    """The same, with the tensor in the branch of an If, inside an attribute."""
    tensor = numpy_helper.from_array(np.float32(255).reshape(1), "value")
    _make_external(tensor, location)
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["white"], value=tensor)],
        "branch",
        [],
        [_value("white", [1])],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["picked"], then_branch=branch, else_branch=branch),
        helper.make_node("Sub", ["picked", "frames"], ["painted"]),
    ]
    return _model(nodes, {"yes": np.array([True])})


def looping() -> bytes:
    """A Loop that would run for 2^62 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            _value("x", ["N", 3, "H", "W"]),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), _value("y", None)],
    )
    node = helper.make_node("Loop", ["rounds", "yes", "frames"], ["painted"], body=body)
    return _model([node], {"rounds": np.int64(1 << 62), "yes": np.bool_(True)})


def pad_without_pads() -> bytes:
    """A Pad that lacks its second input, on which a reader may stumble."""
    return _model([helper.make_node("Pad", ["frames"], ["painted"], mode="reflect")])


def nested(depth: int) -> bytes:
    """Ifs within Ifs, `depth` of them."""
    inner = [helper.make_node("Constant", [], ["out"], value_float=1.0)]
    for _ in range(depth):
        branch = helper.make_graph(inner, "branch", [], [_value("out", [])])
        node = NodeProto(op_type="If", input=["yes"], output=["out"])
        attribute = AttributeProto(name="then_branch", type=AttributeProto.GRAPH)
        attribute.g.CopyFrom(branch)
        node.attribute.append(attribute)
        inner = [node]
    nodes = [*inner, helper.make_node("Mul", ["out", "frames"], ["painted"])]
    return _model(nodes, {"yes": np.array([True])})


def _make_external(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


def _model(nodes: list[NodeProto], weights: dict[str, Any] | None = None) -> bytes:
    return _bytes(_graph(nodes, weights or {}))


def _graph(nodes: list[NodeProto], weights: dict[str, Any]) -> GraphProto:
    shape = ["N", 3, "H", "W"]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    return helper.make_graph(
        nodes, "test", [_value("frames", shape)], [_value("painted", shape)], tensors
    )


def _bytes(graph: GraphProto) -> bytes:
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return bytes(model.SerializeToString())


def _value(name: str, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
