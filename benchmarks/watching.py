"""What watching a prefix costs: seconds and memory of one scan, and how soon a new video is found.

    python benchmarks/watching.py [--objects 100000] [--store URL]

On a folder of this machine, and in memory; or on an empty store of your own, with its credentials
in the environment as for every other command.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from impasto.config import load_settings
from impasto.service.database import Database, sqlite_url
from impasto.service.runs import Runs
from impasto.service.settings import read_settings
from impasto.service.triggers import Triggers, read_triggers
from impasto.stores import Store, open_store

OBJECTS = 100_000
_ROUNDS = 3
_SETTLE_S = 1.0
_PUTS_AT_A_TIME = 8
_VIDEO = bytes(range(1, 189)) * 2
"""Something of which no reader can say that a part is missing."""


def watching(folder: Path, objects: int = OBJECTS) -> dict[str, Any]:
    """Figures for a folder and for memory, by the kind of store."""
    return {
        "folder": scans(open_store(str(folder / "watched")), folder, objects),
        "memory": scans(open_store("memory://watched"), folder, objects),
    }


def scans(media: Store, folder: Path, objects: int = OBJECTS) -> dict[str, Any]:
    """Watch `objects` videos that are known, then one more.

    Args:
        media: an empty store; what is put there stays.
        folder: for the database.
        objects: how many, in folders of a thousand.

    Returns:
        Seconds of the first start, of the usual scan (median, and of processor time), of the one
        that finds the new video;
        how many scans it took until it was a run; megabytes that the watch grew by.
    """
    _fill(media, objects)
    database = Database(sqlite_url(folder / f"watching-{abs(hash(media.url))}.db"))
    runs = Runs(database)
    process = psutil.Process()
    before = process.memory_info().rss
    clock = _Clock()
    table = {
        "watch": [{"prefix": "in", "style": "starry_night"}],
        "triggers": {"skip_existing": True, "unfinished_s": 0.0, "settle_s": _SETTLE_S},
    }
    settings = read_triggers(read_settings(table, media="media", system="system"))
    triggers = Triggers(media, runs, runs.submit, settings, clock=clock)

    def scan() -> float:
        clock.now += 1000.0
        triggers.tick()
        return triggers.scans()["watch in"].seconds

    began = time.perf_counter()
    scan()
    first_s = time.perf_counter() - began
    busy = time.process_time()
    usual = sorted(scan() for _ in range(_ROUNDS))
    busy = time.process_time() - busy
    media.put("in/new.mp4", _VIDEO)
    finding_s, looks = scan(), 1
    clock.now += _SETTLE_S
    triggers.tick()  # what was found is looked at again, by itself
    while not triggers.scans()["watch in"].runs:
        scan()
        looks += 1
    grown = process.memory_info().rss - before
    database.close()
    return {
        "objects": objects,
        "first_start_s": round(first_s, 3),
        "scan_s": round(usual[len(usual) // 2], 3),
        "scan_cpu_s": round(busy / _ROUNDS, 3),
        "finding_scan_s": round(finding_s, 3),
        "scans_until_run": looks,
        "memory_mb": round(grown / 2**20, 1),
    }


class _Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def _fill(media: Store, objects: int) -> None:
    keys = [f"in/{n // 1000:04d}/clip-{n:07d}.mp4" for n in range(objects)]
    if "://" not in media.url:  # files by themselves: a durable put of each would take minutes
        for key in keys:
            path = Path(media.url) / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_VIDEO)
        return
    with ThreadPoolExecutor(_PUTS_AT_A_TIME) as pool:
        list(pool.map(lambda key: media.put(key, _VIDEO), keys))


def main() -> None:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--objects", type=int, default=OBJECTS)
    words.add_argument("--store", metavar="URL", help="an empty one, instead of folder and memory")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="impasto-watching-") as name:
        folder = Path(name)
        if asked.store is None:
            figures = watching(folder, asked.objects)
        else:
            media = open_store(asked.store, load_settings(os.environ).access)
            figures = {media.url: scans(media, folder, asked.objects)}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
