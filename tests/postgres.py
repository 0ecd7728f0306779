"""A PostgreSQL server of one's own: made in a folder, on a free port of loopback, stopped after."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PLACES = ["/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql"]
_PATIENCE_S = 60.0


def _binaries() -> Path | None:
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    versions = [path for place in _PLACES for path in sorted(Path(place).glob("*/bin/initdb"))]
    return versions[-1].parent if versions else None


def _as_nobody(command: list[str], owner: Path) -> list[str]:
    """The server refuses to run as root, so it is given to whom its folder belongs."""
    if os.geteuid() != 0:
        return command
    for each in (owner.parent, owner):
        shutil.chown(each, "nobody")
    return ["setpriv", "--reuid", "nobody", "--clear-groups", *command]


class Server:
    """A server that can be stopped, as for its own update, and started again."""

    def __init__(self, binaries: Path, data: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"postgresql://impasto@127.0.0.1:{self._port}/postgres"
        self._log = data.parent / "log"
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(self._port), "-k",
                   str(data), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]  # fmt: skip
        self._command = _as_nobody(command, data)
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd="/")
        _wait(self._port, self._process)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # without waiting for who is connected
        self._process.wait()


@contextmanager
def postgres_server() -> Generator[Server]:
    """Yield a server of one's own; skips the test where none is installed."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: install Debian's postgresql")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL refuses root, and there is no setpriv to become somebody else")
    # Not in pytest's folders, which are closed to whoever the server runs as.
    with tempfile.TemporaryDirectory(prefix="impasto-postgres-") as name:
        data = Path(name) / "data"
        data.mkdir()
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "impasto", "--auth=trust", "-N"]
        made = subprocess.run(
            _as_nobody(initdb, data), capture_output=True, text=True, check=False, cwd="/"
        )
        assert made.returncode == 0, made.stderr
        server = Server(binaries, data)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres() -> Generator[str]:
    """Yield the URL of a database that nobody else uses; skips the test where no server is."""
    with postgres_server() as server:
        yield server.url


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="impasto", dbname="postgres").close()
        except psycopg.OperationalError:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
