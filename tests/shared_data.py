"""Where the data for development lies: pictures, paintings and published weights."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


def path_of(name: str) -> Path:
    """Path of a file of the shared data; the test is skipped where there is none."""
    root = Path(os.environ.get("IMPASTO_DATA", _BESIDE))
    path = root / name
    if not path.exists():
        pytest.skip(f"no {path}: set IMPASTO_DATA to the folder of the shared data")
    return path
