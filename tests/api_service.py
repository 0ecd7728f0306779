"""A service with its API, for tests: real stores and database in a folder, a clock that is set."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from impasto.service.api import Backend, configure, create_app
from impasto.service.audit import AuditLog
from impasto.service.database import Database, sqlite_url
from impasto.service.limits import Quota
from impasto.service.roles import ROLES
from impasto.service.runs import Runs
from impasto.service.service import Service
from impasto.service.settings import read_settings
from impasto.service.tokens import Tokens
from impasto.settings import Settings
from impasto.stores import open_store

_TLS = ssl.create_default_context()
"""Made once: a client that makes its own reads every certificate of the system."""

MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(200)
"""What a sniffer takes for a video; no decoder would."""


@dataclass
class Clock:
    """Seconds since the epoch, as a test says."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Made:
    """A service that a test has made, with a token for each role: user and role have one name."""

    backend: Backend
    app: FastAPI
    clock: Clock
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> Runs:
        return self.backend.service.runs

    @contextmanager
    def client(self, who: str | None = "submitter", **more: Any) -> Iterator[httpx.Client]:
        """Talks to it as that role does, over a real connection; `more` goes to `configure`."""
        with served(self.app, **more) as url, self.at(url, who) as client:
            yield client

    def at(self, url: str, who: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return httpx.Client(base_url=url, headers=headers, timeout=20, verify=_TLS)


def make_service(folder: Path, *, quota: Quota | None = None, **more: Any) -> Made:
    """A service in `folder` with `in/a.mp4` in its media store; `more` goes to the Backend."""
    clock = Clock()
    media, system = str(folder / "media"), str(folder / "system")
    database = Database(sqlite_url(folder / "service.db"))
    runs = Runs(database, quota, clock=clock)
    core = Settings(user_styles=folder / "styles", system_store=system)
    service = Service(
        settings=read_settings({"media": media, "system": system}),
        core=core,
        database=database,
        runs=runs,
        media=open_store(media),
        system=open_store(system),
    )
    service.media.put("in/a.mp4", MP4)
    backend = Backend(
        service=service,
        tokens=Tokens(database, alone=True, clock_s=clock),
        audit=AuditLog(database, clock_s=clock),
        **more,
    )
    made = Made(backend, create_app(backend), clock)
    for role in ROLES:
        made.tokens[role] = backend.tokens.create(role, role, created_by="test")[1]
    return made


@contextmanager
def served(app: FastAPI, **more: Any) -> Iterator[str]:
    """The app behind a real server on a free port of this machine; yields its URL."""
    config = configure(app, host="127.0.0.1", port=0, **more)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if config.is_ssl else ''}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)
