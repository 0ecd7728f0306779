"""A media store with its runs book and triggers, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from impasto.service.database import Database, sqlite_url
from impasto.service.limits import Quota
from impasto.service.records import ServiceRun
from impasto.service.runs import Runs
from impasto.service.settings import read_settings
from impasto.service.triggers import Triggers, TriggerSettings, read_triggers
from impasto.stores import Store, open_store

START_S = 1_700_000_000.0
TS = b"G" * 376
"""What can't be told to be unfinished: two empty packets of MPEG-TS."""


def settings(**table: Any) -> TriggerSettings:
    """The triggers in a table [serve]."""
    return read_triggers(read_settings(table, media="media", system="system"))


IN = settings(watch=[{"prefix": "in", "style": "starry_night"}])
"""As `--watch in --style starry_night` says it."""


class Site:
    """What a service with triggers stands on, in a folder; nothing carries its runs out."""

    def __init__(self, folder: Path, media: Store | None = None, quota: Quota | None = None):
        self.media = media or open_store(str(folder / "media"))
        self.now = START_S
        self.database = Database(sqlite_url(folder / "service.db"))
        self.runs = Runs(self.database, quota, clock=self.clock)

    def clock(self) -> float:
        return self.now

    def triggers(self, settings: TriggerSettings = IN) -> Triggers:
        """What a process of the service starts with."""
        return Triggers(self.media, self.runs, self.runs.submit, settings, clock=self.clock)

    def settle(self, triggers: Triggers, ticks: int = 3) -> None:
        """Let time pass, and every watch look a few times."""
        for _ in range(ticks):
            triggers.tick()
            self.now += 6.0

    def put(self, *keys: str, data: bytes = TS) -> None:
        for key in keys:
            self.media.put(key, data)

    def all_runs(self) -> list[ServiceRun]:
        """The earliest first."""
        return list(reversed(self.runs.page(limit=500).runs))

    def sources(self) -> list[str]:
        return sorted(run.source for run in self.all_runs())

    def only_run(self) -> ServiceRun:
        (run,) = self.all_runs()
        return run


SiteMaker = Callable[..., Site]
