"""Killed, stopped, short of room: what is done stays done, and nothing half-done is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import media_maker
import networks
from crew import SOUNDING
from impasto import driving
from impasto.errors import ImpastoError, Interrupted, RequestError, RunFailed
from impasto.records import Done, Event, Noted, Planned, Report, StageBegan
from impasto.request import Options
from impasto.run import ignore, score
from impasto.stores import Store
from painting import PLAIN, model_in, paint, settings_in, watch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

_THREES = replace(PLAIN, chunk_frames=3)
_CHUNKS = 14
_EVENTS = 3 + 1 + _CHUNKS + 2
"""Three stages begin, the plan is told, each chunk is done, two more stages begin."""
_HERE = Path(__file__).parent
_CHUNKS_DONE = np.random.default_rng(20).choice(np.arange(5, 5 + _CHUNKS - 1), 2, replace=False)
_POINTS = [1, 2, 3, 4, *sorted(_CHUNKS_DONE), _EVENTS - 2, _EVENTS - 1, _EVENTS]
"""Every stage as it begins, some chunks as they are done, the last one among them."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "forty.mp4"
    media_maker.make(SOUNDING, path)
    return path


@pytest.fixture(scope="module")
def undisturbed(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The target's bytes of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    report = _paint(film, folder)
    assert report.chunks.total == _CHUNKS
    return (folder / "out.mp4").read_bytes()


def _paint(
    source: Path,
    folder: Path,
    *,
    options: Options = _THREES,
    on_event: Callable[[Event], None] = ignore,
    model: bytes | None = None,
    target: str = "out.mp4",
) -> Report:
    return score(
        source,
        model=model_in(folder, model or networks.painterly()),
        target=folder / target,
        options=options,
        settings=settings_in(folder),
        on_event=on_event,
    )


class _Stop(Exception):  # noqa: N818 - a way out, not an error
    pass


def _after(chunks: int) -> Callable[[Event], None]:
    """Break off as soon as that many chunks are done."""
    left = chunks

    def hear(event: Event) -> None:
        nonlocal left
        left -= isinstance(event, Done)
        if left == 0:
            raise _Stop

    return hear


def _when(stage: str, act: Callable[[], Any]) -> Callable[[Event], None]:
    def hear(event: Event) -> None:
        if event == StageBegan(stage):
            act()

    return hear


def _segments(folder: Path) -> list[Path]:
    return sorted((folder / "store").glob("runs/*/segments/*.mkv"))


def _left_over(folder: Path) -> list[Path]:
    """What looks like a target, whole or in part."""
    return [*folder.glob("out.*"), *folder.glob(".*")]


def _driver(film: Path, folder: Path, engine: str, sent: int, place: int) -> subprocess.Popen[str]:
    numbers = ["2" if engine == "local" else "1", str(sent), str(place)]
    command = [sys.executable, str(_HERE / "driver.py"), str(film), str(folder / "out.mp4")]
    return subprocess.Popen(
        [*command, str(folder), engine, *numbers], cwd=folder, stderr=subprocess.PIPE, text=True
    )


def _drive(film: Path, folder: Path, engine: str, sent: int, place: int) -> int:
    """Run the driver, and wait until its workers are gone, too; return its exit status."""
    with _driver(film, folder, engine, sent, place) as driver:
        status = driver.wait()
    orphans = [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(folder)]
    _, alive = psutil.wait_procs(orphans, timeout=60)
    assert alive == []
    return status


@pytest.mark.parametrize(
    ("place", "engine"),
    [(int(place), "local" if i % 2 else "inline") for i, place in enumerate(_POINTS)],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    place: int, engine: str, film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    assert _drive(film, tmp_path, engine, signal.SIGKILL, place) == -signal.SIGKILL
    assert not (tmp_path / "out.mp4").exists()
    finished = len(_segments(tmp_path))
    assert finished >= min(place - 4, _CHUNKS)
    report = _paint(film, tmp_path)
    assert report.chunks.reused == finished
    assert not any("at work" in note for note in report.notes)  # it is known to be dead
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@contextlib.contextmanager
def _halted(film: Path, folder: Path, place: int) -> Generator[subprocess.Popen[str]]:
    """Another driver of the run, which stands still since its n-th event."""
    with _driver(film, folder, "inline", signal.SIGSTOP, place) as driver:
        try:
            os.waitid(os.P_PID, driver.pid, os.WSTOPPED)
            yield driver
        finally:
            driver.send_signal(signal.SIGCONT)


def _continued(driver: subprocess.Popen[str]) -> Callable[[Event], None]:
    """Let a halted driver go on when somebody waits for it."""

    def hear(event: Event) -> None:
        if isinstance(event, Noted) and "is at work on run" in event.text:
            driver.send_signal(signal.SIGCONT)

    return hear


def test_of_two_drivers_one_works_and_the_other_waits_for_it(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    with _halted(film, tmp_path, 4 + 3) as first:
        seen: list[Event] = []
        go_on = _continued(first)

        def hear(event: Event) -> None:
            seen.append(event)
            go_on(event)

        report = _paint(film, tmp_path, target="other.mp4", on_event=hear)
        assert first.wait() == 0
    assert report.chunks.reused == _CHUNKS  # every chunk was scored once
    assert any(f"/{first.pid} is at work on run {report.run_id}" in one for one in report.notes)
    told = [len(event.reused) for event in seen if isinstance(event, Planned)]
    assert told[0] == 3
    assert told[-1] == _CHUNKS
    for name in ("out.mp4", "other.mp4"):
        assert (tmp_path / name).read_bytes() == undisturbed
    assert _segments(tmp_path) == []
    assert list((tmp_path / "store").glob("runs/*/waiting/*")) == []


def test_who_waited_for_its_own_target_says_that_it_is_there(film: Path, tmp_path: Path) -> None:
    with _halted(film, tmp_path, 4 + 3) as first:
        with pytest.raises(RequestError, match=r"out\.mp4' exists"):
            _paint(film, tmp_path, on_event=_continued(first))
        assert first.wait() == 0


def test_a_driver_that_was_silent_for_long_is_replaced_and_harms_nothing(
    film: Path, tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "_SILENT_S", 1.0)
    with _halted(film, tmp_path, 4 + 3) as first:
        report = _paint(film, tmp_path)
        assert report.chunks.reused == 3
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate()
    assert first.returncode != 0
    assert "exists" in said
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


def test_who_waits_for_another_driver_can_be_stopped(film: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Noted) and "is at work on run" in event.text:
            signal.raise_signal(signal.SIGINT)

    with _halted(film, tmp_path, 4 + 3) as first:
        with pytest.raises(Interrupted, match="stopped after the plan was made"):
            _paint(film, tmp_path, target="other.mp4", on_event=stop)
        assert list((tmp_path / "store").glob("runs/*/waiting/*")) == []
        first.send_signal(signal.SIGCONT)
        assert first.wait() == 0


def test_a_run_killed_when_its_target_has_its_name_lost_nothing(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    assert _drive(film, tmp_path, "inline", signal.SIGKILL, 0) == -signal.SIGKILL
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed
    with pytest.raises(RequestError, match="exists"):
        _paint(film, tmp_path)
    report = _paint(film, tmp_path, options=replace(_THREES, force=True))
    assert report.chunks.reused == _CHUNKS
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@pytest.mark.parametrize("engine", ["inline", "local"])
def test_an_interrupt_keeps_what_is_done_and_leaves_with_130(
    engine: str, film: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "impasto", "score", str(film),
        "--model", str(model_in(tmp_path, networks.painterly())),
        "-o", str(tmp_path / "out.mp4"), "--work", str(tmp_path / "store"), "--engine", engine,
        "--chunk-frames", "1", "--size", "512x512", "--precision", "f32", "--json",
    ]  # fmt: skip
    first = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while first.poll() is None and not _segments(tmp_path):
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate()
    assert first.returncode == 130, err
    assert "Traceback" not in err
    assert json.loads(out)["exit_code"] == 130
    assert _left_over(tmp_path) == []
    finished = len(_segments(tmp_path))
    assert 0 < finished < 40
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    report = json.loads(again.stdout)
    assert report["verified"]
    assert report["chunks"]["reused"] == finished
    assert report["chunks"]["total"] == 40


def test_a_finished_run_leaves_no_segments_unless_asked(film: Path, tmp_path: Path) -> None:
    _paint(film, tmp_path)
    assert _segments(tmp_path) == []
    _paint(film, tmp_path, options=replace(_THREES, keep=True, force=True))
    assert len(_segments(tmp_path)) == _CHUNKS
    report = _paint(film, tmp_path, options=replace(_THREES, force=True))
    assert report.chunks.reused == _CHUNKS


@pytest.mark.parametrize(
    "changed",
    [
        {"strength": 0.5},
        {"keep_colors": True},
        {"crf": 30},
        {"codec": "vp9"},
        {"preset": "ultrafast"},
        {"precision": "auto"},
        {"chunk_frames": 4},
        {"size": "32x32"},
        {"start": "0.1"},
        {"end": "1"},
        {"on_error": "pass-through"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_request_reuses_nothing(
    changed: dict[str, Any], film: Path, tmp_path: Path
) -> None:
    with pytest.raises(_Stop):
        _paint(film, tmp_path, on_event=_after(5))
    assert _paint(film, tmp_path, options=replace(_THREES, **changed)).chunks.reused == 0
    assert _paint(film, tmp_path, options=replace(_THREES, force=True)).chunks.reused == 5


def test_another_network_or_source_reuses_nothing(film: Path, tmp_path: Path) -> None:
    with pytest.raises(_Stop):
        _paint(film, tmp_path, on_event=_after(5))
    other = _paint(film, tmp_path, model=networks.invert(), target="other.mp4")
    assert other.chunks.reused == 0
    same_name = tmp_path / film.name
    media_maker.make(replace(SOUNDING, audio=()), same_name)
    assert _paint(same_name, tmp_path, target="third.mp4").chunks.reused == 0


def test_a_copy_under_another_name_reuses_everything(film: Path, tmp_path: Path) -> None:
    with pytest.raises(_Stop):
        _paint(film, tmp_path, on_event=_after(5))
    shutil.copyfile(film, tmp_path / "copy.mp4")
    assert _paint(tmp_path / "copy.mp4", tmp_path).chunks.reused == 5


# --- damage in the store ----------------------------------------------------------------------


def test_a_damaged_segment_is_found_removed_and_scored_again(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    with pytest.raises(_Stop):
        _paint(film, tmp_path, on_event=_after(5))
    spoilt = _segments(tmp_path)[2]
    data = bytearray(spoilt.read_bytes())
    data[len(data) // 2] ^= 0xFF
    spoilt.write_bytes(data)
    assert _paint(film, tmp_path).chunks.reused == 4
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@pytest.mark.parametrize("harm", ["gone", "empty", "torn"])
def test_a_segment_without_a_sound_record_is_scored_again(
    harm: str, film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    with pytest.raises(_Stop):
        _paint(film, tmp_path, on_event=_after(5))
    record = _segments(tmp_path)[2].with_suffix(".json")
    if harm == "gone":
        record.unlink()
    else:
        record.write_bytes(b"" if harm == "empty" else record.read_bytes()[:-9])
    assert _paint(film, tmp_path).chunks.reused == 4
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


def test_a_damaged_plan_is_one_line_that_says_what_to_remove(film: Path, tmp_path: Path) -> None:
    with pytest.raises(_Stop):
        _paint(film, tmp_path, on_event=_after(1))
    (plan,) = (tmp_path / "store").glob("runs/*/plan.json")
    plan.write_bytes(b"{")
    with pytest.raises(RunFailed, match=r"plan\.json .* is damaged .* remove it"):
        _paint(film, tmp_path)


def test_segments_that_another_run_of_the_same_removed_are_scored_again(
    film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    """As happens to the slower of two runs with the same spec and other targets."""
    turns = iter([True])

    def remove() -> None:
        if next(turns, False):
            for path in _segments(tmp_path):
                path.unlink()

    report = _paint(film, tmp_path, on_event=_when("stitch", remove))
    assert report.verified
    assert any("scored again" in note for note in report.notes)
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [
        (None, None, "film.identity.mp4"),
        ("0.5", "1", "film.identity.0.5s-1s.mp4"),
        ("00:00:01", None, "film.identity.1s-end.mp4"),
        (None, "0.333", "film.identity.0s-0.333s.mp4"),
    ],
)
def test_a_part_has_a_name_of_its_own(
    start: str | None, end: str | None, name: str, film: Path, tmp_path: Path
) -> None:
    source = shutil.copyfile(film, tmp_path / "film.mp4")
    report = paint(source, tmp_path, options=replace(PLAIN, start=start, end=end))
    assert report.target == str(tmp_path / name)


# --- faults -----------------------------------------------------------------------------------


def _flaky(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Let that share of the segments' puts fail, the same ones in every run of the test."""
    put_new, dice = Store.put_new, np.random.default_rng(5)

    def failing(self: Store, key: str, data: bytes) -> bool:
        if key.endswith(".mkv") and dice.random() < share:
            raise RunFailed(f"can't write {key!r}: the store is having a bad day")
        return put_new(self, key, data)

    monkeypatch.setattr(Store, "put_new", failing)


def test_a_store_that_fails_now_and_then_costs_a_second_try(
    film: Path, tmp_path: Path, undisturbed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _flaky(monkeypatch, 0.3)
    report = _paint(film, tmp_path)
    assert report.chunks.retried > 0
    assert report.chunks.failed > 0
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


def test_a_store_that_always_fails_ends_the_run_with_its_reason(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _flaky(monkeypatch, 1)
    with pytest.raises(RunFailed, match=r"chunk 0 .* failed 3 times: .*bad day.*the log of run"):
        _paint(film, tmp_path)
    assert _left_over(tmp_path) == []
    logs = list((tmp_path / "store").glob("runs/*/logs/0*.jsonl"))
    assert len(logs) == 2 * _CHUNKS + 1  # the first that fails for good ends it


@pytest.mark.parametrize("stage", ["plan", "score", "stitch", "verify"])
def test_a_source_that_disappears_ends_the_run_in_one_line(
    stage: str, film: Path, tmp_path: Path
) -> None:
    source = tmp_path / "film.mp4"
    shutil.copyfile(film, source)
    with pytest.raises(ImpastoError) as failure:
        _paint(source, tmp_path, on_event=_when(stage, source.unlink))
    assert "\n" not in str(failure.value)
    assert "film.mp4" in str(failure.value)
    assert _left_over(tmp_path) == []


@pytest.mark.parametrize("stage", ["score", "stitch", "verify"])
def test_a_source_that_changes_never_becomes_a_target(
    stage: str, film: Path, tmp_path: Path
) -> None:
    source = tmp_path / "film.mp4"
    shutil.copyfile(film, source)

    def change() -> None:
        media_maker.make(replace(SOUNDING, width=32), source)

    with pytest.raises(ImpastoError):
        _paint(source, tmp_path, on_event=_when(stage, change))
    assert _left_over(tmp_path) == []


@pytest.mark.parametrize("stage", ["score", "stitch", "verify"])
def test_a_target_folder_that_disappears_ends_the_run_in_one_line(
    stage: str, film: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    with pytest.raises(ImpastoError) as failure:
        _paint(
            film,
            tmp_path,
            target="films/out.mp4",
            on_event=_when(stage, lambda: shutil.rmtree(folder)),
        )
    assert "\n" not in str(failure.value)
    assert "out.mp4" in str(failure.value) or ".part" in str(failure.value)


def test_a_target_that_appears_meanwhile_is_not_overwritten(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with pytest.raises(RequestError, match="exists"):
        _paint(film, tmp_path, on_event=_when("verify", lambda: target.write_bytes(b"mine")))
    assert target.read_bytes() == b"mine"
    assert _left_over(tmp_path) == [target]


def test_a_target_is_on_the_disk_before_it_has_its_name(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    _paint(film, tmp_path)
    assert (tmp_path / "out.mp4").stat().st_ino in synced


def test_a_start_that_is_repeated_knows_the_target_that_it_has_published(
    film: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "out.mp4"
    again = replace(_THREES, resumed=True)
    for _ in range(2):
        _paint(film, tmp_path, options=again)
        assert target.read_bytes() == undisturbed
    target.write_bytes(b"somebody else's")
    with pytest.raises(RequestError, match="exists"):
        _paint(film, tmp_path, options=again)
    assert target.read_bytes() == b"somebody else's"
    assert _left_over(tmp_path) == [target]


@pytest.mark.parametrize("room", [3_000, 20_000])
def test_no_room_is_said_in_one_line_and_leaves_nothing(
    room: int, film: Path, tmp_path: Path
) -> None:
    """A limit on the size of a file stands in for a full disk: first the store's, then ours."""
    script = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "sys.argv[0] = 'impasto'\n"
        "runpy.run_module('impasto', run_name='__main__')\n"
    )
    model = model_in(tmp_path)
    command = [
        sys.executable, "-c", script, "score", str(film), "--model", str(model),
        "-o", str(tmp_path / "out.mp4"), "--work", str(tmp_path / "store"), "--engine", "inline",
        "--chunk-frames", "3", "--precision", "f32",
    ]  # fmt: skip
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stderr
    assert "can't write" in found.stderr
    assert "Traceback" not in found.stderr
    assert _left_over(tmp_path) == []


def test_the_numbers_are_there_after_all_this(film: Path, tmp_path: Path) -> None:
    with pytest.raises(_Stop):
        _paint(film, tmp_path, on_event=_after(5), model=networks.identity())
    _paint(film, tmp_path, model=networks.identity())
    assert watch(tmp_path / "out.mp4").numbers == list(range(40))
