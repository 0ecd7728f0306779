"""A picture put into storage beside the videos: it is learned by the first run that wants it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install 'impasto[train]'")

from crew import SOUNDING
from media_maker import make
from served import Served, wait_for
from studio import furnish

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes as Linux has")

_ADDRESS_SPACE = 6 << 30
_CONFIG = f"""
[[serve.watch]]
prefix = "in"
style = "stripes"
quality = "fast"
precision = "f32"

[serve.triggers]
interval_s = 0.5
settle_s = 0.5

[serve.job]
memory_bytes = {_ADDRESS_SPACE}
cpu_s = 3600
file_bytes = {1 << 30}
open_files = 256
"""


def test_a_watched_run_learns_a_picture_within_the_limits_of_its_process(tmp_path: Path) -> None:
    furnish(tmp_path)
    styles = tmp_path / "styles"
    service = Served(
        tmp_path,
        config=_CONFIG,
        program=(str(Path(__file__).with_name("quick_learner.py")),),
        environ={
            "IMPASTO_STYLES": str(styles),
            "IMPASTO_PERCEPTUAL": str(tmp_path / "vgg.pth"),
            "OMP_NUM_THREADS": "1",
        },
    )
    (service.media / "in/style").mkdir()
    shutil.copy(tmp_path / "painting.png", service.media / "in/style/stripes.png")
    service.start()
    try:
        (run,) = wait_for(lambda: _runs(service))
        wait_for(lambda: _is_limited(service))  # soon after it has begun
        first = service.ended(run["run_id"])
        (learned,) = [path for path in styles.iterdir() if path.name.startswith("stripes-")]
        card = (learned / "card.json").stat()
        make(SOUNDING, tmp_path / "b.mp4")
        (tmp_path / "b.mp4").rename(service.media / "in/b.mp4")
        second = service.ended(wait_for(lambda: _runs(service)[:-1])[0]["run_id"])
    finally:
        service.stop()
    for ended, name in ((first, "a"), (second, "b")):
        assert ended["state"] == "succeeded", ended
        assert ended["report"]["verified"]
        assert (service.media / f"painted/{name}.stripes.mp4").exists()
    assert (learned / "card.json").stat() == card  # the second knew it
    assert [path.name for path in styles.iterdir()] == [learned.name]


def _runs(service: Served) -> list[dict[str, Any]]:
    """The latest first."""
    found: list[dict[str, Any]] = service.ask("GET", "/v1/runs").json()["runs"]
    return found


def _is_limited(service: Served) -> bool:
    """Whether the process of a run is held to what was configured."""
    return any(
        process.rlimit(psutil.RLIMIT_AS) == (_ADDRESS_SPACE, _ADDRESS_SPACE)
        and process.rlimit(psutil.RLIMIT_NOFILE) == (256, 256)
        for process in psutil.Process(service.pid).children()
    )
