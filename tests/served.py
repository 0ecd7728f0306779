"""`impasto serve` as a process that a test starts, talks to, kills and starts again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

import media_maker
import networks
from crew import SOUNDING
from impasto.access import Access

PLAIN = {"precision": "f32", "chunk_frames": 5}
"""Options with which a film of forty frames is eight chunks."""
PATIENCE_S = 180.0
"""For anything; a test that waits so long has failed."""


def wait_for(what: Callable[[], Any], *, every_s: float = 0.2) -> Any:
    """What `what` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(every_s)
    raise AssertionError(f"nothing came of {what} in {PATIENCE_S} s")


@dataclass
class Served:
    """A service in a folder, started and stopped at will.

    The media store holds in/a.mp4, a film of forty frames, and net.onnx, a network.
    """

    folder: Path
    database: str | None = None
    config: str = ""
    arguments: Sequence[str] = ()
    program: Sequence[str] = ("-m", "impasto")
    stores: tuple[str, str] | None = None
    """URLs of media and system, where they are not the folders."""
    environ: dict[str, str] = field(default_factory=dict)
    token: str = ""
    name: str = "service"
    _url: str = ""
    _process: subprocess.Popen[str] | None = None
    _ear: threading.Thread | None = None
    _up: threading.Event = field(default_factory=threading.Event)
    _lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.media.joinpath("in").mkdir(parents=True, exist_ok=True)
        if not (film := self.media / "in/a.mp4").exists():
            media_maker.make(SOUNDING, film)
            (self.media / "net.onnx").write_bytes(networks.painterly())

    @property
    def media(self) -> Path:
        return self.folder / "media"

    def start(self) -> Served:
        """Start it, and wait until it serves."""
        file = self.folder / f"{self.name}.toml"
        file.write_text(f"[serve]\nretry_after_s = 0.1\n{self.config}", encoding="utf-8")
        media, system = self.stores or (str(self.media), str(self.folder / "system"))
        self._process = subprocess.Popen(
            [
                sys.executable, *self.program, "serve", "--port", "0", "--config", str(file),
                "--media", media, "--system", system,
                "--database", self.database or f"sqlite:///{self.folder / 'service.db'}",
                *self.arguments,
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environ},
        )  # fmt: skip
        self._up.clear()
        self._ear = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._ear.start()
        assert self._up.wait(PATIENCE_S)
        if self._process.poll() is not None:
            raise AssertionError(f"it does not start: {self.said}")
        return self

    def _listen(self, stderr: IO[str]) -> None:
        """Hear it to its end, for whoever is not heard stands still at a full pipe."""
        for line in stderr:
            self._lines.append(line)
            if found := re.match("admin token: (.+)", line):
                self.token = found[1]
            if found := re.match("serving on (.+)", line):
                self._url = found[1]
                self._up.set()
        if self._process is not None:
            self._process.wait()
        self._up.set()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in good order; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        assert self._ear is not None
        assert process.stderr is not None
        code = process.wait(PATIENCE_S)
        self._ear.join()
        process.stderr.close()
        return code

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has said on standard error."""
        return "".join(self._lines)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Talk to it as the administrator."""
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return httpx.request(
            method, f"{self._url}{path}", headers=headers, timeout=PATIENCE_S, **more
        )

    def submit(self, target: str | None = None, **more: Any) -> str:
        """Submit a run of the film; its id."""
        body = {"source": "in/a.mp4", "model": "net.onnx", "options": PLAIN, **more}
        answer = self.ask(
            "POST", "/v1/runs", json=body if target is None else body | {"target": target}
        )
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["run_id"]
        return run_id

    def run(self, run_id: str) -> dict[str, Any]:
        """One run."""
        found: dict[str, Any] = self.ask("GET", f"/v1/runs/{run_id}").json()
        return found

    def ended(self, run_id: str) -> dict[str, Any]:
        """One run, once it has ended."""

        def look() -> dict[str, Any] | None:
            run = self.run(run_id)
            return None if run["state"] in {"queued", "running"} else run

        found: dict[str, Any] = wait_for(look)
        return found


def in_accounts(folder: Path, media: Access, system: Access, *, config: str) -> Served:
    """A service whose two stores lie in two accounts."""
    stores = "".join(
        f'[stores."{access.url}"]\naccount = "{access.account}"\n'
        f'endpoint = "{access.endpoint}"\nkey_env = "{access.account}_KEY"\n'
        for access in (media, system)
    )
    return Served(
        folder,
        config=config + stores,
        stores=(media.url, system.url),
        environ={f"{access.account}_KEY": access.key or "" for access in (media, system)},
    )
