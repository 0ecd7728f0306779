"""Memory does not grow with the video's length."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import media_maker
from media_table import AudioTrack, case_named
from painting import PRINT_PEAK_MB

_SCRIPT = f"""
import sys
from dataclasses import replace
from pathlib import Path
from painting import PLAIN, paint
folder = Path(sys.argv[2])
options = replace(PLAIN, chunk_frames=16)
paint(Path(sys.argv[1]), folder, target=folder / "out.mp4", options=options)
{PRINT_PEAK_MB}
"""


def _peak(frames: int, folder: Path) -> int:
    film, work = folder / f"{frames}.mp4", folder / f"work{frames}"
    case = replace(
        case_named("cfr_24"),
        pts=tuple(range(0, frames * 512, 512)),
        width=320,
        height=180,
        audio=(AudioTrack(),),
        codec_options=(("preset", "ultrafast"), ("crf", "30")),
    )
    media_maker.make(case, film)
    command = [sys.executable, "-c", _SCRIPT, str(film), str(work)]
    here = Path(__file__).parent
    return int(subprocess.run(command, check=True, capture_output=True, cwd=here).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_film_ten_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    """Its pictures alone would be 55 MB."""
    short, long = _peak(32, tmp_path), _peak(320, tmp_path)
    assert long < short * 1.1
