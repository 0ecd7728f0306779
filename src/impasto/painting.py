"""For the method "optimise": a picture of a painting and settings → what a run scores with."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from impasto.errors import RequestError
from impasto.media.still import is_still, read_still, resize, upright
from impasto.records import Optimise, ScorerSpec
from impasto.request import Options, scorer_spec
from impasto.settings import Limits, Settings

_PERCEPTUAL = "vgg19"
"""The network of Gatys et al., as `nets.perceptual` knows it."""
_MAX_STEPS = 5000
_LEAST_PAINTING, _LARGEST_PAINTING = 64, 2048
"""Pixels of its longer side; a larger picture is made smaller."""

KNOBS = tuple(field.name for field in dataclasses.fields(Optimise))
"""The options that belong to this method, beside `perceptual`."""


def refuse_knobs(options: Options) -> None:
    """Raise RequestError when an option is given that a network has no use for."""
    for name in (*KNOBS, "perceptual"):
        if getattr(options, name) is not None:
            raise RequestError(f"{_flag(name)} belongs to --method optimise; leave it out")


def prepare(
    style: Any, options: Options, settings: Settings, tell: Callable[[str], None]
) -> tuple[ScorerSpec, bytes]:
    """Read the painting and the perceptual network, which is fetched on first use.

    Args:
        style: path of a picture.
        options: the method's settings.
        settings: where networks are kept, and limits.
        tell: hears a line before something is fetched.

    Returns:
        What is applied, and the archive that `ScorerSpec.model` is the digest of.

    Raises:
        RequestError: no such picture or network, a setting out of range, several workers, or a
            package is missing.
    """
    if options.workers not in {None, 1}:
        raise RequestError(
            f"--method optimise starts each frame from the one before, so it has 1 worker, got "
            f"{options.workers}"
        )
    if options.engine not in {None, "inline", "local"}:
        raise RequestError(
            f"--method optimise runs on one machine; leave out --engine {options.engine}"
        )
    ranks = settings.surroundings.ranks
    if options.engine is None and ranks is not None and ranks.size != 1:
        raise RequestError("--method optimise runs on one machine; start it without mpiexec")
    if options.precision not in {"auto", "f32"}:
        raise RequestError(f"--method optimise computes in f32, got {options.precision}")
    knobs = settled(options)
    if not isinstance(style, str) or not is_still(Path(style)):
        raise RequestError(
            f"--method optimise paints from a picture, and {str(style)[:80]!r} is none; give "
            "--style painting.jpg"
        )
    painting = _read_painting(Path(style), settings.limits)
    from impasto.scorers.optimise import check_installed, pack

    check_installed()
    from impasto.nets.perceptual import find_perceptual, load_perceptual

    path = find_perceptual(
        options.perceptual or settings.perceptual or _PERCEPTUAL,
        cache=settings.cache,
        report=tell,
    )
    archive = pack(painting, load_perceptual(path))
    spec = scorer_spec(Path(style).stem, archive, options)
    return dataclasses.replace(spec, optimise=knobs), archive


def settled(options: Options) -> Optimise:
    """Return the method's settings, the default where nothing was asked for.

    Raises:
        RequestError: one is out of range.
    """
    asked = {name: getattr(options, name) for name in KNOBS}
    knobs = Optimise(**{name: value for name, value in asked.items() if value is not None})
    _within("steps", knobs.steps, 1, _MAX_STEPS)
    if knobs.painting_size is not None:
        _within("painting_size", knobs.painting_size, _LEAST_PAINTING, _LARGEST_PAINTING)
    for name in ("style_weight", "content_weight", "temporal_weight"):
        weight = getattr(knobs, name)
        if not (math.isfinite(weight) and weight >= 0):
            raise RequestError(f"{_flag(name)} must be a number from 0 up, got {weight}")
    if knobs.style_weight == knobs.content_weight == 0:
        raise RequestError("--style-weight and --content-weight can't both be 0")
    return knobs


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise RequestError(f"{_flag(name)} must be within {least} and {most}, got {value}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_painting(path: Path, limits: Limits) -> Any:
    source, frame = read_still(path, limits)
    picture = upright(source, frame)
    height, width = picture.shape[:2]
    share = min(1.0, _LARGEST_PAINTING / max(height, width))
    if min(height, width) * share < _LEAST_PAINTING / 2:
        raise RequestError(f"the painting {str(path)!r} has only {width}x{height} pixels")
    if not np.ptp(picture, axis=(0, 1)).any():
        raise RequestError(f"the painting {str(path)!r} is one plain colour")
    return resize(picture, width=round(width * share), height=round(height * share))
