"""One iteration of a training, as it is told to whoever watches."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One iteration of a training is done."""

    iteration: int
    iterations: int
    """That there will be at most."""
    losses: dict[str, float]
    """By name, and their weighted sum as "total"; on this iteration's crops, without a unit."""
    best: float | None
    """Lowest total on the held-out photographs so far."""
    best_iteration: int | None
    preview: str
    """Path of the picture that shows how far it is."""
