"""A run in a process of its own, which does something to itself at its n-th event.

    python driver.py SOURCE TARGET FOLDER ENGINE WORKERS SIGNAL EVENT

The signal is sent when the event is heard, so the place is the same however fast a machine is. At
event 0 it is sent when the target is published, and before anything is told of it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import networks
from impasto.records import Event, Progress
from impasto.run import score
from impasto.steps import Run
from painting import PLAIN, model_in, settings_in


def main(source: str, target: str, folder: str, engine: str, *numbers: str) -> None:
    workers, signal, place = map(int, numbers)
    seen = count(1)
    if place == 0:
        Run.report = lambda *_: os.kill(os.getpid(), signal)  # type: ignore[assignment]

    def on_event(event: Event) -> None:
        # Progress comes by the clock, everything else in the same places every time.
        if not isinstance(event, Progress) and next(seen) == place:
            os.kill(os.getpid(), signal)

    score(
        source,
        model=model_in(Path(folder), networks.painterly()),
        target=target,
        options=replace(PLAIN, engine=engine, workers=workers, chunk_frames=3),
        settings=settings_in(Path(folder)),
        on_event=on_event,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
