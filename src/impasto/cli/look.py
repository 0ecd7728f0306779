"""Colours, glyphs and consoles: one palette for the live display, the summaries and the help."""

import sys
from dataclasses import dataclass
from typing import IO

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.theme import Theme

from impasto.cli.progress import State

NIGHT, SKY, GOLD = (38, 80, 160), (79, 156, 216), (242, 193, 78)
"""The palette of the bar, from its left end to its right one."""

THEME = Theme({
    "name": "bold",
    "style": "bold rgb(242,193,78)",
    "good": "rgb(126,186,112)",
    "bad": "bold rgb(226,96,86)",
    "warn": "rgb(242,193,78)",
    "soft": "grey58",
    "heading": "bold rgb(79,156,216)",
    "key": "rgb(79,156,216)",
    "done": "rgb(79,156,216)",
    "reused": "rgb(70,104,168)",
    "running": "rgb(242,193,78)",
    "waiting": "grey35",
    "failed": "bold rgb(226,96,86)",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Signs that mean the same with and without colour."""

    tick: str
    cross: str
    bang: str
    dot: str
    now: tuple[str, ...]
    """The pictures of a small thing that turns."""
    arrow: str
    full: str
    half: str
    empty: str
    cells: dict[State, str]


RICH = Glyphs(
    tick="✓", cross="✗", bang="!", dot="·", now=("◐", "◓", "◑", "◒"), arrow="→",
    full="━", half="╸", empty="─",
    cells={State.DONE: "█", State.REUSED: "▓", State.RUNNING: "▒", State.WAITING: "░",
           State.FAILED: "✗"},
)  # fmt: skip
PLAIN = Glyphs(
    tick="+", cross="x", bang="!", dot="-", now=("|", "/", "-", "\\"), arrow="->",
    full="=", half="=", empty=".",
    cells={State.DONE: "#", State.REUSED: "=", State.RUNNING: "o", State.WAITING: ".",
           State.FAILED: "x"},
)  # fmt: skip


def glyphs(console: Console) -> Glyphs:
    """The signs that `console` can encode."""
    return PLAIN if console.options.ascii_only else RICH


def gradient(share: float) -> Style:
    """The bar's colour at `share` of its length, 0…1."""
    first, second, part = (NIGHT, SKY, share * 2) if share < 0.5 else (SKY, GOLD, share * 2 - 1)
    mixed = (round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return Style(color=Color.from_rgb(*mixed))


def make_console(stream: IO[str], *, width: int | None = None) -> Console:
    """A console on `stream` that reads no markup, finds no emoji and colours only what we do."""
    return Console(
        file=stream, theme=THEME, markup=False, emoji=False, highlight=False, width=width
    )


def out() -> Console:
    """Standard output, as it stands now."""
    return make_console(sys.stdout)


def err() -> Console:
    """Standard error, as it stands now."""
    return make_console(sys.stderr)
