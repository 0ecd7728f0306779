"""Fixtures that every test may use: media from the tables, made once per session."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hostile_media
import media_maker
import media_table
import servers

_LONG = [f"test_{name}" for name in """
    ray engines service_faults benchmarks conformance resume remote bad_weather hostile ranks
    styles service_poison learning training api_schema rights vectors media_table
""".split()]  # fmt: skip
"""The longest first, so that towards the end there are short ones for every process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(_LONG)))


def pytest_sessionstart() -> None:
    """Hear Ctrl-C, and so do the processes that tests start: a shell's background jobs don't."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`media("cfr_24")` is the path of that case's file, made on first use; never write to it."""
    folder = tmp_path_factory.mktemp("media")

    def path_of(case_name: str) -> Path:
        case = media_table.case_named(case_name)
        path = folder / f"{case.name}{case.suffix}"
        if not path.exists():
            media_maker.make(case, path)
        return path

    return path_of


@pytest.fixture
def hostile(tmp_path: Path) -> Callable[..., Path]:
    """`hostile("bomb")` writes that file for this test; `port=` says where it calls."""

    def path_of(name: str, *, port: int = 9) -> Path:
        return hostile_media.make_hostile(name, tmp_path, port=port)

    return path_of


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips; skips where it is absent."""
    folder = media_table.clips_folder(Path(__file__).resolve().parent.parent)
    if folder is None:
        pytest.skip("no real clips: set IMPASTO_DATA to a folder that holds clips/")
    return folder


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Azurite]:
    """Azure's storage emulator, with two accounts; skips where it is absent."""
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def buckets() -> Iterator[servers.S3]:
    """S3 as moto has it, with IAM enforced."""
    with servers.s3() as server:
        yield server
