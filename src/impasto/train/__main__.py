"""python -m impasto.train RECIPE: train a network for many paintings at once.

For one painting of your own there is: impasto styles train, and impasto styles learn.
"""

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from impasto.config import load_settings
from impasto.errors import ImpastoError
from impasto.nets.perceptual import find_perceptual
from impasto.train.joint import RECIPE, Folders, read_recipe, train_jointly
from impasto.train.step import TrainingStep
from impasto.train.studio import Listener

_TOLD_EVERY = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one tier of a recipe; returns the exit code."""
    options = _parser().parse_args(arguments)
    settings = load_settings(os.environ)
    try:
        styles = train_jointly(
            read_recipe(options.recipe),
            options.tier,
            Folders(options.paintings, options.content, options.target),
            perceptual=[
                find_perceptual(each, cache=settings.cache, report=_say)
                for each in options.perceptual or [settings.perceptual]
            ],
            today=dt.datetime.now(tz=dt.UTC).date(),
            start=options.start,
            small=options.grow,
            small_tier=options.grow_tier,
            listener=Listener(_say, _tell),
        )
    except ImpastoError as error:
        _say(str(error))
        return error.exit_code
    _say(f"{options.target}: {', '.join(style.name for style in styles)}")
    return 0


def _tell(step: TrainingStep) -> None:
    if step.iteration % _TOLD_EVERY == 0 or step.iteration == step.iterations:
        told = " ".join(f"{name} {value:.4f}" for name, value in step.losses.items())
        _say(f"{step.iteration}/{step.iterations} {told}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m impasto.train", description=__doc__)
    parser.add_argument("recipe", type=Path, nargs="?", default=RECIPE, help="a TOML file")
    parser.add_argument("--paintings", type=Path, required=True, help="folder of their pictures")
    parser.add_argument("--content", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--target", type=Path, required=True, help="receives networks and styles")
    parser.add_argument("--tier", default="fast", help="of the recipe (default: fast)")
    parser.add_argument(
        "--perceptual", nargs="+", help="names or paths of the networks that judge, cheapest last"
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--start", type=Path, help="checkpoint of this tier to begin with")
    begin.add_argument("--grow", type=Path, help="checkpoint of a smaller tier to grow from")
    parser.add_argument("--grow-tier", default="fast", help="the tier of that one")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
