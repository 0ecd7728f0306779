"""Engines for tests, the processes that score for them, and a film that is quick to score."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import cache

import psutil
import pytest

from impasto import engines
from impasto.protocols import Engine
from impasto.surroundings import Surroundings
from media_table import AudioTrack, MediaCase

FORTY = MediaCase(
    name="forty", why="", pts=tuple(range(0, 40 * 512, 512)), width=64, height=64, audio=()
)
SOUNDING = replace(FORTY, audio=(AudioTrack(),))
_PROGRAMS = [["-P", "-m", f"impasto.engines.{name}"] for name in ("local", "ranks", "cluster")]
_shared = ExitStack()


@cache
def _ray() -> Surroundings:
    found: Surroundings = _shared.enter_context(
        pytest.importorskip("ray_nodes").nodes(8, 8)
    ).around()
    return found


def surroundings(engine: str) -> Surroundings:
    """What an engine finds here: for "ray" two nodes that all tests share, begun at first use."""
    return _ray() if engine == "ray" else Surroundings()


def end_shared() -> None:
    """End the nodes that `surroundings` began."""
    _ray.cache_clear()
    _shared.close()


def open_engine(name: str, *, workers: int | None = None) -> Engine:
    """Open an engine as a run does."""
    return engines.open_engine(name, workers=workers, surroundings=surroundings(name))


def crew(*, all_ranks: bool = False) -> list[psutil.Process]:
    """The worker processes below this one; those that don't score, but pass on, if asked for."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            first, *program = process.cmdline()[:4]  # and not that of mpiexec, which has it later
            rank = process.environ().get("PMI_RANK")
        except (psutil.Error, ValueError):  # it has just ended
            continue
        passes_on = rank == "0" or program == _PROGRAMS[-1]
        scores = first.startswith("ray::Worker") or (program in _PROGRAMS and not passes_on)
        if scores or (program in _PROGRAMS and all_ranks):
            found.append(process)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that do not end within a minute."""
    return psutil.wait_procs(processes, timeout=60)[1]
