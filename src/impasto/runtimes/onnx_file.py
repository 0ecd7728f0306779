"""ONNX files as bytes: what they must not hold, and how an input of theirs is fixed.

An ONNX file is a protocol buffer (onnx/onnx.proto in the ONNX repository); the wire format is
described at https://protobuf.dev/programming-guides/encoding/.

A stranger's file is checked before any library sees it. Only the parts in which a tensor may stand
are walked. Three things are refused: tensors whose values lie in other files, because a reader
would open any path that the model names; operators that repeat other operators, because their work
has no bound; and a malformed structure.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from impasto.errors import RequestError

MAX_BYTES = 512 << 20
"""A network may be this big at most."""

_MAX_FIELDS = 1 << 20
_MAX_DEPTH = 32

# Message → its fields that lead to a tensor → the message that stands there.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_GRAPH = 7
_INITIALIZER = 5
_INPUT = 11
_OP_TYPE = 4
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA = 1, 2, 8, 9
_FLOAT = 1
_EXTERNAL_DATA = 13
_DATA_LOCATION = 14
_UNBOUNDED = {b"Loop", b"Scan"}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check(model: bytes) -> None:
    """Accept the bytes of an ONNX file that may be handed to a runtime.

    Raises:
        RequestError: the file is too big, malformed, refers to other files, or holds a loop.
    """
    if len(model) > MAX_BYTES:
        raise RequestError(
            f"the model has {len(model)} bytes; at most {MAX_BYTES} are accepted: use a smaller one"
        )
    try:
        seen = _Walk().message(memoryview(model), "model", 0)
    except (IndexError, ValueError) as error:
        raise RequestError(f"the model is not a sound ONNX file: {error}") from error
    if _GRAPH not in seen:
        raise RequestError("the model is not an ONNX file: it holds no graph")


def bind(model: bytes, name: str, values: NDArray[np.float32]) -> bytes:
    """Return `model` with its input `name` fixed to `values`: its bytes, and a few more behind.

    A message may be written in parts, which a reader merges ("Last One Wins" in the encoding
    guide): the second graph adds one initializer to the first. One that is named like an input is
    that input's default value (GraphProto.initializer in onnx.proto), which runtimes fold like any
    other constant. So the network itself is never rewritten.

    Args:
        model: a sound ONNX file.
        name: of an input of floats, of fixed size.
        values: float32, of the shape that the network declares for it.

    Raises:
        RequestError: no such input, or one of another shape.
    """
    shape = input_shape(model, name)
    if values.shape != shape:
        raise RequestError(f"the model's input {name!r} has shape {shape}, got {values.shape}")
    tensor = b"".join(
        [
            *(_number(_DIMS, size) for size in shape),
            _number(_DATA_TYPE, _FLOAT),
            _nested(_TENSOR_NAME, name.encode()),
            _nested(_RAW_DATA, values.astype("<f4").tobytes()),
        ]
    )
    return model + _nested(_GRAPH, _nested(_INITIALIZER, tensor))


def input_shape(model: bytes, name: str) -> tuple[int, ...]:
    """Return the shape of an input of floats.

    Raises:
        RequestError: no such input, or one whose shape is not fixed.
    """
    try:
        for graph in _within(memoryview(model), _GRAPH):
            for value in _within(graph, _INPUT):  # ValueInfoProto: name = 1, type = 2
                if [bytes(each) for each in _within(value, 1)] == [name.encode()]:
                    (kind,) = _within(value, 2)
                    (tensor,) = _within(kind, 1)
                    (shape,) = _within(tensor, 2)  # and elem_type = 1; dim = 1 in the shape
                    dims = [dict(_fields(dim)).get(1) for dim in _within(shape, 1)]  # dim_value
                    fixed = tuple(dim for dim in dims if isinstance(dim, int))
                    if (1, _FLOAT) in list(_fields(tensor)) and len(fixed) == len(dims):
                        return fixed
    except (IndexError, TypeError, ValueError) as error:
        raise RequestError(f"the model is not a sound ONNX file: {error}") from error
    raise RequestError(f"the model has no input {name!r} of floats and of fixed size")


def _within(data: memoryview, number: int) -> list[memoryview]:
    """The messages and strings in field `number` of a message."""
    return [
        value for found, value in _fields(data)
        if found == number and isinstance(value, memoryview)
    ]  # fmt: skip


class _Walk:
    """One pass over a file; it counts fields, so that a hostile file ends soon."""

    def __init__(self) -> None:
        self.fields = 0

    def message(self, data: memoryview, kind: str, depth: int) -> set[int]:
        """Check a message and everything in it; return the numbers of its fields."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"graphs are nested more than {_MAX_DEPTH} messages deep")
        seen = set()
        for number, value in _fields(data):
            self.fields += 1
            if self.fields > _MAX_FIELDS:
                raise ValueError(f"it has more than {_MAX_FIELDS} fields")
            seen.add(number)
            if kind == "tensor":
                _check_tensor(number, value)
            elif isinstance(value, memoryview):
                if kind == "node" and number == _OP_TYPE and bytes(value[:8]) in _UNBOUNDED:
                    raise RequestError(
                        f"the model holds the operator {bytes(value).decode()}, whose work has no "
                        "bound: export it without loops"
                    )
                inner = _MESSAGES[kind].get(number)
                if inner:
                    self.message(value, inner, depth + 1)
        return seen


def _check_tensor(number: int, value: memoryview | int) -> None:
    if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
        raise RequestError(
            "the model keeps weights in other files, which are not read: save it as one file"
        )


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield (field number, bytes or integer) of one message, in the order of the file."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        # Some readers drop the bits above 32, and would see another field than we do.
        if number == 0 or tag >> 32:
            raise ValueError(f"field number {number} at byte {at}")
        value: memoryview | int
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
            value, at = _take(data, at, size)
        elif wire == _BYTES:
            size, at = _varint(data, at)
            value, at = _take(data, at, size)
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        yield number, value


def _take(data: memoryview, at: int, size: int) -> tuple[memoryview, int]:
    if at + size > len(data):
        raise ValueError("it ends within a field")
    return data[at : at + size], at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read a base-128 number of at most 10 bytes; return it and where it ends."""
    value = 0
    for step in range(10):
        if at + step >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at + step]
        value |= (byte & 0x7F) << (7 * step)
        if byte < 0x80:
            return value, at + step + 1
    raise ValueError(f"a number at byte {at} has no end")


def _number(field: int, value: int) -> bytes:
    """A field that holds a number."""
    return _written(field << 3 | _VARINT) + _written(value)


def _nested(field: int, data: bytes) -> bytes:
    """A field that holds a message, a string or bytes."""
    return _written(field << 3 | _BYTES) + _written(len(data)) + data


def _written(value: int) -> bytes:
    """A base-128 number, the lowest seven bits first."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
