"""What an engine adds to the work itself: `python benchmarks/overhead.py [--seconds 120]`.

One clip, scored by every engine in turn. Beside each stands whether the target has the bytes that
the first engine gave.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import clips
from impasto.engines import open_engine
from impasto.errors import RequestError
from processes import call, spread

_JOINED = "ray, a cluster that is there"
WAYS = (("local", 1), ("local", 2), ("mpi", 2), ("ray", 2), (_JOINED, 2))
LIMITS = {"local": 0.03, "mpi": 0.03, "ray": 0.05, _JOINED: 0.05}
"""Of the overhead, for a run of two minutes."""
_TWO_AGAINST_ONE = 0.95


def measure(folder: Path, *, seconds: float, rounds: int = 1, width: int = 640, height: int = 360,
            frames: int = 96, style: str = "starry_night") -> dict[str, Any]:  # fmt: skip
    """Seconds of scoring on each engine beyond the workers' own, as a share of these.

    Args:
        folder: for clips and targets.
        seconds: that scoring the clip is to take, about.
        rounds: of all engines in turn.
        width: of the clip, pixels.
        height: of the clip, pixels.
        frames: that are drawn; the clip repeats them.
        style: that it is painted in.
    """
    base, clip = folder / "overhead-base.mp4", folder / "overhead.mp4"
    clips.draw(base, frames=frames, width=width, height=height)
    first = _paint(base, folder, style, "local", 1)
    clips.repeat(base, clip, max(1, round(seconds / first["work_s"])))
    ways = [way for way in WAYS if _there(*way)]
    found: dict[tuple[str, int], list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(_paint(clip, folder, style, *way))
    bytes_of_first = found[ways[0]][0]["target"]
    rows = [_row(way, runs, bytes_of_first) for way, runs in found.items()]
    one, two = ([run["score_s"] for run in found["local", count]] for count in (1, 2))
    ratio = spread([alone / both for alone, both in zip(one, two, strict=True)])
    return {
        "frames": found[ways[0]][0]["frames"],
        "engines": rows,
        "two_against_one": ratio,
        "two_fast_enough": ratio["median"] >= _TWO_AGAINST_ONE,
    }


def _there(engine: str, workers: int) -> bool:
    try:
        open_engine(engine.partition(",")[0], workers=workers)
    except RequestError as error:
        print(f"left out: {error}", file=sys.stderr)
        return False
    return True


def _paint(clip: Path, folder: Path, style: str, engine: str, workers: int) -> dict[str, Any]:
    work, target = folder / "overhead-work", folder / "overhead-painted.mp4"
    shutil.rmtree(work, ignore_errors=True)
    cluster: AbstractContextManager[list[str]] = (
        _cluster(workers) if engine == _JOINED else nullcontext([])
    )
    with cluster as where:
        done = call([sys.executable, "-m", "impasto", "stylize", str(clip), "--style", style,
                     "--engine", engine.partition(",")[0], "--workers", str(workers), *where,
                     "-o", str(target), "--force", "--json"],
                    {"IMPASTO_WORK": str(work)}).answer  # fmt: skip
    spent = done["cost"]["workers"]
    alone_s = sum(done["stage_s"][name] for name in ("probe", "plan", "stitch", "verify"))
    return {
        "frames": done["frames"],
        "score_s": done["wall_s"] - alone_s,
        "work_s": sum(each["scoring_s"] for each in spent) / workers,
        "start_up_s": sum(each["start_up_s"] for each in spent) / workers,
        "waiting_s": sum(each["waiting_s"] for each in spent) / workers,
        "target": hashlib.sha256(target.read_bytes()).hexdigest(),
        "verified": done["verified"],
    }


@contextmanager
def _cluster(workers: int) -> Generator[list[str]]:
    """A Ray cluster of this machine, and what names it to the command."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as temp:
        cluster = Cluster(initialize_head=True, head_node_args={
            "num_cpus": workers, "include_dashboard": False, "object_store_memory": 80 << 20,
            "temp_dir": temp,
        })  # fmt: skip
        try:
            yield ["--ray-address", cluster.address, "--cores-per-worker", "1"]
        finally:
            cluster.shutdown()


def _row(way: tuple[str, int], runs: list[dict[str, Any]], target: str) -> dict[str, Any]:
    overhead = spread([run["score_s"] / run["work_s"] - 1 for run in runs], digits=4)
    return {
        "engine": way[0],
        "workers": way[1],
        "score_s": spread([run["score_s"] for run in runs]),
        "work_s": spread([run["work_s"] for run in runs]),
        "start_up_s": spread([run["start_up_s"] for run in runs]),
        "waiting_s": spread([run["waiting_s"] for run in runs]),
        "overhead": overhead,
        "limit": LIMITS[way[0]],
        "within": overhead["median"] <= LIMITS[way[0]],
        "same_bytes": all(run["target"] == target for run in runs),
        "verified": all(run["verified"] for run in runs),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and return what was found."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--seconds", type=float, default=120.0, help="of scoring, on each engine")
    words.add_argument("--rounds", type=int, default=1)
    words.add_argument("--width", type=int, default=640)
    words.add_argument("--height", type=int, default=360)
    words.add_argument("--style", default="starry_night")
    asked = words.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="impasto-overhead-") as folder:
        return measure(Path(folder), seconds=asked.seconds, rounds=asked.rounds,
                       width=asked.width, height=asked.height, style=asked.style)  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
