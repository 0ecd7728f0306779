"""The service's database: SQLite by default, PostgreSQL by URL, through SQLAlchemy Core.

Whoever keeps something there defines a `Table` on `metadata` in a module of their own and makes it
with `Database.create`; statements are SQLAlchemy's, so that both databases take them.
"""

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar, cast
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from impasto.errors import ImpastoError, RequestError, RunFailed

T = TypeVar("T")

metadata = sa.MetaData()
"""Every table of the service."""

Identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""Type of a primary key that counts up; SQLite counts only in INTEGER."""

_BUSY_TIMEOUT_S = 30.0
_THREADS = 40
"""That the web server answers in, each with a connection: to open one costs more than to use it."""
_PRAGMAS = (
    "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON",
    "cache_size = -512",  # KiB of each connection; the system keeps the file in memory anyway
)  # fmt: skip
_LOCK = 0x1A9A570  # of the advisory locks that PostgreSQL knows, ours


class Database:
    """A pool of connections; every method may be called from any thread.

    Args:
        url: "sqlite:///path" or "postgresql://user@host/name".

    Raises:
        RequestError: another kind of URL, or nothing answers there.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = urlsplit(url).scheme == "sqlite"
        self._writing = threading.Lock()
        self._group = _Group()
        self._engine = _engine(url)
        self._writer = self._engine.execution_options(impasto_begin="BEGIN IMMEDIATE")
        with self._translated(), self._engine.connect():
            pass

    def create(self, *tables: sa.Table) -> None:
        """Make the tables that are not there yet."""
        with self.transaction(lock="schema") as connection:
            metadata.create_all(connection, tables=list(tables), checkfirst=True)

    @contextmanager
    def transaction(self, *, lock: str | None = None) -> Generator[sa.Connection]:
        """Write: everything inside is durable at the end, or nothing of it is.

        Args:
            lock: transactions of the same name come one after the other, in all processes.

        Raises:
            RunFailed: the database does not take it.
        """
        with self._translated():
            if self.is_sqlite:
                # It has one writer at a time anyway, and its own waiting is by polling.
                with self._writing, self._writer.begin() as connection:
                    yield connection
                return
            with self._engine.begin() as connection:
                if lock is not None:
                    connection.execute(
                        sa.select(sa.func.pg_advisory_xact_lock(_LOCK, sa.func.hashtext(lock)))
                    )
                yield connection

    @contextmanager
    def read(self) -> Generator[sa.Connection]:
        """Read one consistent state.

        Raises:
            RunFailed: the database does not give it.
        """
        with self._translated(), self._engine.begin() as connection:
            yield connection

    def grouped(self, work: Callable[[sa.Connection], T], *, lock: str) -> T:
        """Call `work` within a transaction and return its result when that is durable.

        With SQLite all that came while the disk was busy share the next transaction: a write to
        disk takes milliseconds, and a hundred submissions then wait for one instead of a hundred.
        `work` fails alone. With PostgreSQL, which does so itself, it is a `transaction`.

        Raises:
            RunFailed: the database does not take it.
        """
        if not self.is_sqlite:
            with self.transaction(lock=lock) as connection:
                return work(connection)
        return self._group.call(work, self.transaction)

    def insert(self, table: sa.Table) -> PostgresInsert | SqliteInsert:
        """An insert that may say what happens where the row is there already."""
        return insert_sqlite(table) if self.is_sqlite else insert_postgresql(table)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except ImpastoError:
            raise
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            reason = str(cause).strip().partition("\n")[0]
            raise RunFailed(f"the database {self.name} does not answer: {reason}") from error

    @property
    def path(self) -> Path:
        """The file, with SQLite."""
        return Path(self._engine.url.database or "")

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)


class _Group:
    """Calls of several threads in one transaction, made by whichever of them comes first."""

    def __init__(self) -> None:
        self._waiting: list[_Call[Any]] = []
        self._adding = threading.Lock()
        self._turn = threading.Lock()

    def call(
        self,
        work: Callable[[sa.Connection], T],
        transaction: Callable[[], AbstractContextManager[sa.Connection]],
    ) -> T:
        call = _Call(work)
        with self._adding:
            self._waiting.append(call)
        with self._turn:
            if not call.ended:  # nobody has taken it along
                with self._adding:
                    calls, self._waiting = self._waiting, []
                self._make(calls, transaction)
        return call.result()

    def _make(
        self, calls: "list[_Call[Any]]", transaction: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        try:
            with transaction() as connection:
                for call in calls:
                    call.make(connection)
        except BaseException as error:
            for call in calls:
                call.error = call.error or error
            raise
        finally:
            for call in calls:
                call.ended = True


class _Call(Generic[T]):
    """One call of a group's."""

    def __init__(self, work: Callable[[sa.Connection], T]) -> None:
        self.ended = False
        self.error: BaseException | None = None
        self._work = work
        self._result: T | None = None

    def make(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute("SAVEPOINT call")  # SQLAlchemy's takes longer than many a work
        try:
            self._result = self._work(connection)
        except ImpastoError as error:  # its own; whatever else goes wrong is everybody's
            self.error = error
            driver.execute("ROLLBACK TO call")
        driver.execute("RELEASE call")

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self._result)


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone may read, unless it is there; SQLite fills it.

    Raises:
        RequestError: it can't be made.
    """
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise RequestError(f"can't make the database {str(path)!r}: {error.strerror}") from error


def sqlite_url(path: Path) -> str:
    """URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def sqlite_path(url: str) -> Path:
    """The file that a URL of SQLite names, as a whole path."""
    return Path(unquote(urlsplit(url).path.removeprefix("/"))).expanduser().absolute()


def _engine(url: str) -> sa.Engine:
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return _sqlite(url)
    if scheme not in {"postgresql", "postgresql+psycopg"}:
        raise RequestError(
            "--database must be sqlite:///PATH or postgresql://USER@HOST/NAME, got "
            + (f"{scheme}://…" if scheme else repr(url))
        )
    _, _, rest = url.partition("://")
    return sa.create_engine(f"postgresql+psycopg://{rest}", pool_size=8, pool_pre_ping=True)


def _sqlite(url: str) -> sa.Engine:
    path = sqlite_path(url)
    make_private(path)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
        pool_size=_THREADS,
        pool_use_lifo=True,  # a few stay in use: each connection has a cache of its own to fill
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, for it says which kind
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(connection.get_execution_options().get("impasto_begin", "BEGIN"))

    return engine
