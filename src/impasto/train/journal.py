"""What a training leaves behind for people: losses.jsonl, curves.png, pictures painted so far."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from impasto.media.lettering import draw_text
from impasto.nets.painter import MULTIPLE_OF, Painter
from impasto.train.data import picture_tensor

LOG, CURVES, PREVIEW, SAMPLES = "losses.jsonl", "curves.png", "preview.png", "samples"

_PAPER, _INK, _FAINT = (250, 248, 244), (60, 60, 64), (222, 219, 212)
_TRAINED, _HELD_OUT = (79, 120, 190), (214, 120, 20)
_PANEL_WIDTH, _PANEL_HEIGHT, _MARGIN = 420, 220, 36


@dataclass(frozen=True, slots=True)
class Figures:
    """Losses, as ratios without a unit; averages over crops."""

    style: float
    content: float
    variation: float
    stillness: float


class Journal:
    """The log of one training in one folder, kept up to the iteration of its checkpoint."""

    def __init__(self, folder: Path, iteration: int) -> None:
        self.folder = folder
        self.entries = _entries_before(folder / LOG, iteration)
        """What losses.jsonl holds: one object for each logged iteration."""
        lines = "".join(json.dumps(entry) + "\n" for entry in self.entries)
        write_whole(folder / LOG, lambda partial: partial.write_text(lines, encoding="utf-8"))

    def write(self, entry: dict[str, Any]) -> None:
        """Add an entry."""
        self.entries.append(entry)
        with (self.folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    def draw(self) -> None:
        """Write curves.png anew."""
        picture = Image.fromarray(draw_curves(self.entries))
        write_whole(self.folder / CURVES, lambda partial: picture.save(partial, "PNG"))

    def paint(self, net: Painter, styles: Tensor, scenes: Sequence[Image.Image], name: str) -> None:
        """Write samples/<name>.png and, the same, preview.png: scenes above, styles below."""
        if not scenes:
            return
        picture = Image.fromarray(paint_samples(net, styles, scenes))
        (self.folder / SAMPLES).mkdir(exist_ok=True)
        for path in (self.folder / SAMPLES / f"{name}.png", self.folder / PREVIEW):
            write_whole(path, lambda partial: picture.save(partial, "PNG"))


def paint_samples(net: Painter, styles: Tensor, scenes: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """A table of pictures: a row of scenes, then one row for each style vector (S, K)."""
    device = next(net.parameters()).device
    columns = []
    for scene in scenes:
        frames = picture_tensor(scene).to(device)  # (1, 3, H, W)
        height, width = (side // MULTIPLE_OF * MULTIPLE_OF for side in frames.shape[2:])
        frames = frames[:, :, :height, :width]
        with torch.inference_mode():
            painted = [net(frames, style[None])[0] for style in styles]
        columns.append([_pixels(each) for each in (frames[0], *painted)])
    high = max(column[0].shape[0] for column in columns)
    padded = [
        np.concatenate(
            [
                np.pad(p, ((0, high - p.shape[0]), (0, 0), (0, 0)), constant_values=250)
                for p in column
            ]
        )
        for column in columns
    ]
    return np.concatenate(padded, axis=1)


def _pixels(picture: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) 0..255 -> (H, W, 3)."""
    levels = picture.detach().clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.asarray(levels, np.uint8)


def draw_curves(entries: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """A panel for each loss over the iterations: while training, and on held-out photographs."""
    names = [field.name for field in dataclasses.fields(Figures)]
    width = _MARGIN + 2 * (_PANEL_WIDTH + _MARGIN)
    height = _MARGIN + 2 * (_PANEL_HEIGHT + _MARGIN)
    canvas = Image.new("RGB", (width, height), _PAPER)
    letters: list[tuple[str, int, int]] = []
    for place, name in enumerate(names):
        left = _MARGIN + place % 2 * (_PANEL_WIDTH + _MARGIN)
        top = _MARGIN + place // 2 * (_PANEL_HEIGHT + _MARGIN)
        trained = [(entry["iteration"], entry[name]) for entry in entries]
        held_out = [(e["iteration"], e["held_out"][name]) for e in entries if "held_out" in e]
        low, high = _panel(ImageDraw.Draw(canvas), left, top, trained, held_out)
        letters += [(f"{name}  {low:.3g} – {high:.3g}", left, top - 22)]
    picture = np.array(canvas)
    for text, left, top in letters:
        draw_text(picture, text, left=left, top=top, size_px=10, color=_INK)
    told = f"{entries[-1]['iteration'] if entries else 0} iterations · blue: training · "
    told += "orange: held-out photographs"
    draw_text(picture, told, left=_MARGIN, top=height - 22, size_px=9, color=_INK)
    return picture


Points = list[tuple[int, float]]


def _panel(
    draw: ImageDraw.ImageDraw, left: int, top: int, trained: Points, held_out: Points
) -> tuple[float, float]:
    """Draw two curves into a box; returns the values of its lower and upper edge."""
    box = (left, top, left + _PANEL_WIDTH, top + _PANEL_HEIGHT)
    draw.rectangle(box, outline=_FAINT)
    smooth = _smoothed(trained)
    values = [value for _, value in smooth + held_out if np.isfinite(value)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    last = max([iteration for iteration, _ in trained + held_out], default=1)

    def at(point: tuple[int, float]) -> tuple[float, float]:
        share = (point[1] - low) / (high - low) if high > low else 0.5
        x = left + _PANEL_WIDTH * point[0] / max(1, last)
        return x, top + _PANEL_HEIGHT * (1 - min(1.0, max(0.0, share)))

    for points, colour in ((smooth, _TRAINED), (held_out, _HELD_OUT)):
        placed = [at(point) for point in points if np.isfinite(point[1])]
        if len(placed) > 1:
            draw.line(placed, fill=colour, width=2)
        elif placed:
            x, y = placed[0]
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    return low, high


def _smoothed(points: Points) -> Points:
    """Means of neighbours: a crop says little, and two hundred points are all a panel can show."""
    step = max(1, len(points) // 200, min(10, len(points) // 10))
    parts = [points[start : start + step] for start in range(0, len(points), step)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _entries_before(log: Path, iteration: int) -> list[dict[str, Any]]:
    """The log up to a checkpoint; what was logged after it will be done again."""
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [entry for entry in whole if entry["iteration"] <= iteration]
