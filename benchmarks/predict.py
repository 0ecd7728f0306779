"""What `impasto estimate` says beforehand, beside what a run takes: `python benchmarks/predict.py`.

The estimate is made anew before every run, so both meet the machine in the same state. Nothing else
should be running: the estimate takes seconds, and other work that begins after it is not foreseen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import clips
import machine
from processes import call, spread

HERE = Path(__file__).resolve().parent
_TOLERANCE = 0.20


def measure(folder: Path, workers: int, *, frames: int, width: int, height: int,
            style: str, quality: str,
            rounds: int) -> dict[str, Any]:  # fmt: skip
    """Predicted and measured seconds of a run with so many local workers, in turn."""
    clip, target, work = folder / "clip.mp4", folder / "painted.mp4", folder / "work"
    if not clip.exists():
        clips.draw(clip, frames=frames, width=width, height=height)
    how = [str(clip), "--style", style, "--quality", quality, "--json",
           "--workers", str(workers), "--chunk-frames", str(max(1, frames // 8))]  # fmt: skip
    impasto = [sys.executable, "-m", "impasto"]
    predicted, measured, ratios = [], [], []
    for _ in range(rounds):
        shutil.rmtree(work, ignore_errors=True)
        told = call([*impasto, "estimate", *how]).answer
        done = call([*impasto, "stylize", *how, "-o", str(target), "--force"],
                    {"IMPASTO_WORK": str(work)}).answer  # fmt: skip
        predicted.append(told["on_demand"]["wall_s"])
        measured.append(done["wall_s"])
        ratios.append(predicted[-1] / measured[-1])
    found = spread(ratios)
    return {
        "workers": workers,
        "frames": frames,
        "predicted_s": spread(predicted),
        "measured_s": spread(measured),
        "ratio": found,
        "within": abs(found["median"] - 1) <= _TOLERANCE,
        "bound_by": told["binds"],
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Sweep over workers, write benchmarks/results/prediction.json and return what it holds."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--workers", default="1,2")
    words.add_argument("--frames", type=int, default=480)
    words.add_argument("--width", type=int, default=640)
    words.add_argument("--height", type=int, default=360)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--style", default="starry_night")
    words.add_argument("--quality", default="balanced")
    words.add_argument("--results", type=Path, default=HERE / "results")
    asked = words.parse_args(arguments)
    results: dict[str, Any] = {"machine": machine.describe(), "versions": machine.versions()}
    with tempfile.TemporaryDirectory(prefix="impasto-predict-") as folder:
        results["sweep"] = [
            measure(Path(folder), int(count), frames=asked.frames, width=asked.width,
                    height=asked.height, style=asked.style,
                    quality=asked.quality, rounds=asked.rounds)
            for count in asked.workers.split(",")
        ]  # fmt: skip
    asked.results.mkdir(parents=True, exist_ok=True)
    target: Path = asked.results / "prediction.json"
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    for row in main()["sweep"]:
        print(json.dumps(row))
