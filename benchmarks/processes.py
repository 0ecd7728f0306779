"""Run a command and see what it costs: seconds, and the memory of all its processes together."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command answered and cost."""

    answer: Any
    """Its standard output, read as JSON; None where that is empty."""
    wall_s: float
    """From before the process started until it was gone."""
    peak_mb: float
    """Largest sum of the resident sizes of its processes, sampled 20 times a second; pages that
    they share count in each."""


def call(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Run `command` to its end.

    Raises:
        RuntimeError: it failed; its last words are in the message.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(environment or {})},
    ) as process:  # fmt: skip
        done = threading.Event()
        peak: list[float] = [0.0]
        watcher = threading.Thread(target=_watch, args=(process.pid, done, peak))
        watcher.start()
        out, err = process.communicate()
        wall_s = time.perf_counter() - started
        done.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command[1:4]} ended with {process.returncode}: {err[-2000:]}")
    return Finished(json.loads(out) if out.strip() else None, wall_s, round(peak[0], 1))


def _watch(pid: int, done: threading.Event, peak: list[float]) -> None:
    while not done.wait(_EVERY_S):
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peak[0] = max(peak[0], sum(_resident(each) for each in tree) / 1e6)


def _resident(process: psutil.Process) -> int:
    try:
        size: int = process.memory_info().rss
    except psutil.Error:  # it ended meanwhile
        return 0
    return size


def spread(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Median, smallest and largest of some measurements, and all of them."""
    rounded = [round(value, digits) for value in values]
    return {
        "median": round(median(values), digits),
        "min": min(rounded),
        "max": max(rounded),
        "all": rounded,
    }
