"""The options of `stylize --method optimise`."""

from typing import Annotated, Any, Literal

import typer

from impasto.cli.options import PICTURE

PANEL = "With --method optimise"


def _number(flag: str, metavar: str, text: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel=PANEL)


OPTIMISE: dict[str, tuple[Any, Any]] = {
    "method": (Annotated[Literal["network", "optimise"], typer.Option(
        "--method", rich_help_panel=PICTURE,
        help="A trained network, or each frame by optimisation: slow, from any painting.")],
        "network"),
    "steps": (Annotated[int | None, _number(
        "--steps", "N", "Iterations for each frame; default: 40.")], None),
    "style_weight": (Annotated[float | None, _number(
        "--style-weight", "X", "Of the painting's texture; default: 1.")], None),
    "content_weight": (Annotated[float | None, _number(
        "--content-weight", "X", "Of what the frame shows; default: 0.05.")], None),
    "temporal_weight": (Annotated[float | None, _number(
        "--temporal-weight", "X", "Of holding still between frames; default: 20.")], None),
    "painting_size": (Annotated[int | None, _number(
        "--painting-size", "PX", "Longer side that the painting is scaled to: smaller makes finer "
        "strokes; default: the frame's.")], None),
    "perceptual": (Annotated[str | None, _number(
        "--perceptual", "PATH", "The perceptual network; default: VGG-19, fetched once.")], None),
}  # fmt: skip
"""Name in Options → type with its help, default."""
