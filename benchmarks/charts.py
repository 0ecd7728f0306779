"""The figures of a simulation: drawn at four times their size and scaled down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from impasto.media.lettering import draw_text, text_width

PAPER, INK, SOFT, EDGE = (246, 245, 242), (38, 40, 46), (128, 130, 136), (222, 220, 215)
COLORS = ((38, 80, 160), (79, 156, 216), (232, 168, 56), (176, 84, 96), (110, 150, 110))
WIDTH, HEIGHT, FINE = 880, 460, 4
LEFT, RIGHT, TOP, BOTTOM = 72, 150, 64, 52


@dataclass(frozen=True, slots=True)
class Axes:
    """Nodes to the right, in logarithmic steps; values upwards, in such steps or even ones."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_y: bool

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        right = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0])
        if self.log_y:
            up = math.log(max(y, self.y[0]) / self.y[0]) / math.log(self.y[1] / self.y[0])
        else:
            up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


class Figure:
    """A picture with axes; shapes first, then letters on top."""

    def __init__(self, title: str, axes: Axes, ticks: Sequence[tuple[float, str]]) -> None:
        self.axes = axes
        self._image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._texts: list[tuple[str, float, float, float, tuple[int, int, int]]] = []
        self._text(title, LEFT, 18, 13, INK)
        self._text("nodes", WIDTH - RIGHT - 34, HEIGHT - 24, 8, SOFT)
        for value, words in ticks:
            x, y = axes.at(axes.x[0], value)
            self._line([(x, y), (WIDTH - RIGHT, y)], EDGE, 1)
            self._text(words, LEFT - 10 - text_width(words, 8), y - 8, 8, SOFT)
        nodes = 1
        while nodes <= axes.x[1]:
            x, y = axes.at(nodes, axes.y[0])
            self._text(f"{nodes:,}", x - text_width(f"{nodes:,}", 8) / 2, y + 6, 8, SOFT)
            nodes *= 10

    def _text(self, words: str, left: float, top: float, size: float,
              color: tuple[int, int, int]) -> None:  # fmt: skip
        self._texts.append((words, left, top, size, color))

    def _line(self, points: Sequence[tuple[float, float]], color: tuple[int, int, int],
              width: float) -> None:  # fmt: skip
        fine = [(x * FINE, y * FINE) for x, y in points]
        self._draw.line(fine, fill=color, width=round(width * FINE), joint="curve")

    def curve(self, points: Sequence[tuple[float, float]], color: tuple[int, int, int],
              width: float = 2.5) -> None:  # fmt: skip
        """Join points of the axes."""
        self._line([self.axes.at(x, y) for x, y in points], color, width)

    def area(self, low: Sequence[tuple[float, float]], high: Sequence[tuple[float, float]],
             color: tuple[int, int, int]) -> None:  # fmt: skip
        """Fill what lies between two curves."""
        outline = [self.axes.at(x, y) for x, y in [*low, *reversed(high)]]
        self._draw.polygon([(x * FINE, y * FINE) for x, y in outline], fill=color)

    def legend(self, names: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
        """Names in their colours, at the right."""
        for place, (name, color) in enumerate(names):
            y = TOP + 8 + 24 * place
            self._line([(WIDTH - RIGHT + 14, y + 8), (WIDTH - RIGHT + 30, y + 8)], color, 5)
            self._text(name, WIDTH - RIGHT + 38, y, 8, INK)

    def save(self, path: Path) -> None:
        """Write a PNG."""
        small = self._image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        drawn = np.array(small)
        for words, left, top, size, color in self._texts:
            draw_text(drawn, words, left=left, top=top, size_px=size, color=color)
        Image.fromarray(drawn).quantize(128).save(path, optimize=True)


def draw_all(scaling: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """Speed-up, waste and cost of the simulated fleets, as three figures."""
    _speed_up(scaling).save(folder / "scaling-speed-up.png")
    _waste(scaling["spot"]).save(folder / "scaling-waste.png")
    _cost(scaling).save(folder / "scaling-cost.png")


def _points(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> Any:
    return [(row["nodes"], value(row)) for row in rows]


def _speed_up(scaling: dict[str, list[dict[str, Any]]]) -> Figure:
    most = scaling["steady"][-1]["nodes"]
    axes = Axes((1, most), (1, 300), log_y=True)
    ticks = [(1, "1×"), (3, "3×"), (10, "10×"), (30, "30×"), (100, "100×"), (300, "300×")]
    figure = Figure("Speed-up of a film of two hours", axes, ticks)
    figure.curve([(1, 1), (min(most, 300), min(most, 300))], EDGE, 2)
    names = [("perfect", EDGE)]
    for (name, rows), color in zip(scaling.items(), COLORS, strict=True):
        figure.curve(_points(rows, lambda row: row["speed_up_scoring"]), color)
        names.append((name, color))
    figure.curve(_points(scaling["steady"], lambda row: row["speed_up"]), INK)
    figure.legend([*names, ("file to proof", INK)])
    return figure


def _waste(rows: list[dict[str, Any]]) -> Figure:
    figure = Figure("What node-seconds go to, on spot nodes",
                    Axes((1, rows[-1]["nodes"]), (0, 1), log_y=False),
                    [(share / 4, f"{25 * share} %") for share in range(5)])  # fmt: skip
    names = ("scoring", "start_up", "lost", "waiting", "driver")
    base = [(row["nodes"], 0.0) for row in rows]
    for name, color in zip(names, COLORS, strict=True):
        above = [(x, y + row["share"][name]) for (x, y), row in zip(base, rows, strict=True)]
        figure.area(base, above, color)
        base = above
    labels = ("scoring", "boot, start", "lost", "waiting", "driver")
    figure.legend(list(zip(labels, COLORS, strict=True)))
    return figure


def _cost(scaling: dict[str, list[dict[str, Any]]]) -> Figure:
    steady, spot = scaling["steady"], scaling["spot"]
    top = max(row["cost"] for row in steady)
    axes = Axes((1, steady[-1]["nodes"]), (0.1, 10 ** math.ceil(math.log10(top))), log_y=True)
    ticks = [
        (10.0**power, f"{10.0**power:g}") for power in range(-1, math.ceil(math.log10(top)) + 1)
    ]
    figure = Figure("Cost of a film of two hours, at 0.40 and 0.08 an hour", axes, ticks)
    figure.curve(_points(steady, lambda row: row["cost"]), COLORS[0])
    figure.curve(_points(spot, lambda row: row["spot_cost"]), COLORS[2])
    figure.legend([("on demand", COLORS[0]), ("spot", COLORS[2])])
    return figure
