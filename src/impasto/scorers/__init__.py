"""Frames in, frames out: what a run applies to every frame of a video."""

from impasto.protocols import Scorer
from impasto.records import ScorerSpec
from impasto.scorers import network
from impasto.scorers.network import MAX_DB, gate_db, psnr_db

__all__ = ["MAX_DB", "gate_db", "open_scorer", "psnr_db"]


def open_scorer(
    spec: ScorerSpec, model: bytes, *, width: int, height: int, precision: str, streams: int = 0
) -> Scorer:
    """Return what `spec` describes, ready for frames of `width` x `height` pixels.

    Args:
        spec: what is applied, and how.
        model: the bytes that `spec.model` is the digest of.
        width: pixels.
        height: pixels.
        precision: "f32" or "bf16"; an optimisation takes f32 alone.
        streams: cores; 0 takes every one.

    Raises:
        RequestError: a setting out of range, an unusable model, or a missing package.
        OutOfMemory: no room even for one frame at a time.
    """
    if spec.optimise is not None:
        from impasto.scorers.optimise import open_optimiser

        return open_optimiser(spec, model, width=width, height=height, threads=streams)
    return network.open_scorer(
        spec, model, width=width, height=height, precision=precision, streams=streams
    )
