"""A painting that is learned among MPI ranks: rank 0 learns, and all end as it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")
pytest.importorskip("PIL.Image", reason="training needs pillow: pip install 'impasto[train]'")
pytest.importorskip("onnx", reason="reading networks needs onnx: pip install 'impasto[train]'")
pytest.importorskip("mpi4py", reason="ranks need mpi4py: pip install 'impasto[mpi]'")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

from studio import TINY, furnish, ship  # noqa: E402 - after the skips above

Media = Callable[[str], Path]

_COMMAND = """
import dataclasses, os, pathlib, sys
from impasto.cli import main
from impasto.styles import catalogue, vectors

studio = pathlib.Path(sys.argv[1])
vectors._NETWORKS, catalogue._SHIPPED = studio / "networks", studio / "shipped"
if os.environ["PMI_RANK"] == "0":
    import torch
    from impasto.train import learn
    from studio import SMALL
    torch.set_num_threads(1)
    learn._FRAMES = 8
    learn.LEARNING = dataclasses.replace(SMALL, iterations=4, frozen=True, stillness_begins=0.0)
code = main(sys.argv[2:])
(studio / f"rank-{os.environ['PMI_RANK']}").write_text(str(code))
sys.exit(code)
"""


def _launch(studio: Path, film: Path, painting: str) -> subprocess.CompletedProcess[str]:
    (studio / "command.py").write_text(_COMMAND)
    words = ["stylize", str(film), "--style", str(studio / painting), "--quality", "fast"]
    words += ["-o", str(studio / "out.mp4"), "--precision", "f32", "--chunk-frames", "4", "--json"]
    return subprocess.run(
        [str(Path(sysconfig.get_path("scripts")) / "mpiexec"), "-n", "3", sys.executable,
         str(studio / "command.py"), str(studio), *words],
        cwd=studio, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            "IMPASTO_STYLES": str(studio / "styles"),
            "IMPASTO_WORK": str(studio / "work"),
            "IMPASTO_PERCEPTUAL": str(studio / "vgg.pth"),
        },
    )  # fmt: skip


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    furnish(tmp_path)
    ship(tmp_path, {"fast": TINY})
    return tmp_path


def _codes(studio: Path) -> list[str]:
    return [(studio / f"rank-{rank}").read_text() for rank in range(3)]


def test_a_painting_is_learned_by_one_rank_and_painted_by_the_others(
    studio: Path, media: Media
) -> None:
    found = _launch(studio, media("vfr"), "painting.png")
    assert found.returncode == 0, found.stderr
    assert _codes(studio) == ["0", "0", "0"]
    report = json.loads(found.stdout)
    assert (report["engine"], report["workers"], report["verified"]) == ("mpi", 2, True)
    (style,) = (studio / "styles").glob("painting-*")
    assert (style / "vectors.npz").is_file()
    learnt = [line for line in found.stderr.splitlines() if "4 of 4 iterations" in line]
    assert len(learnt) == 1


@pytest.mark.parametrize(
    ("painting", "says"), [("none.png", "can't be read"), ("text.png", "is not a picture")]
)
def test_a_painting_that_can_not_be_learned_is_one_line_and_two_on_all_ranks(
    painting: str, says: str, studio: Path, media: Media
) -> None:
    (studio / "text.png").write_text("no picture")
    found = _launch(studio, media("vfr"), painting)
    assert found.returncode == 2, found.stderr
    assert _codes(studio) == ["2", "2", "2"]
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("impasto:")]
    assert says in line
    assert json.loads(found.stdout)["exit_code"] == 2
    assert not (studio / "out.mp4").exists()
