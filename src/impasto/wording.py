"""Words that messages share: counts, and the name that was meant."""

import difflib
from collections.abc import Iterable


def count(number: int) -> str:
    """Group thousands: "12,345"."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """Count things: "1 frame", "2 frames"."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask for the names that are close to one that nobody knows; "" where there is none."""
    close = difflib.get_close_matches(name.lower(), list(known), n=3)
    return f"did you mean {' or '.join(close)}?" if close else ""
