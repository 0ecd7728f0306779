"""python -m impasto.train: arguments -> one call of train_style."""

import argparse
import dataclasses
import datetime as dt
import sys
from collections.abc import Sequence
from pathlib import Path

from impasto.errors import ImpastoError
from impasto.train import About, Judges, Rhythm, TrainConfig, train_style

_SETTINGS = {
    "iterations": "how long to train",
    "batch": "crops per iteration",
    "crop_px": "side of a crop in pixels",
    "painting_px": "shorter side of the painting in pixels; larger gives larger strokes",
    "painting_soften": "detail of the painting, in pixels, below which nothing is imitated",
    "style_weight": "strength of the strokes",
    "content_weight": "strength of the scene",
    "variation_weight": "strength of smoothness",
    "stillness_weight": "strength of stillness between frames",
    "learning_rate": "at the start",
    "seed": "the same seed gives the same style",
    "device": "cpu, cuda, mps, ...",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a style; returns the exit code."""
    options = _parser().parse_args(arguments)
    config = TrainConfig(**{name: getattr(options, name) for name in _SETTINGS})
    name = options.name or options.target.name
    about = About(
        name=name,
        title=options.title or name,
        artist=options.artist,
        year=options.year,
        source=options.source,
        licence=options.licence,
    )
    try:
        style = train_style(
            options.painting,
            options.content,
            options.target,
            config,
            about=about,
            judges=Judges(tuple(options.perceptual), tuple(options.sample)),
            today=dt.datetime.now(tz=dt.UTC).date(),
            start=options.start,
            rhythm=Rhythm(sample_every=options.sample_every),
        )
    except ImpastoError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    skipped = len(style.skipped)
    sys.stdout.write(f"{style.folder}: {style.figures}, {skipped} photographs skipped\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m impasto.train", description=__doc__)
    parser.add_argument("painting", type=Path, help="a picture of the painting")
    parser.add_argument("content", type=Path, help="a folder of photographs")
    parser.add_argument("target", type=Path, help="the style's folder; resumes what it holds")
    parser.add_argument(
        "--perceptual", type=Path, nargs="+", required=True, help="VGG-19 state dicts"
    )
    parser.add_argument("--sample", type=Path, nargs="*", default=[], help="pictures to look at")
    parser.add_argument("--start", type=Path, help="checkpoint whose weights to begin with")
    parser.add_argument("--sample-every", type=int, default=Rhythm().sample_every)
    for name in (field.name for field in dataclasses.fields(About)):
        parser.add_argument(f"--{name}", default="", help=f"{name}, for the card")
    defaults = TrainConfig()
    for name, text in _SETTINGS.items():
        default = getattr(defaults, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            help=f"{text} (default: {default})",
        )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
