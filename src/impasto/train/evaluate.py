"""python -m impasto.train.evaluate: styles side by side, on photographs they never saw.

    style       distance to the painting's Gram matrices, per layer of each perceptual network
    content     distance to the scene's feature maps
    stability   made-up pans of known motion and a tripod shot, both with camera noise; real clips,
                along the optical flow of the source
    artefacts   weaves with a period of 2, 4 and 8 pixels, borders, plain and dark scenes

A candidate is the name of a style, an ONNX file, a published checkpoint (.pth, .npz), or a row of
style vectors in the checkpoint of a training (checkpoint.pt#3); @0.5 behind it is half its
strength. The figures of the photographs themselves stand beside theirs, as "source".
Give perceptual networks that the styles were not trained with, and photographs likewise: a style
does not say what it was trained with. JSON goes to stdout, a table to stderr.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from impasto.config import load_settings
from impasto.errors import ImpastoError, RequestError
from impasto.nets.texture import Texture
from impasto.train.candidates import Candidate, open_candidates
from impasto.train.clips import read_clips
from impasto.train.data import open_photographs, read_painting
from impasto.train.evaluation import (
    Evaluation,
    Eye,
    evaluate,
    open_eye,
    painting_itself,
    scene_of,
)
from impasto.train.shots import Setting, shots_of

SOURCE = "source"
"""The name that the unpainted photographs have among the candidates."""
_INSET = 0.03  # part of each side of the painting that is cut off: frame, edge of the canvas


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare candidates; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        setting = Setting(
            **{field.name: getattr(options, field.name) for field in dataclasses.fields(Setting)}
        )
        candidates = open_candidates(
            options.candidates,
            qualities=options.quality,
            strengths=options.strengths,
            precision=options.precision,
            user_styles=load_settings(os.environ).user_styles,
        )
        report = compare(
            candidates,
            options.content,
            options.perceptual,
            setting,
            painting=options.painting,
            clips=options.clips,
            against=options.against,
        )
    except ImpastoError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stderr.write(table_of(report))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def compare(
    candidates: Sequence[Candidate],
    content: Path,
    perceptual: Sequence[Path],
    setting: Setting,
    *,
    painting: Path | None = None,
    clips: Sequence[Path] = (),
    against: str | None = None,
) -> dict[str, Any]:
    """Evaluate candidates on the same photographs and clips; the result is what the JSON holds.

    Args:
        candidates: what is compared.
        content: a folder of photographs.
        perceptual: files of perceptual networks of different kinds.
        setting: sizes and counts.
        painting: what they imitate; without it there are no style figures.
        clips: films for the warping error along optical flow.
        against: the name of the candidate that the others are divided by.

    Raises:
        RequestError: a folder, a painting, a clip or a perceptual network that cannot be used, or
            no candidate of the name `against`.
    """
    names = [candidate.name for candidate in candidates]
    if SOURCE in names:
        raise RequestError(f"a candidate can't be called {SOURCE!r}; rename the file")
    if against is not None and against not in names:
        raise RequestError(f"no candidate {against!r} to compare with; got {', '.join(names)}")
    eyes = [open_eye(path) for path in perceptual]
    if len({eye.name for eye in eyes}) < len(eyes):
        raise RequestError(
            "perceptual networks must be of different kinds, got "
            + ", ".join(
                f"{path.name} ({eye.name})" for path, eye in zip(perceptual, eyes, strict=True)
            )
        )
    whole, itself = _painting(painting, eyes, setting)
    films = read_clips(clips, count=setting.clip_frames, width=setting.clip_width_px)
    photographs = open_photographs(content, _ignore).paths[-setting.count :]
    scenes = [scene_of(shots_of(path, i, setting), eyes) for i, path in enumerate(photographs)]
    found = {SOURCE: evaluate(lambda x: x, scenes, eyes, setting, painting=whole, clips=films)}
    for candidate in candidates:
        found[candidate.name] = evaluate(
            candidate, scenes, eyes, setting, painting=whole, clips=films
        )
        candidate.close()
    return {
        "setting": dataclasses.asdict(setting),
        "photographs": [path.name for path in photographs],
        "clips": [path.name for path in clips],
        "perceptual": [path.name for path in perceptual],
        "painting": {"name": painting.name, **itself} if painting else None,
        "sha256": {candidate.name: candidate.spec.model for candidate in candidates},
        "against": against,
        "summary": {name: summary_of(each, found[SOURCE]) for name, each in found.items()},
        "candidates": {name: dataclasses.asdict(each) for name, each in found.items()},
    }


def summary_of(found: Evaluation, source: Evaluation) -> dict[str, float]:
    """The few figures by which candidates are compared; less is better in all of them."""
    pans, films = found.pans, found.clips.values()
    summary = {f"style loss, {eye}": loss for eye, loss in found.style.items()}
    summary |= {f"content loss, {eye}": loss for eye, loss in found.content.items()}
    summary["pans, warping error"] = _mean(each.mean for each in pans.values())
    summary["pans, over deviation"] = _mean(each.mean for each in found.pans_relative.values())
    if films:
        summary["clips, warping error"] = _mean(each.mse for each in films)
        summary["clips, over deviation"] = _mean(each.relative for each in films)
    summary["tripod, over the source's"] = found.tripod_levels.mean / source.tripod_levels.mean
    return summary


def table_of(report: Mapping[str, Any]) -> str:
    """The report as lines for people: figures downwards, candidates across.

    Where the others are compared with one, their ratio to it stands behind the summary's figures.
    """
    summary, against = report["summary"], report["against"]
    base = summary[against] if against else {}
    short = {
        name: {
            row: f"{value:.4g}" + (f" ({value / base[row]:.2f}x)" if base.get(row) else "")
            for row, value in figures.items()
        }
        for name, figures in summary.items()
    }
    whole = {name: _flat(each) for name, each in report["candidates"].items()}
    if report["painting"]:
        figures = {key: value for key, value in report["painting"].items() if key != "name"}
        whole = {"painting": _flat(figures)} | whole
    return _table(short) + "\n" + _table(whole)


def _table(columns: Mapping[str, Mapping[str, str]]) -> str:
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    width = max(len(row) for row in rows)
    widths = {
        name: max(len(name), *(len(cell) for cell in column.values()))
        for name, column in columns.items()
    }
    lines = [" " * width + "".join(f"  {name:>{widths[name]}}" for name in columns)]
    for row in rows:
        cells = "".join(
            f"  {column.get(row, ''):>{widths[name]}}" for name, column in columns.items()
        )
        lines.append(f"{row:<{width}}{cells}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _flat(figures: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested figures as "group: name" -> text; a spread in one cell, and a colour's RGB."""
    found: dict[str, str] = {}
    for key, value in figures.items():
        name = f"{above}: {key}" if above else key
        match value:
            case {"mean": mean, "least": least, "most": most}:
                found[name] = f"{mean:.3g} ({least:.2g}-{most:.2g})"
            case dict():
                found |= _flat(value, name)
            case float():
                found[name] = f"{value:.4g}"
            case _:
                found[name] = " ".join(f"{x:.0f}" for x in value)
    return found


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every)


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


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m impasto.train.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("candidates", nargs="+", help="styles and files, as above")
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
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="films, for optical flow")
    parser.add_argument("--quality", nargs="*", default=[], help="of named styles: fast best")
    parser.add_argument(
        "--strengths",
        type=_numbers,
        default=[],
        help="such as 0.25,0.5,0.75: each candidate at these too, its pixels mixed with the "
        "source's (@), and a checkpoint's vector with its last one, the identity's (~)",
    )
    parser.add_argument("--against", help="the candidate that the others are divided by")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    texts = {
        "size_px": "side of the square that is painted; a multiple of 8",
        "painting_px": "shorter side of the painting",
        "count": "photographs used, the last of the folder by name",
        "noise_levels": "camera noise, of 255 levels",
        "clip_frames": "frames out of the middle of each clip",
        "clip_width_px": "to which wider clips are reduced",
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
