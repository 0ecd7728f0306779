"""See it work: `python examples/demo.py`, or `make demo`.

Draws a short film, paints it with `impasto stylize`, and sets two of its moments beside the
painting in one picture. Everything lands in demo/.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import sample_clip
from impasto.cli import main as impasto
from impasto.config import load_settings
from impasto.media.probe import probe
from impasto.media.sheet import Row, draw_sheet
from impasto.media.still import encode_png
from impasto.preview import clock, read_pictures

_MOMENTS = (0.25, 0.75)
"""Shares of the film: one moment of each of its two scenes."""


def before_and_after(source: Path, target: Path, style: str, picture: Path) -> None:
    """Write a picture of the same moments in both films, side by side."""
    settings = load_settings(os.environ)
    left, right = (probe(path, settings.limits) for path in (source, target))
    ledger = left.ledger
    indices = [round(moment * len(ledger)) for moment in _MOMENTS]
    befores = read_pictures(source, left, indices, settings)
    afters = read_pictures(target, right, indices, settings)
    rows = [
        Row(clock((ledger.pts[index] - ledger.pts[0]) * ledger.time_base), (before, after))
        for index, before, after in zip(indices, befores, afters, strict=True)
    ]
    facts = f"{len(right.ledger)} of {len(ledger)} frames, every timestamp and the sound proven"
    picture.write_bytes(encode_png(draw_sheet(target.name, facts, ["source", style], rows)))


def main() -> int:
    """Run the demo; the exit code is that of `impasto stylize`."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--style", default="starry_night", help="a name from `impasto styles list`")
    words.add_argument("--folder", type=Path, default=Path("demo"), help="where everything lands")
    asked = words.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    source = asked.folder / "sample.mp4"
    target = asked.folder / f"sample.{asked.style}.mp4"
    picture = asked.folder / f"before-and-after.{asked.style}.png"
    if not source.exists():
        print("drawing a film to paint …")
        unfinished = source.with_name("unfinished.mp4")
        sample_clip.write(unfinished)
        unfinished.replace(source)
    # The very path that the command line takes, its live display included.
    code = impasto(["stylize", str(source), "--style", asked.style, "-o", str(target), "--force"])
    if code:
        return code
    before_and_after(source, target, asked.style, picture)
    print(f"\npainted           {target}\nbefore and after  {picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
