"""Measure Impasto against the reference's method on this machine: `make bench`.

    python benchmarks/run.py [--quick] [--checkpoint WEIGHTS.pth] [--only end_to_end,memory]

Baseline and ours take turns, so that a machine that slows down slows both. Results land in
benchmarks/results/<name>.json, and as a table beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
import measure
import overhead
import report

PARTS = (
    "end_to_end", "shipped", "tiers", "memory", "start_up", "finish", "workers", "overhead",
    "watching", "service",
)  # fmt: skip
_CHECKPOINT = "weights/transform/fns_onnxzoo_candy.pth"


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write the results and return the path of the JSON file."""
    asked = _parse(arguments)
    sizes = measure.QUICK if asked.quick else measure.Sizes()
    chosen = {name: getattr(asked, name) for name in ("frames", "baseline_frames", "rounds")}
    sizes = replace(sizes, **{name: value for name, value in chosen.items() if value})
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "quick": asked.quick,
        "machine": machine.describe(),
        "versions": machine.versions(),
    }
    with tempfile.TemporaryDirectory(prefix="impasto-bench-") as folder:
        bench = measure.Bench(Path(folder), sizes, asked.checkpoint)
        results["settings"] = bench.facts()
        for part in asked.only:
            print(f"measuring {part} …", file=sys.stderr, flush=True)
            results[part] = _measure(part, bench, results)
    name = asked.name or _name(results["machine"], sizes)
    asked.results.mkdir(parents=True, exist_ok=True)
    target: Path = asked.results / f"{name}.json"
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    table = report.render(results)
    target.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)
    return target


def _measure(part: str, bench: measure.Bench, results: dict[str, Any]) -> Any:
    if part == "finish":
        ours = results["end_to_end"]["ours"]
        return measure.finish(bench, ours["frames_per_s"]["median"])
    if part == "overhead":
        sizes = bench.sizes
        return overhead.measure(bench.folder, seconds=sizes.overhead_s, width=sizes.width,
                                height=sizes.height, frames=sizes.overhead_frames)  # fmt: skip
    if part == "watching":
        import watching  # what a service needs is not installed everywhere

        objects = 1000 if results["quick"] else watching.OBJECTS
        return watching.watching(bench.folder, objects)
    if part == "service":
        import service  # likewise

        return service.service(bench.folder, service.QUICK if results["quick"] else service.Sizes())
    measurement: Callable[[measure.Bench], Any] = getattr(measure, part)
    return measurement(bench)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    words.add_argument("--name", help="of the results; default: the processor and the size")
    words.add_argument("--results", type=Path, default=measure.HERE / "results")
    words.add_argument("--checkpoint", type=Path, default=_checkpoint(),
                       help="published weights; default: random ones")  # fmt: skip
    words.add_argument("--frames", type=int, help="length of the clip that we paint")
    words.add_argument("--baseline-frames", type=int, help="of the clip for the baseline")
    words.add_argument("--rounds", type=int)
    words.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    asked = words.parse_args(arguments)
    asked.only = [part for part in PARTS if part in asked.only.split(",")]
    if "finish" in asked.only and "end_to_end" not in asked.only:
        words.error("finish compares with end_to_end: measure both")
    return asked


def _checkpoint() -> Path | None:
    path = Path(os.environ.get("IMPASTO_DATA", "")) / _CHECKPOINT
    return path if "IMPASTO_DATA" in os.environ and path.exists() else None


def _name(found: dict[str, Any], sizes: measure.Sizes) -> str:
    words = f"{found['processor']} {found['cores']} cores {sizes.height}p"
    plain = "".join(letter if letter.isalnum() else " " for letter in words.lower())
    return "-".join(plain.split())


if __name__ == "__main__":
    main()
