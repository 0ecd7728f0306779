"""Full disks, jumping clocks, missing packages: one clear line, nothing lost, the same bytes."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest

import impasto
import media_maker
import networks
import servers
from crew import SOUNDING
from fault_proxy import Faults, fault_proxy
from impasto.cli import main
from impasto.errors import OutOfSpace, RequestError, RunFailed
from impasto.media.still import encode_png
from impasto.records import Done, Event, Report
from impasto.request import Options
from impasto.run import score
from impasto.settings import Settings
from impasto.stores import StoredFile, backends, locate, open_store
from painting import PLAIN, model_in, settings_in

_THREES = replace(PLAIN, chunk_frames=3)
_HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weather") / "forty.mp4"
    media_maker.make(SOUNDING, path)
    return path


@pytest.fixture(scope="module")
def undisturbed(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The target's bytes of a run in good weather."""
    folder = tmp_path_factory.mktemp("fair")
    _paint(film, folder)
    return (folder / "out.mp4").read_bytes()


def _paint(source: Path, folder: Path, *, options: Options = _THREES, **places: Path) -> Report:
    settings = settings_in(folder)
    if "store" in places:
        settings = replace(settings, system_store=str(places["store"]))
    return score(
        source,
        model=model_in(folder, networks.painterly()),
        target=places.get("target", folder / "out.mp4"),
        options=options,
        settings=settings,
    )


# --- a full disk ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system in memory, of a few pages."""

    path: Path

    def grow(self) -> None:
        """Make room."""
        _mount("-o", "remount,size=4m", str(self.path))

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.rglob("*") if path.is_file())


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """`disk_of(8192)` mounts a disk of so many bytes, whole pages, until the end of the test."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(size: int) -> Disk:
        try:
            _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no small disk: this user may not mount one")
        return Disk(folder)

    yield make
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("engine", ["inline", "local"])
@pytest.mark.parametrize("pages", [2, 20])
def test_a_full_system_store_ends_the_run_in_one_line_and_with_room_it_goes_on(
    engine: str,
    pages: int,
    disk_of: Callable[[int], Disk],
    film: Path,
    tmp_path: Path,
    undisturbed: bytes,
) -> None:
    disk = disk_of(pages * 4096)
    options = replace(_THREES, engine=engine, workers=1)
    with pytest.raises(RunFailed, match=r"no space left in .*disk/store for .*make room") as failed:
        _paint(film, tmp_path, options=options, store=disk.path / "store")
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "out.mp4").exists()
    assert all(name.endswith((".json", ".jsonl", ".mkv", ".onnx")) for name in disk.files())
    disk.grow()
    finished = len(list(disk.path.rglob("*.mkv")))
    report = _paint(film, tmp_path, options=options, store=disk.path / "store")
    assert report.chunks.reused == finished
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@pytest.mark.parametrize("pages", [1, 11])
def test_a_target_without_room_leaves_nothing_and_with_room_only_its_stitch_is_made(
    pages: int, disk_of: Callable[[int], Disk], film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    disk = disk_of(pages * 4096)
    target = disk.path / "out.mp4"
    with pytest.raises(OutOfSpace, match=r"no space left in .*disk' for 'out\.mp4'; make room"):
        _paint(film, tmp_path, target=target)
    assert disk.files() == []
    disk.grow()
    report = _paint(film, tmp_path, target=target)
    assert report.chunks.reused == report.chunks.total
    assert target.read_bytes() == undisturbed


def test_a_full_temporary_folder_is_named_and_with_room_the_run_goes_on(
    disk_of: Callable[[int], Disk],
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = disk_of(4096)
    monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
    tried = replace(_THREES, chunk_frames="auto")
    with pytest.raises(OutOfSpace, match=r"no space left in .*disk/impasto-trial"):
        _paint(film, tmp_path, options=tried)
    assert disk.files() == []
    disk.grow()
    assert _paint(film, tmp_path, options=tried).verified
    assert disk.files() == []


# --- a store that has a bad hour --------------------------------------------------------------


@pytest.fixture
def stormy(
    blobs: servers.Azurite, film: Path, tmp_path: Path
) -> Iterator[tuple[Settings, str, Faults]]:
    """Settings whose stores lie behind a proxy, the container's URL, and what goes wrong there."""
    name = f"weather-{tmp_path.name.replace('_', '-')[:40].lower()}"
    owner = blobs.container("media", name)
    open_store(owner.url, [owner]).put("in/film.mp4", film.read_bytes())
    with fault_proxy(blobs.port) as (port, faults):
        access = replace(owner, endpoint=f"http://127.0.0.1:{port}/media")
        settings = replace(settings_in(tmp_path), system_store=f"{owner.url}/work")
        yield replace(settings, access=(access,)), owner.url, faults


def _paint_there(settings: Settings, url: str, folder: Path, options: Options) -> Report:
    return score(
        f"{url}/in/film.mp4",
        model=model_in(folder, networks.painterly()),
        target=f"{url}/out.mp4",
        options=options,
        settings=settings,
    )


@pytest.mark.parametrize("engine", ["inline", "local"])
def test_a_store_that_fails_for_a_while_only_costs_time(
    engine: str,
    stormy: tuple[Settings, str, Faults],
    tmp_path: Path,
    undisturbed: bytes,
) -> None:
    settings, url, faults = stormy
    kinds = ["503", "reset", "lost", "torn", "slow"]
    dice = np.random.default_rng(4)
    faults.plan(str(word) for word in dice.choice([*kinds, "", "", ""], 60))
    options = replace(_THREES, engine=engine, workers=1)
    report = _paint_there(settings, url, tmp_path, options)
    assert set(faults.met) == set(kinds)
    assert report.verified
    assert open_store(url, settings.access).get("out.mp4") == undisturbed


def test_a_target_whose_upload_was_not_answered_is_known_again(
    stormy: tuple[Settings, str, Faults], tmp_path: Path
) -> None:
    settings, url, faults = stormy
    file = tmp_path / "film"
    file.write_bytes(os.urandom(1000))
    target = locate(f"{url}/out.mp4", settings.access)
    assert isinstance(target, StoredFile)
    faults.plan(["lost"])
    target.put(file, force=False)
    assert target.store.get("out.mp4") == file.read_bytes()
    file.write_bytes(os.urandom(1000))
    with pytest.raises(RequestError, match="exists; force overwrites it"):
        target.put(file, force=False)


def test_a_put_on_a_condition_is_made_though_its_connection_breaks(
    stormy: tuple[Settings, str, Faults],
) -> None:
    settings, url, faults = stormy
    store = open_store(url, settings.access)
    faults.plan(["reset"])
    assert store.put_new("driver", b"one")
    faults.plan(["reset"])
    assert not store.put_new("driver", b"another")
    faults.plan(["", "reset"])
    assert store.put_if_match("driver", b"two", store.head("driver").etag)
    assert store.get("driver") == b"two"


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_a_store_that_stays_away_ends_the_run_in_one_line_and_back_again_it_goes_on(
    fault: str,
    stormy: tuple[Settings, str, Faults],
    tmp_path: Path,
    undisturbed: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brief = dict.fromkeys(["init_backoff", "max_backoff"], timedelta(milliseconds=20))
    monkeypatch.setitem(backends._RETRIES, "max_retries", 1)  # so that it is soon over
    monkeypatch.setitem(backends._RETRIES, "backoff", {**brief, "base": 2})
    settings, url, faults = stormy
    dones = 0

    def leave(event: Event) -> None:
        nonlocal dones
        dones += isinstance(event, Done)
        if dones == 4:
            faults.always = fault

    says = r"can't \w+ '.*' in az://.*: (it answers 503|the connection broke)"
    with pytest.raises(RunFailed, match=says) as no:
        score(
            f"{url}/in/film.mp4", model=model_in(tmp_path, networks.painterly()),
            target=f"{url}/out.mp4", options=_THREES, settings=settings, on_event=leave,
        )  # fmt: skip
    assert "\n" not in str(no.value)
    faults.always = ""
    assert not open_store(url, settings.access).exists("out.mp4")
    report = _paint_there(settings, url, tmp_path, _THREES)
    assert report.chunks.reused >= 4
    assert open_store(url, settings.access).get("out.mp4") == undisturbed


# --- a clock that jumps -----------------------------------------------------------------------

_JUMPING = """
import datetime, itertools, time
real = time.time
jumps = itertools.cycle([0, 86_400, -86_400, 3_600])
time.time = lambda: real() + next(jumps)
time.time_ns = lambda: int(time.time() * 1e9)
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Jumping
"""
"""What Python reads as the time of day is a day ahead, then a day behind, in every process."""


def test_a_clock_that_jumps_by_a_day_changes_nothing(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_JUMPING)
    command = [
        sys.executable, "-m", "impasto", "score", str(film),
        "--model", str(model_in(tmp_path, networks.painterly())),
        "-o", str(tmp_path / "out.mp4"), "--work", str(tmp_path / "store"),
        "--engine", "local", "--workers", "2", "--chunk-frames", "3", "--precision", "f32",
    ]  # fmt: skip
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(abs(time.time() - time.time()) > 3000)"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == "True\n"
    found = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


_OF_DAY = {"time.time", "time.time_ns", "datetime.now", "dt.datetime.now", "datetime.datetime.now",
           "datetime.utcnow", "datetime.today", "date.today", "dt.date.today"}  # fmt: skip
_EDGES = ("api.py", "cli", "observe", "service", "train")
"""Where dates are written and ages told; nobody else knows the time of day to wait by."""


def test_nobody_below_the_edges_asks_the_time_of_day() -> None:
    root = Path(impasto.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in _OF_DAY:
                found.add(path.relative_to(root).as_posix())
    assert [name for name in sorted(found) if not name.startswith(_EDGES)] == []


# --- what is not installed --------------------------------------------------------------------

_MISSING = [
    ("mpi4py", ["score", "{film}", "--model", "{model}", "--engine", "mpi"], "mpi"),
    ("ray", ["score", "{film}", "--model", "{model}", "--engine", "ray"], "ray"),
    ("torch", ["stylize", "{film}", "--style", "{picture}", "--method", "optimise"], "optimise"),
    ("torch", ["styles", "train", "p.jpg", "--content", ".", "--name", "x"], "train"),
    ("torch", ["styles", "import", "{checkpoint}", "--name", "x"], "train"),
]
"""Package, a command that needs it, and the extra that brings it."""


@pytest.mark.parametrize(("package", "words", "extra"), _MISSING, ids=lambda one: str(one)[:20])
def test_a_missing_package_is_one_line_that_names_the_extra(
    package: str,
    words: list[str],
    extra: str,
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith("impasto.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(impasto, "train", raising=False)
    picture, checkpoint = tmp_path / "p.png", tmp_path / "x.pth"
    picture.write_bytes(encode_png(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)))
    checkpoint.write_bytes(b"PK")
    files = {"film": film, "model": model_in(tmp_path), "picture": picture,
             "checkpoint": checkpoint}  # fmt: skip
    assert main([word.format(**files) for word in words]) == 2
    told = capsys.readouterr().err
    assert f"needs: pip install 'impasto[{extra}]'" in told
    assert told.count("\n") == 1


def test_every_extra_is_named_where_it_is_missed() -> None:
    extras = set(metadata("impasto").get_all("Provides-Extra") or []) - {"dev"}
    root = Path(impasto.__file__).parent
    told = "".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    assert {extra for extra in extras if f"impasto[{extra}]'" not in told} == set()
