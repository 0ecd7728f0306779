"""Style vectors: what makes a network that is shared by many styles paint in one of them.

The networks ship in networks/, one for each quality. A vector holds the scale and the shift of
every channel after every instance normalisation (conditional instance normalisation; Dumoulin et
al., "A Learned Representation for Artistic Style", arXiv:1610.07629, section 2.2).
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impasto.errors import RequestError
from impasto.runtimes import onnx_file

QUALITIES = ("fast", "balanced", "best")
"""From the quickest network to the one that paints best."""

Vector = NDArray[np.float32]
"""(K,), where K belongs to the network."""

_NETWORKS = Path(__file__).parent / "networks"
_INPUT = "style"
_MAX_BYTES = 1 << 20
_LARGEST = 1e4
"""Far above any scale or shift that paints; what is larger overflows on the way."""


def network_bytes(quality: str) -> bytes:
    """Return the ONNX file of the network that the styles share at `quality`.

    Its inputs are "frames", float32 (N, 3, H, W), RGB 0..255, and "style", float32 (1, K).

    Raises:
        RequestError: no such network, or it can't be read.
    """
    if quality not in QUALITIES:
        raise RequestError(f"quality must be one of {', '.join(QUALITIES)}, got {quality[:80]!r}")
    path = _NETWORKS / f"{quality}.onnx"
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(
            f"{path} can't be read: {error.strerror}; install Impasto again"
        ) from error


def check_vector(vector: Vector, network: bytes) -> None:
    """Accept a vector that `network` can paint with.

    Raises:
        RequestError: it is not float32 of the length that the network takes, or holds a number
            that is not finite or far too large.
    """
    if vector.dtype != np.float32 or vector.ndim != 1:
        raise RequestError(f"a style vector is float32 (K,), got {vector.dtype} {vector.shape}")
    _, size = onnx_file.input_shape(network, _INPUT)
    if len(vector) != size:
        raise RequestError(f"the network takes style vectors of {size} numbers, got {len(vector)}")
    if not (np.abs(vector) <= _LARGEST).all():  # False for NaN too
        raise RequestError("a style vector holds a number that is not finite, or far too large")


def bind_style(network: bytes, vector: Vector) -> bytes:
    """Return an ONNX file, frames to frames, that paints in the style of `vector`, float32 (K,).

    Raises:
        RequestError: the vector's length is not the network's.
    """
    return onnx_file.bind(network, _INPUT, vector[None])


def mix(vectors: Mapping[str, Vector], weights: Mapping[str, float]) -> Vector:
    """Return the weighted mean of vectors of one length; `weights` sum to 1.

    Styles of a shared network can be blended by convex combination of their scales and shifts
    (Dumoulin et al., section 3.5). In float64, so that a single style at weight 1 stays as it is.
    """
    total = sum(weight * vectors[name].astype(np.float64) for name, weight in weights.items())
    return np.asarray(total, np.float32)


def normalise(blend: Mapping[str, float]) -> dict[str, float]:
    """Return the weights of a blend divided by their sum, without those that are 0.

    Raises:
        RequestError: a weight is negative or not finite, or none is above 0.
    """
    for name, weight in blend.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise RequestError(f"a weight of a blend is a number from 0 up, got {name}:{weight:g}")
    largest = max(blend.values(), default=0)
    if largest == 0:
        raise RequestError("a blend needs at least one style with a weight above 0")
    # The largest first: numbers near the limit of a float would not survive their sum.
    shares = {name: weight / largest for name, weight in blend.items()}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items() if share / total > 0}


def pack_vectors(vectors: Mapping[str, Vector]) -> bytes:
    """Return the bytes of an .npz archive of vectors by quality; the same bytes every time."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **vectors)
    return file.getvalue()


def unpack_vectors(data: bytes) -> dict[str, Vector]:
    """Return the arrays of an .npz archive: float32 (K,) by quality.

    Raises:
        RequestError: it is not such an archive, or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if max(unpacked, len(data)) > _MAX_BYTES:
            raise RequestError(f"it holds {unpacked} bytes; at most {_MAX_BYTES} are accepted")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            # What is not an array in numpy's format comes as bytes.
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except RequestError:
        raise
    except Exception as error:
        # Among them zlib's and tokenize's own errors, for which numpy has no common name.
        line = " ".join(str(error).split())[:200]
        raise RequestError(f"it is not an archive of vectors: {line}") from error
