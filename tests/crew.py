"""The processes that score for a test, and a film that is quick to score."""

from __future__ import annotations

import psutil

from media_table import MediaCase

FORTY = MediaCase(
    name="forty", why="", pts=tuple(range(0, 40 * 512, 512)), width=64, height=64, audio=()
)
_PROGRAMS = [["-P", "-m", f"impasto.engines.{name}"] for name in ("local", "ranks")]


def crew(*, all_ranks: bool = False) -> list[psutil.Process]:
    """The worker processes below this one; rank 0 of a job, which does not score, if asked for."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            program = process.cmdline()[1:4]  # and not that of mpiexec, which has it further back
            rank = process.environ().get("PMI_RANK")
        except psutil.Error:  # it has just ended
            continue
        if program in _PROGRAMS and (all_ranks or rank != "0"):
            found.append(process)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that do not end within a minute."""
    return psutil.wait_procs(processes, timeout=60)[1]
