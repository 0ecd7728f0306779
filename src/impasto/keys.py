"""Records as JSON, and the digests by which the store knows them."""

import hashlib
from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar

import msgspec

from impasto.records import Chunk, Plan, Spec

T = TypeVar("T")


def to_json(value: Any) -> bytes:
    """Return a record as JSON, fractions as "a/b"; equal records give equal bytes."""
    return msgspec.json.encode(value, enc_hook=_encode, order="sorted")


def from_json(data: bytes, kind: type[T]) -> T:
    """Read a record of type `kind` back.

    Raises:
        ValueError: the bytes are not JSON, or not of that shape.
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decode)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a {kind.__name__} record: {error}") from error


def digest(value: Any) -> str:
    """SHA-256 of a record's JSON, in hexadecimal."""
    return hashlib.sha256(to_json(value)).hexdigest()


def run_id(spec: Spec) -> str:
    """Name a run by everything its result depends on.

    Chunks that were computed for a fleet are no part of the name: whoever asks for computed ones
    finds the run, and in its plan the chunks of its first start.
    """
    if spec.tail is not None and spec.tail.computed:
        spec = replace(spec, chunk_frames=0, tail=None)
    return digest(spec)[:16]


def segment_key(plan: Plan, chunk: Chunk) -> str:
    """Key of a chunk's segment in the system store, without its extension.

    It holds the digest of everything that the segment depends on, so that a segment made for
    another source, network, setting, precision or cut can't be taken for this one.
    """
    identity = digest([plan.spec, plan.precision, chunk.start, chunk.stop])[:24]
    return f"runs/{run_id(plan.spec)}/segments/{chunk.index:06d}-{identity}"


def _encode(value: Any) -> Any:
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _decode(kind: type, value: Any) -> Any:
    if kind is Fraction:
        return Fraction(value)
    raise TypeError(f"no JSON form for {kind.__name__}")
