"""Frames in, frames out: what a run applies to every frame of a video."""

from pathlib import Path

from impasto.protocols import Scorer
from impasto.records import ScorerSpec
from impasto.scorers.network import MAX_DB, gate_db, open_network, psnr_db

__all__ = ["MAX_DB", "gate_db", "open_scorer", "psnr_db"]


def open_scorer(
    spec: ScorerSpec,
    model: bytes,
    *,
    width: int,
    height: int,
    precision: str,
    streams: int = 0,
    cache: Path | None = None,
) -> Scorer:
    """Build the scorer of `spec` for frames of `width` x `height` pixels.

    Args:
        spec: what is applied, and how.
        model: the bytes of the ONNX file that `spec.model` is the digest of.
        width: pixels.
        height: pixels.
        precision: "f32" or "bf16".
        streams: frames at the same time, one core each; 0 takes every core.
        cache: a folder for compiled networks.

    Raises:
        RequestError: the spec, the model or the precision can't be used.
        OutOfMemory: no room for the network even with one frame at a time.
    """
    return open_network(
        spec,
        model,
        width=width,
        height=height,
        precision=precision,
        streams=streams,
        cache=cache,
    )
