"""A run's log: complete, in one place, bounded, without secrets, and safe to print."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import media_maker
import networks
from crew import FORTY
from impasto.errors import RequestError, RunFailed
from impasto.observe import logs
from impasto.observe.journal import Journal
from impasto.observe.logs import Line
from impasto.observe.redact import redact
from impasto.records import Done, Failed, Noted, Report, StageBegan
from impasto.request import Options
from impasto.run import score
from impasto.stores import Store, open_store
from impasto.story import Story
from painting import PLAIN, model_in, settings_in

_DONE = Done(3, "host/1", "", 2, 0.5, {"decode": 0.1, "score": 0.4}, (0.2, 0.2), "cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


# --- secrets ----------------------------------------------------------------------------------

_KEY = "aB3/" * 21 + "xY=="


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("https://a.blob.core.windows.net/c?sv=2024&sig=s3cr3t%2Bx&se=1", ["sv=2024", "se=1"]),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=s3cr3t&X-Amz-Date=1", ["X-Amz-Date=1"]),
        ("DefaultEndpointsProtocol=https;AccountName=media;AccountKey=s3cr3t==;", ["media"]),
        ("aws_secret_access_key = s3cr3t", ["aws_secret_access_key"]),
        ("AWS_SESSION_TOKEN=s3cr3t x", ["AWS_SESSION_TOKEN", "x"]),
        ("Authorization: Bearer s3cr3t.s3cr3t.s3cr3t", ["Authorization"]),
        ("{'authorization': 'SharedKey media:s3cr3ts3cr3t='}", ["authorization"]),
        ("authorization: AWS4-HMAC-SHA256 Credential=s3cr3t, Signature=s3cr3t", []),
        ('{"client_secret": "s3cr3t", "user": "me"}', ['"user": "me"']),
        ("password=s3cr3t&user=me", ["user=me"]),
        ("http://me:s3cr3t@host/path", ["http://", "host/path"]),
        ("s3://s3cr3t@host/path", ["host/path"]),
        ("got eyJs3cr3t.eyJs3cr3t.s3cr3t back", ["got", "back"]),
        (f"key {_KEY.replace('aB3/', 's3cr3tABC'[:4], 1)}", ["key"]),
        ("AKIAS3CR3TS3CR3TS3CR", []),
        ("-----BEGIN RSA PRIVATE KEY-----\ns3cr3t\n-----END RSA PRIVATE KEY-----\nmore", ["more"]),
        ("-----BEGIN PRIVATE KEY-----\ns3cr3t\ncut", []),
        ("--token s3cr3ts3cr3ts3cr3t", ["--token"]),
    ],
)
def test_what_looks_like_a_secret_is_not_stored(text: str, stays: list[str]) -> None:
    clean = redact(text)
    assert "s3cr3t" not in clean.lower()
    assert "***" in clean
    for part in stays:
        assert part in clean


def test_a_run_that_is_stopped_at_once_says_so_without_a_traceback(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    story = Story(lambda _event: None)
    story.journal.keep_in(store, "aaaa")
    with pytest.raises(KeyboardInterrupt), story.ending():
        raise KeyboardInterrupt
    assert [line.text for line in logs.lines(store, "aaaa")] == [
        "stopped at once; what was done is kept"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "chunk 3 (frames 0 to 99) failed 3 times: no room",
        "the model models/" + "0a" * 32 + ".onnx was damaged",
        "https://host/path?sv=2024&size=720p",
        "score binds; keys: 4, tokens left, a token ring",
        'File "/home/me/impasto/keys.py", line 3, in digest',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_secrets_in_output_errors_and_notes_are_taken_out(store: Store) -> None:
    failed = Failed(0, "host/1", "can't read az://c?sig=s3cr3t")
    logs.keep_attempt(store, "run", failed, "Bearer s3cr3ts3cr3t\n", chunks=1)
    done = replace(_DONE, notes=("password=s3cr3t",))
    logs.keep_attempt(store, "run", done, "", chunks=1)
    journal = Journal()
    journal.hear(Noted("az://c?sig=s3cr3t"))
    journal.keep_in(store, "run")
    parts = [store.get(entry.key) for entry in store.list("runs")]
    assert len(parts) == 3
    assert not any(b"s3cr3t" in part for part in parts)


# --- what is kept -----------------------------------------------------------------------------


def test_attempts_are_numbered_by_chunk_over_all_starts(store: Store) -> None:
    for outcome in (Failed(3, "w", "no"), Failed(3, "w", "lost", lost_worker=True), _DONE):
        logs.keep_attempt(store, "run", outcome, "", chunks=9)
    lines = list(logs.lines(store, "run"))
    assert [(line.chunk, line.attempt, line.text) for line in lines] == [
        (3, 1, "no"), (3, 2, "lost"), (3, 3, "2 frames in 0.50 s"),
    ]  # fmt: skip
    assert [line.level for line in lines] == ["error", "error", "info"]
    assert lines[2].timing is not None
    assert lines[2].timing.frame_s == (0.2, 0.2)
    assert lines[2].timing.stage_s == {"decode": 0.1, "score": 0.4}
    assert {line.run for line in lines} == {"run"}


@pytest.mark.parametrize(("chunks", "room"), [(1, 256 * 1024), (10_000, 6711), (10**7, 2048)])
def test_a_part_is_bounded_and_says_what_was_cut(store: Store, chunks: int, room: int) -> None:
    printed = "".join(f"line {number} {'x' * 3000}\n" for number in range(400))
    logs.keep_attempt(store, "run", Failed(0, "w", "the reason"), printed, chunks=chunks)
    (entry,) = store.list("runs")
    assert entry.bytes < room + 500
    lines = list(logs.lines(store, "run"))
    cut = [line for line in lines if " cut here, " in line.text]
    assert len(cut) == 1
    assert int(cut[0].text.split()[0]) == 401 - (len(lines) - 1)
    assert lines[-1].text == "the reason"
    assert all(len(line.text) < 2100 for line in lines)


def test_a_chunk_that_fails_for_ever_keeps_a_few_attempts(store: Store) -> None:
    for number in range(30):
        logs.keep_attempt(store, "run", Failed(0, "w", f"no {number}"), "", chunks=1)
    lines = list(logs.lines(store, "run"))
    assert len(lines) == 20
    assert {line.text for line in lines} >= {"no 0", "no 29"}


def test_a_driver_that_talks_without_end_is_cut(store: Store) -> None:
    journal = Journal()
    journal.keep_in(store, "run")
    for number in range(5000):
        journal.hear(Noted(f"{number} {'x' * 1500}"))
    journal.end("the end")
    assert sum(entry.bytes for entry in store.list("runs")) < 5 << 20
    *_, cut, last = logs.lines(store, "run")
    assert "lines cut" in cut.text
    assert (last.text, last.stage) == ("the end", "end")


def test_no_name_can_forge_a_line(store: Store) -> None:
    name = 'a\n{"time": "now", "run": "run", "text": "forged"}\u2028\x1b[31m\r\x85\udc80.mp4'
    journal = Journal()
    journal.hear(Noted(name))
    journal.keep_in(store, "run")
    logs.keep_attempt(store, "run", Failed(0, "w", name), "", chunks=1)
    lines = list(logs.lines(store, "run"))
    assert len(lines) == 2
    assert all("forged" in line.text and line.text.startswith("a\n") for line in lines)
    for entry in store.list("runs"):
        data = store.get(entry.key)
        assert data.count(b"\n") == 1
        assert b"\x1b" not in data


def test_a_store_that_fails_costs_a_run_no_line_of_its_driver(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Store, key: str, data: bytes) -> bool:
        raise RunFailed("the store is having a bad day")

    journal = Journal()
    with monkeypatch.context() as bad_day:
        bad_day.setattr(Store, "put_new", failing)
        journal.keep_in(store, "run")
        journal.hear(StageBegan("score"))
    journal.end("well")
    assert [line.text for line in logs.lines(store, "run")] == ["score began", "well"]


# --- reading ----------------------------------------------------------------------------------


def test_a_log_is_read_by_pages(store: Store) -> None:
    for chunk in range(5):
        failed = Failed(chunk, "w", "no")
        logs.keep_attempt(store, "run", failed, "one\ntwo\n", chunks=5)
    whole = list(logs.lines(store, "run"))
    assert [line.chunk for line in whole] == [number // 3 for number in range(15)]
    read: list[Line] = []
    cursor = ""
    while (page := logs.read(store, "run", after=cursor, limit=4))[0]:
        assert len(page[0]) <= 4
        read += page[0]
        cursor = page[1]
    assert read == whole
    assert logs.read(store, "run", after=cursor) == ([], cursor)
    logs.keep_attempt(store, "run", _DONE, "", chunks=5)
    assert [line.text for line in logs.read(store, "run", after=cursor)[0]] == [
        "2 frames in 0.50 s"
    ]


@pytest.mark.parametrize("cursor", ["x", "../../secret", "2026/a/-1", "2026/a/²", "//"])
def test_a_wrong_cursor_is_a_wrong_request(store: Store, cursor: str) -> None:
    with pytest.raises(RequestError, match="no cursor of a log"):
        logs.read(store, "run", after=cursor)


def test_a_run_is_followed_until_it_ends(store: Store) -> None:
    journal = Journal()
    journal.keep_in(store, "run")
    moments: list[Callable[[], None]] = [
        lambda: journal.end("well"),
        lambda: logs.keep_attempt(store, "run", _DONE, "", chunks=5),
        lambda: journal.hear(StageBegan("score")),
    ]
    lines = logs.follow(store, "run", sleep=lambda _: moments.pop()())
    assert [line.text for line in lines] == ["score began", "2 frames in 0.50 s", "well"]


# --- whole runs -------------------------------------------------------------------------------

_PRINTS = """
import ctypes, os, socket, sys, warnings
told, crash = socket.gethostname(), os.environ["CRASH"]
def gethostname():  # called when a worker begins a chunk
    print("said by Python")
    warnings.warn("warned by Python")
    ctypes.CDLL(None).puts(b"said by C")
    os.write(2, b"said on standard error\\n")
    if os.path.exists(crash):
        os.unlink(crash)
        os.write(2, b"last words, sig=s3cr3t\\n")
        os.abort()
    return told
socket.gethostname = gethostname
"""
"""A library that prints, and once ends the process: the interpreter loads it at its start."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "forty.mp4"
    media_maker.make(FORTY, path)
    return path


@pytest.fixture
def printing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers print; the first after this file is written crashes."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_PRINTS)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    crash = tmp_path / "crash"
    monkeypatch.setenv("CRASH", str(crash))
    return crash


def _paint(film: Path, folder: Path, options: Options) -> Report:
    return score(film, model=model_in(folder, networks.painterly()), target=folder / "out.mp4",
                 options=options, settings=settings_in(folder))  # fmt: skip


def _log_of(folder: Path) -> list[Line]:
    store = open_store(str(folder / "store"))
    (run_id,) = {entry.key.split("/")[1] for entry in store.list("runs")}
    return list(logs.lines(store, run_id))


@pytest.mark.skipif(os.name != "posix", reason="output is kept by descriptors as POSIX has them")
@pytest.mark.parametrize("engine", ["local", "mpi"])
def test_everything_that_a_worker_prints_is_in_the_log_of_its_chunk(
    engine: str, film: Path, tmp_path: Path, printing: Path
) -> None:
    _paint(film, tmp_path, replace(PLAIN, engine=engine, workers=2))
    lines = _log_of(tmp_path)
    chunks = {line.chunk for line in lines if line.timing and line.worker}
    assert len(chunks) > 3
    for chunk in chunks:
        printed = [line for line in lines if line.chunk == chunk and line.printed]
        text = "\n".join(line.text for line in printed)
        for words in ("said by Python", "said by C", "said on standard error"):
            assert words in text
        assert {line.attempt for line in printed} == {1}
        assert all(line.worker and line.stage == "score" and line.time for line in printed)
    assert any("warned by Python" in line.text for line in lines)
    assert lines[-1].stage == "end"
    assert {line.stage for line in lines} == {
        "probe", "plan", "score", "stitch", "verify", "end"
    }  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="output is kept by descriptors as POSIX has them")
@pytest.mark.parametrize("engine", ["local", "mpi"])
def test_a_crash_and_its_last_words_are_in_the_log(
    engine: str, film: Path, tmp_path: Path, printing: Path
) -> None:
    printing.touch()
    report = _paint(film, tmp_path, replace(PLAIN, engine=engine, workers=1, restarts=1))
    assert report.chunks.retried == 1
    lines = _log_of(tmp_path)
    first = [line for line in lines if (line.chunk, line.attempt) == (0, 1)]
    assert any(line.text == "last words, sig=***" and line.printed for line in first)
    assert first[-1].level == "error"
    again = [line for line in lines if (line.chunk, line.attempt) == (0, 2)]
    assert again[-1].timing is not None


def test_a_failed_chunk_leaves_its_traceback_and_the_run_its_end(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new = Store.put_new

    def failing(self: Store, key: str, data: bytes) -> bool:
        if key.endswith(".mkv"):
            raise RunFailed("the store is having a bad day")
        return put_new(self, key, data)

    monkeypatch.setattr(Store, "put_new", failing)
    with pytest.raises(RunFailed, match="bad day"):
        _paint(film, tmp_path, PLAIN)
    lines = _log_of(tmp_path)
    assert any("Traceback" in line.text for line in lines)
    assert "bad day" in lines[-1].text
    assert (lines[-1].stage, lines[-1].level) == ("end", "error")


def test_a_run_that_is_made_anew_begins_a_new_log(film: Path, tmp_path: Path) -> None:
    for _ in range(2):
        _paint(film, tmp_path, replace(PLAIN, force=True))
    lines = _log_of(tmp_path)
    assert {line.attempt for line in lines if line.chunk is not None} == {1}
    assert sum(line.stage == "end" for line in lines) == 1
