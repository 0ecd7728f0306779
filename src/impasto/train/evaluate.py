"""python -m impasto.train.evaluate: a fixed evaluation of styles, on photographs they never saw.

    style       distance to the painting's Gram matrices, per layer of each perceptual network
    content     distance to the scene's feature maps
    stability   made-up pans of known motion, and a tripod shot, both with camera noise
    artefacts   weaves with a period of 2, 4 and 8 pixels, borders, plain and dark scenes

The figures of the photographs themselves stand beside those of the styles, as the style "source".
Give perceptual networks that the styles were not trained with, and photographs likewise: a style
does not say what it was trained with. JSON goes to stdout, a table to stderr.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from impasto.errors import ImpastoError, RequestError
from impasto.records import ScorerSpec
from impasto.scorers import open_scorer
from impasto.styles import find_style
from impasto.train.data import open_photographs, read_painting
from impasto.train.evaluation import Eye, Score, evaluate, open_eye, painting_itself
from impasto.train.losses import Texture
from impasto.train.shots import Setting, shots_of

SOURCE = "source"
"""The name that the unpainted photographs have among the styles."""
_INSET = 0.03  # part of each side of the painting that is cut off: frame, edge of the canvas


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate styles; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        setting = Setting(
            **{field.name: getattr(options, field.name) for field in dataclasses.fields(Setting)}
        )
        report = evaluate_styles(
            options.styles,
            options.content,
            options.perceptual,
            setting,
            painting=options.painting,
        )
    except ImpastoError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stderr.write(table_of(report))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def evaluate_styles(
    styles: Sequence[str],
    content: Path,
    perceptual: Sequence[Path],
    setting: Setting,
    *,
    painting: Path | None = None,
) -> dict[str, Any]:
    """Evaluate styles by name or ONNX file; the result is what the JSON holds.

    Without `painting` there are no style figures. Raises RequestError for a style, a folder, a
    painting or a perceptual network that cannot be used.
    """
    names = {style: _name(style) for style in styles}
    if SOURCE in names.values() or len(set(names.values())) < len(styles):
        raise RequestError(
            f"styles need different names, none of them {SOURCE!r}; got {', '.join(styles)}"
        )
    eyes = [open_eye(path) for path in perceptual]
    if len({eye.name for eye in eyes}) < len(eyes):
        raise RequestError(
            "perceptual networks must be of different kinds, got "
            + ", ".join(
                f"{path.name} ({eye.name})" for path, eye in zip(perceptual, eyes, strict=True)
            )
        )
    photographs = open_photographs(content, _ignore).paths[-setting.count :]
    shots = [shots_of(path, i, setting) for i, path in enumerate(photographs)]
    whole, itself = _painting(painting, eyes, setting)
    found = {SOURCE: evaluate(lambda frames: frames, shots, eyes, setting, painting=whole)}
    digests = {}
    for style in styles:
        digests[names[style]], score = open_style(style, setting.size_px)
        found[names[style]] = evaluate(score, shots, eyes, setting, painting=whole)
    return {
        "setting": dataclasses.asdict(setting),
        "photographs": [path.name for path in photographs],
        "perceptual": [path.name for path in perceptual],
        "painting": {"name": painting.name, **itself} if painting else None,
        "sha256": digests,
        "styles": {name: dataclasses.asdict(each) for name, each in found.items()},
    }


def open_style(style: str, size_px: int) -> tuple[str, Score]:
    """The digest of a style's network, and the style in f32; `style` is a name or an ONNX file.

    Raises RequestError when there is no such style or file.
    """
    path = Path(style)
    if path.suffix.lower() == ".onnx":
        try:
            model = path.read_bytes()
        except OSError as error:
            raise RequestError(f"style {path} can't be read: {error.strerror}") from error
    else:
        _, model = find_style(style)
    digest = hashlib.sha256(model).hexdigest()
    spec = ScorerSpec(name=_name(style), model=digest)
    return digest, open_scorer(spec, model, width=size_px, height=size_px, precision="f32")


def table_of(report: Mapping[str, Any]) -> str:
    """The report as lines for people: figures downwards, styles across."""
    columns = {name: _flat(each) for name, each in report["styles"].items()}
    if report["painting"]:
        figures = {key: value for key, value in report["painting"].items() if key != "name"}
        columns = {"painting": _flat(figures)} | columns
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    width = max(len(row) for row in rows)
    lines = [" " * width + "".join(f"  {name[:18]:>18}" for name in columns)]
    for row in rows:
        cells = "".join(f"  {column.get(row, ''):>18}" for column in columns.values())
        lines.append(f"{row:<{width}}{cells}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _flat(figures: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested figures as "group: name" -> text; a spread in one cell, and a colour's RGB."""
    found: dict[str, str] = {}
    for key, value in figures.items():
        name = f"{above}: {key}" if above else key
        match value:
            case {"mean": mean, "least": least, "most": most}:
                found[name] = f"{mean:.3f} ({least:.2f}-{most:.2f})"
            case dict():
                found |= _flat(value, name)
            case float():
                found[name] = f"{value:.4g}"
            case _:
                found[name] = " ".join(f"{x:.0f}" for x in value)
    return found


def _ignore(_line: str) -> None:
    """Files are read where they are used, and there an unreadable one is an error."""


def _painting(
    path: Path | None, eyes: Sequence[Eye], setting: Setting
) -> tuple[dict[str, Texture], dict[str, dict[str, float]]]:
    if path is None:
        return {}, {}
    # Not softened, as it is for training: the painting is the measure, whatever was asked for.
    picture = read_painting(path, shorter_px=setting.painting_px, inset=_INSET)
    return painting_itself(picture, eyes, setting)


def _name(style: str) -> str:
    """A style's name; for an ONNX file its own, or its folder's where that is a style's."""
    path = Path(style)
    if path.suffix.lower() != ".onnx":
        return style
    return path.parent.name if path.stem == "style" and path.parent.name else path.stem


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m impasto.train.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("styles", nargs="+", help="names of styles, or ONNX files")
    parser.add_argument("--content", type=Path, required=True, help="a folder of photographs")
    parser.add_argument(
        "--perceptual",
        type=Path,
        nargs="+",
        required=True,
        help="state dicts: a VGG-19, a SqueezeNet 1.1; others than those trained with",
    )
    parser.add_argument(
        "--painting",
        type=Path,
        help="what the styles imitate; left out, there are no style figures",
    )
    texts = {
        "size_px": "side of the square that is painted; a multiple of 8",
        "painting_px": "shorter side of the painting",
        "count": "photographs used, the last of the folder by name",
        "noise_levels": "camera noise, of 255 levels",
        "seed": "the same seed gives the same shots",
    }
    for field in dataclasses.fields(Setting):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=f"{texts[field.name]} (default: {field.default})",
        )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
