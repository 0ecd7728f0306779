"""The benchmarks run, and say what they promise; how fast is not asserted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("imageio_ffmpeg")

_RUN = Path(__file__).resolve().parent.parent / "benchmarks" / "run.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("benchmarks")
    command = [sys.executable, str(_RUN), "--quick", "--name", "smoke", "--results", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "smoke.md").read_text() in done.stdout
    found: dict[str, Any] = json.loads((folder / "smoke.json").read_text())
    return found


def rates(value: Any) -> list[dict[str, Any]]:
    """Every spread in the results."""
    if isinstance(value, dict):
        if "median" in value:
            return [value]
        return [rate for each in value.values() for rate in rates(each)]
    return [rate for each in value for rate in rates(each)] if isinstance(value, list) else []


def test_every_measurement_is_there(results: dict[str, Any]) -> None:
    parts = {
        "end_to_end",
        "shipped",
        "tiers",
        "memory",
        "start_up",
        "finish",
        "workers",
        "overhead",
    }
    assert parts <= results.keys()
    assert results["quick"] is True
    for rate in rates({name: part for name, part in results.items() if name != "overhead"}):
        assert 0 < rate["min"] <= rate["median"] <= rate["max"]


def test_every_claim_of_speed_stands_beside_a_proof(results: dict[str, Any]) -> None:
    checks = results["end_to_end"]["checks"]
    assert checks["ours_verified"]
    assert checks["baseline_checks"]["frame_count"]
    assert checks["network_psnr_db"] > 40
    for network in results["tiers"]:
        assert network["psnr_db"] > (45 if network["precision"] == "f32" else 30)
    for engine in results["overhead"]["engines"]:
        assert engine["verified"]
        assert engine["same_bytes"]
        assert engine["score_s"]["median"] > 0
    for part in (results["memory"], results["finish"], *results["workers"]):
        assert part["verified"]


def test_the_results_describe_the_machine_without_naming_it(results: dict[str, Any]) -> None:
    import platform

    assert results["machine"]["processor"]
    assert results["machine"]["cores"] >= 1
    assert {"python", "openvino", "torch", "av"} <= results["versions"].keys()
    assert platform.node() not in json.dumps(results)
