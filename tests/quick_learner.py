"""`impasto`, whose service learns a painting in a few iterations instead of minutes.

As a run's process it is what `impasto.service.job` is, but for that.
"""

from __future__ import annotations

import dataclasses
import sys

_JOB = "a run's process"


def learn_quickly() -> None:
    from impasto.train import learn

    learn.LEARNING = dataclasses.replace(learn.LEARNING, iterations=4, crop_px=64, check_every=2)
    learn._FRAMES = 4


def main() -> None:
    if sys.argv[1:] == [_JOB]:
        from impasto.service import job

        learn_quickly()
        job.main()
    else:
        from impasto.service import jobs

        # Before the service takes it from there; -u does nothing more here.
        jobs.COMMAND = (sys.executable, "-u", __file__, _JOB)
        from impasto.cli import main as run

        sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
