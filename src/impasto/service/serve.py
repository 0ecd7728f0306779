"""A service from its start to its stop: what `impasto serve` does."""

import contextlib
import logging
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import platformdirs

from impasto.access import find_access
from impasto.errors import RequestError
from impasto.service.audit import AuditLog
from impasto.service.carrier import Carrier
from impasto.service.database import Database, sqlite_url
from impasto.service.dispatch import Dispatcher
from impasto.service.job import Setup
from impasto.service.jobs import COMMAND, Jobs
from impasto.service.queue import Queue
from impasto.service.runs import Runs
from impasto.service.service import Service
from impasto.service.settings import ServeSettings
from impasto.service.upkeep import Upkeep
from impasto.service.workflow import Workflows
from impasto.settings import Settings
from impasto.stores import open_store
from impasto.stores.backends import local_path, scheme_of

if TYPE_CHECKING:
    import uvicorn

    from impasto.service.api.backend import Node

log = logging.getLogger(__name__)

_STOP_S = 20.0
"""For the runs that are under way, when the service is told to stop."""


def serve(
    settings: ServeSettings,
    core: Settings,
    *,
    config_file: Path | None = None,
    say: Callable[[str], None],
    job_command: Sequence[str] = COMMAND,
) -> None:
    """Serve until SIGTERM or SIGINT; then end the process.

    The process ends here and not in the caller: what is under way must not be taken for ended,
    which returning from its threads would look like.

    Args:
        settings: the table [serve].
        core: the rest of the configuration.
        config_file: where both come from, for the processes of runs.
        say: tells a line to whoever started it.
        job_command: starts the process of a run.

    Raises:
        RequestError: a wrong setting, a store or a port that can't be had.
    """
    _refuse_missing(settings.media)
    told = _hear_signals()
    database = Database(settings.database or sqlite_url(_default_database()))
    with _alone(database) as alone, _listening(settings.host, settings.port) as port:
        service = _open(settings, core, database)
        carrying = _Carrying(service, config_file, job_command) if settings.jobs else None
        parts = _Front(service, carrying, say, alone=alone)
        if carrying is not None:
            carrying.start(alone=alone)
        parts.start(port)
        host, number = port.getsockname()[:2]
        say(f"media in {service.media.url}, all else in {service.system.url}")
        for table in settings.watch:
            say(f"watching {service.media.url}/{table['prefix']}")
        say(f"serving on http{'s' if settings.certificate else ''}://{host}:{number}")
        told.recv(1)
        say("stopping; what is under way goes on at the next start")
        parts.stop()
        if carrying is not None:
            carrying.stop()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _refuse_missing(media: str) -> None:
    """Raise RequestError for a media store that is a folder and is not there.

    To make it would let a typing error serve an empty store, and watch where nothing ever comes.
    """
    if scheme_of(media) not in {"", "file"}:
        return
    folder = local_path(media).expanduser().absolute()
    if not folder.is_dir():
        raise RequestError(
            f"there is no folder {str(folder)!r} for the media store; make it first: "
            f"mkdir -p {shlex.quote(str(folder))}"
        )


def _hear_signals() -> socket.socket:
    """A socket that has something to read once SIGTERM or SIGINT came.

    An event that a handler sets would not do: the system may give the signal to another thread, and
    a main thread that waits without an end then never gets to run the handler.
    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    return heard


def _default_database() -> Path:
    return platformdirs.user_data_path("impasto") / "service.db"


def _open(settings: ServeSettings, core: Settings, database: Database) -> Service:
    return Service(
        settings=settings,
        core=core,
        database=database,
        runs=Runs(database, settings.quota),
        media=open_store(settings.media, core.access),
        system=open_store(settings.system, core.access),
    )


class _Carrying:
    """The half of a service that carries runs out."""

    def __init__(
        self, service: Service, config_file: Path | None, job_command: Sequence[str]
    ) -> None:
        settings = service.settings
        process = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self.queue = Queue(service.runs, process, lost_after_s=settings.lost_after_s)
        self.jobs = Jobs(
            Setup(settings.job, str(config_file.absolute()) if config_file else None),
            keep_warm_s=settings.keep_warm_s,
            wall_s=settings.job.wall_s,
            command=job_command,
        )
        self.carrier = Carrier(service, self.queue, self.jobs)
        workflows = Workflows(
            service.database.url,
            process,
            self.carrier,
            slots=settings.jobs,
            attempts=settings.attempts,
            pause_s=settings.retry_after_s,
        )
        self.dispatcher = Dispatcher(
            self.queue,
            self.jobs,
            workflows,
            slots=settings.jobs,
            lost_after_s=settings.lost_after_s,
            on_lost=_end_at_once,
        )
        self.carrier.on_settled = self.dispatcher.wake
        self.upkeep = Upkeep(service, AuditLog(service.database))

    def start(self, *, alone: bool) -> None:
        self.dispatcher.start(alone=alone)
        self.upkeep.start()

    def stop(self) -> None:
        self.upkeep.stop()
        self.dispatcher.stop()
        self.carrier.stop(within_s=_STOP_S)
        self.queue.leave()

    def nodes(self) -> "Sequence[Node]":
        from impasto.service.api.backend import Node

        held = self.jobs.processes
        if not held:
            return ()
        name, engine, busy = socket.gethostname(), self.carrier.engine, len(self.jobs.running)
        return (Node(name=name, engine=engine, workers=held, busy=busy),)


class _Front:
    """The half that takes requests and looks for videos."""

    def __init__(
        self,
        service: Service,
        carrying: _Carrying | None,
        say: Callable[[str], None],
        *,
        alone: bool,
    ) -> None:
        from impasto.service.api.app import create_app
        from impasto.service.api.backend import Backend
        from impasto.service.api.events import events_router
        from impasto.service.api.server import configure
        from impasto.service.oidc import Oidc, read_oidc
        from impasto.service.tokens import Tokens
        from impasto.service.triggers.loop import Triggers
        from impasto.service.triggers.settings import read_triggers

        settings = service.settings
        self._carrying = carrying
        self._stopping = False
        tokens = Tokens(service.database, alone=alone)
        oidc = read_oidc(settings.oidc) if settings.oidc else None
        others = oidc is not None and "admin" in oidc.roles.values()
        if (token := tokens.first_admin_token(others=others)) is not None:
            say(f"admin token: {token}")
        self._triggers = Triggers(
            service.media, service.runs, service.submit, read_triggers(settings)
        )
        access = find_access(service.media.url, service.core.access)
        account = access.account if access is not None else None
        backend = Backend(
            service=service,
            tokens=tokens,
            audit=AuditLog(service.database),
            oidc=Oidc(oidc) if oidc else None,
            nodes=carrying.nodes if carrying is not None else tuple,
            not_ready=self._not_ready,
            routers=[events_router(self._triggers.arrivals, account=account or "")],
            allowed_hosts=settings.allowed_hosts,
            open_metrics=settings.open_metrics,
        )
        config = configure(
            create_app(backend),
            host=settings.host,
            port=settings.port,
            trusted_proxies=settings.trusted_proxies,
            certificate=settings.certificate,
            key=settings.certificate_key,
        )
        self._server = _server(config)
        self._thread: threading.Thread | None = None

    def _not_ready(self) -> str | None:
        if self._stopping:
            return "the service is stopping"
        return self._carrying.dispatcher.fault if self._carrying is not None else None

    def start(self, port: socket.socket) -> None:
        self._triggers.start()
        # In a thread of its own uvicorn leaves the signals to us.
        self._thread = threading.Thread(
            target=self._server.run, args=([port],), name="impasto-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._server.should_exit = True
        self._triggers.stop()
        if self._thread is not None:
            self._thread.join()


def _server(config: "uvicorn.Config") -> "uvicorn.Server":
    import uvicorn

    return uvicorn.Server(config)


def _end_at_once() -> None:
    """Others have this process's runs: whatever it still did would be done twice."""
    sys.stderr.flush()
    os._exit(1)


@contextlib.contextmanager
def _alone(database: Database) -> Generator[bool]:
    """Whether this process has the database for itself; SQLite's it must have.

    Raises:
        RequestError: another service has it.
    """
    if not database.is_sqlite:
        yield False
        return
    with Path(f"{database.path}.lock").open("w") as lock:
        if not _locked(lock):
            raise RequestError(
                f"another service uses {str(database.path)!r}; several processes need PostgreSQL"
            )
        yield True


def _locked(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        # An answer is written in two pieces. Without this the second waits until the client has
        # acknowledged the first, which most do after 40 ms; asyncio sees to it for its own sockets.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise RequestError(f"can't listen on {host}:{port}: {error.strerror}") from error
    with listener:
        yield listener
