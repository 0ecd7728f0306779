"""The simulation runs, and what it says is possible; how fast anything is, is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PIL")
pytest.importorskip("psutil")

_BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def _run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False,
                          timeout=300, cwd=_BENCHMARKS)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulation")
    _run("simulate.py", "--quick", "--results", str(path), "--images", str(path))
    return path


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "simulation.json").read_text())
    return found


def test_no_fleet_does_more_than_it_has_nodes_for(results: dict[str, Any]) -> None:
    for world, rows in results["scaling"].items():
        for row in rows:
            assert not row["problem"], (world, row)
            assert sum(row["share"].values()) == pytest.approx(1, abs=0.01)
            assert row["speed_up_scoring"] <= row["nodes"] * 1.1
            assert 0 < row["useful"] <= 1
            assert row["share"]["scoring"] <= 1


def test_the_arithmetic_foresees_a_steady_fleet(results: dict[str, Any]) -> None:
    for row in results["scaling"]["steady"]:
        assert row["expected_s"] == pytest.approx(row["wall_s"], rel=0.05)


def test_stragglers_hurt_chunks_less_than_fixed_shares(results: dict[str, Any]) -> None:
    for rows in results["cuts"].values():
        by_cut = {row["cut"]: row["score_s"] for row in rows}
        assert by_cut["auto"] <= by_cut["static"] * 1.05


def test_a_queue_pays_at_most_twice_what_knowing_the_next_job_would_cost(
    results: dict[str, Any],
) -> None:
    costs: dict[float, list[float]] = {}
    for row in results["queue"]:
        costs.setdefault(row["gap_s"], []).append(row["idle_cost_per_job"])
    for at_once, one_boot, never in costs.values():
        assert one_boot <= 2.05 * min(at_once, never)


def test_the_figures_are_drawn(folder: Path) -> None:
    for name in ("speed-up", "waste", "cost"):
        assert (folder / f"scaling-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_handing_out_keeps_no_memory_per_chunk() -> None:
    small = json.loads(_run("scheduling.py", "--quick"))
    assert [row["workers"] for row in small] == [16, 1000]
    for row in small:
        assert row["hand_out_peak_kb"] < 2 * row["workers"] + 50
