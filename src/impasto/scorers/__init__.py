"""Frames in, frames out: what a run applies to every frame of a video."""

from impasto.scorers.network import MAX_DB, gate_db, open_scorer, psnr_db

__all__ = ["MAX_DB", "gate_db", "open_scorer", "psnr_db"]
