"""The command line with --server, against a real service whose runs end as a test says."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api_service import MP4, Made, make_service, served
from cli_fakes import a_report
from impasto.cli import main
from impasto.client import Server
from impasto.config import load_token
from impasto.errors import RequestError, RunFailed
from impasto.observe.logs import Line, encode, now
from impasto.service.limits import Quota
from impasto.service.runs import change, record
from impasto.surroundings import SECRETS

Captured = pytest.CaptureFixture[str]
PAINTED = b"painted" * 1000


@dataclass
class Painter:
    """Carries out what is queued, as the service's own processes would; or lets it fail."""

    made: Made
    ends: str = "succeeded"
    error: str | None = None
    started: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        while not self.stop.wait(0.05):
            for run in self.made.runs.page(state="queued").runs:
                self.started.append(run.run_id)
                self.paint(run.run_id, run.source)

    def paint(self, run_id: str, source: str) -> None:
        stem, _, suffix = source.rpartition(".")
        target = f"{stem}.starry_night.{suffix}"
        report = msgspec.to_builtins(a_report(target=target, run_id="plan"))
        self.made.backend.service.media.put(target, PAINTED)
        plan = {"frames": 100, "chunks": 3, "reused": 1, "engine": "local", "workers": 2,
                "precision": "bf16"}  # fmt: skip
        for kind, data in (
            ("state", {"state": "running"}),
            ("stage", {"name": "score"}),
            ("progress", {"frames_done": 5, "frames_total": 100}),  # before there is a plan
            ("plan", plan),
            ("progress", {"frames_done": 50, "frames_total": 100}),
            ("chunk_failed", {"chunk": 1, "worker": "w", "error": "it hiccuped"}),
            ("note", {"text": "a note\x1b[2J"}),
            ("chunk", {"chunk": 1, "stage_s": {"score": 1.0}}),
            ("chunk", {"chunk": 7, "stage_s": {}}),  # of a version that cuts in another way
            ("a later invention", {"x": 1}),
        ):
            self.tell(run_id, kind, data)
        told = {"state": self.ends} | ({"error": self.error} if self.error else {})
        columns = {"report": report} if self.ends == "succeeded" else {"error": self.error}
        self.tell(run_id, "state", told, state=self.ends, **columns)

    def tell(self, run_id: str, kind: str, data: dict[str, Any], **columns: Any) -> None:
        with self.made.runs.database.transaction() as connection:
            if columns:
                change(connection, run_id, **columns)
            record(connection, run_id, time.time(), kind, data)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_service(tmp_path / "service", quota=Quota(upload_bytes=100_000))


@pytest.fixture
def painter(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Painter]:
    """A service that IMPASTO_SERVER names, with a painter at work; clip.mp4 in the folder."""
    for name in [name for name in os.environ if name.startswith(("IMPASTO_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(MP4)
    painter = Painter(made)
    worker = threading.Thread(target=painter.work)
    with served(made.app) as url:
        monkeypatch.setenv("IMPASTO_SERVER", url)
        monkeypatch.setenv("IMPASTO_TOKEN", made.tokens["submitter"])
        worker.start()
        yield painter
        painter.stop.set()
        worker.join()


STYLIZE = ["stylize", "clip.mp4", "--style", "starry_night"]


def test_a_local_video_goes_there_and_its_painting_comes_back_beside_it(
    painter: Painter, capsys: Captured
) -> None:
    assert main([*STYLIZE, "--json"]) == 0
    assert Path("clip.starry_night.mp4").read_bytes() == PAINTED
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["target"] == "clip.starry_night.mp4"
    assert report["source"] == "clip.mp4"
    assert report["run_id"] == painter.started[0]
    assert "a note\\x1b[2J" in said.err
    assert "it hiccuped" in said.err
    assert list(Path().glob(".impasto-*")) == []


def test_the_same_command_again_fetches_and_paints_nothing(
    painter: Painter, capsys: Captured
) -> None:
    assert main(STYLIZE) == 0
    assert main(STYLIZE) == 2  # the target is there; nothing was sent
    assert "exists; --force overwrites it" in capsys.readouterr().err
    Path("clip.starry_night.mp4").unlink()
    assert main(STYLIZE) == 0
    assert len(painter.started) == 1
    assert main([*STYLIZE, "--force"]) == 0  # asked for anew
    assert len(painter.started) == 2
    assert main([*STYLIZE, "--strength", "0.5", "-o", "half.mp4"]) == 0
    assert len(painter.started) == 3


def test_a_run_that_ended_badly_goes_on_with_the_same_command(painter: Painter) -> None:
    painter.ends, painter.error = "set_aside", "the worker died 3 times"
    assert main(STYLIZE) == 1
    painter.ends, painter.error = "succeeded", None
    assert main(STYLIZE) == 0
    assert len(set(painter.started)) == 1


def test_a_path_in_the_media_store_stays_there_unless_it_is_wanted_here(
    painter: Painter, capsys: Captured
) -> None:
    painted = ["stylize", "in/a.mp4", "--style", "starry_night"]
    assert main([*painted, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "in/a.starry_night.mp4"
    assert not Path("in").exists()
    assert main([*painted, "-o", "here.mp4"]) == 0
    assert Path("here.mp4").read_bytes() == PAINTED
    assert len(painter.started) == 2


def test_options_go_along_and_those_of_this_machine_are_refused(
    painter: Painter, made: Made, capsys: Captured
) -> None:
    given = ["--strength", "0.5", "--size", "720p", "--keep-colors", "--end", "1"]
    assert main([*STYLIZE, *given, "--blend", "a:1"]) == 2
    assert main([*STYLIZE, *given]) == 0
    options = made.runs.get(painter.started[0]).options
    assert options == {"strength": 0.5, "size": "720p", "keep_colors": True, "end": "1"}
    capsys.readouterr()
    assert main([*STYLIZE, "--workers", "3", "--force"]) == 2
    assert "unknown field 'workers'" in capsys.readouterr().err


@pytest.mark.parametrize(("ends", "code"), [("failed", 2), ("set_aside", 1), ("cancelled", 1)])
def test_a_run_that_does_not_succeed_is_one_line_and_leaves_nothing(
    painter: Painter, capsys: Captured, ends: str, code: int
) -> None:
    painter.ends = ends
    painter.error = None if ends == "cancelled" else "it is no video\x1b[2J"
    assert main([*STYLIZE, "--quiet"]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert (painter.error or "cancelled").partition("\x1b")[0] in said
    assert "\x1b" not in said
    assert not Path("clip.starry_night.mp4").exists()


def test_a_painting_of_this_machine_goes_along(painter: Painter, made: Made) -> None:
    Path("wave.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    assert main(["stylize", "clip.mp4", "--style", "wave.jpg"]) == 0
    style = made.runs.get(painter.started[0]).style
    assert isinstance(style, str)
    assert made.backend.service.media.get(style).startswith(b"\xff\xd8\xff")


def test_ctrl_c_leaves_the_run_to_the_service(
    painter: Painter, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[None]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Server, "follow", interrupted)
    assert main(STYLIZE) == 130
    said = capsys.readouterr().err
    assert "goes on at" in said
    assert "impasto runs cancel" in said


def test_what_the_service_refuses_is_one_line_that_says_so(
    painter: Painter, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(arguments: list[str], code: int, *said: str) -> None:
        assert main(arguments) == code
        line = capsys.readouterr().err.splitlines()[-1]
        assert all(part in line for part in said), line

    fails(["stylize", "nope.mp4", "--style", "starry_night"], 2, "422", "there is no 'nope.mp4'")
    fails(["stylize", "clip.mp4", "--style", "nope"], 2, "no style 'nope'")
    Path("clip.mp4").write_bytes(MP4 + bytes(100_000))
    fails(STYLIZE, 2, "413", "limit of 100000 bytes")
    Path("clip.mp4").write_bytes(b"#!/bin/sh")
    fails(STYLIZE, 2, "415", "no video or picture")
    fails(["runs", "show", "f" * 19], 2, "404", "there is no run")
    fails(["runs", "show", "no such"], 2, "no run 'no such'")
    monkeypatch.setenv("IMPASTO_TOKEN", "impasto_junk")
    fails(["runs", "list"], 2, "401", "a valid token is needed")
    monkeypatch.setenv("IMPASTO_TOKEN", "two words")
    fails(["runs", "list"], 2, "token")
    monkeypatch.delenv("IMPASTO_TOKEN")
    fails(["runs", "list"], 2, "IMPASTO_TOKEN")
    monkeypatch.setenv("IMPASTO_TOKEN", "x")
    fails(["runs", "list", "--server", "http://127.0.0.1:9"], 1, "can't reach")
    fails(["runs", "list", "--server", "http://paint.example"], 2, "in the clear")
    fails(["runs", "list", "--server", "ftp://paint.example"], 2, "https://host")
    fails(["runs", "list", "--server", "https://me:pw@paint.example"], 2, "https://host")


def test_runs_are_listed_shown_and_cancelled_there(
    painter: Painter, made: Made, capsys: Captured
) -> None:
    assert main(STYLIZE) == 0
    run_id = painter.started[0]
    painter.stop.set()  # what is queued now stays so
    with Server(os.environ["IMPASTO_SERVER"], made.tokens["submitter"]) as server:
        waiting = server.submit({"source": "in/a.mp4", "style": "starry_night"})
    capsys.readouterr()
    assert main(["runs", "list"]) == 0
    listed = capsys.readouterr().out
    assert "succeeded" in listed
    assert "queued" in listed
    assert main(["runs", "list", "--json"]) == 0
    assert [run["run_id"] for run in json.loads(capsys.readouterr().out)["runs"]] == [
        waiting, run_id
    ]  # fmt: skip
    assert main(["runs", "show", run_id[:-1]]) == 0
    assert "in/a.mp4" not in (shown := capsys.readouterr().out)
    assert "uploads/submitter" in shown
    assert main(["runs", "show", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "succeeded"
    assert main(["runs", "cancel", waiting]) == 0
    assert made.runs.get(waiting).state == "cancelled"
    assert main(["runs", "cancel", waiting]) == 2
    assert main(["runs", "logs", waiting]) == 0
    assert f"no logs; impasto runs show {waiting} says what" in capsys.readouterr().out
    assert main(["runs", "show", waiting]) == 0
    assert "0 of 0" not in capsys.readouterr().out  # nobody has counted its frames
    assert main(["runs", "cancel", waiting, "--server", "none"]) == 2
    assert main(["runs", "resume", waiting[:-1]]) == 0
    assert made.runs.get(waiting).state == "queued"
    assert main(["runs", "resume", run_id]) == 2
    assert main(["runs", "list", "--server", "none"]) == 0
    assert "no runs are kept" in capsys.readouterr().out


def test_a_run_that_is_being_cancelled_says_so_until_it_has_stopped(
    painter: Painter, made: Made, capsys: Captured
) -> None:
    painter.stop.set()
    with Server(os.environ["IMPASTO_SERVER"], made.tokens["submitter"]) as server:
        run_id = server.submit({"source": "in/a.mp4", "style": "starry_night"})
        with made.runs.database.transaction() as connection:
            change(connection, run_id, state="running", owner="a process")
        assert main(["runs", "cancel", run_id]) == 0
        assert server.run(run_id)["state"] == "running"
        assert server.run(run_id)["cancelling"]
        assert "is being cancelled" in capsys.readouterr().out
        for command in (["show", run_id], ["list"]):
            assert main(["runs", *command]) == 0
            assert "cancelling" in capsys.readouterr().out
        with made.runs.database.transaction() as connection:
            change(connection, run_id, state="cancelled", owner=None, cancelling=False)
        assert main(["runs", "show", run_id]) == 0
        assert "cancelling" not in capsys.readouterr().out


def test_logs_are_read_and_followed_from_there_and_steer_no_terminal(
    painter: Painter, made: Made, capsys: Captured
) -> None:
    assert main(STYLIZE) == 0
    said = [encode(Line(time=now(), run="r", text=text)) for text in ("one", "two\x1b[2J")]
    key = f"runs/{painter.started[0]}/logs/job-1-1.jsonl"
    made.backend.service.system.put(key, b"".join(said))
    for more in ([], ["--follow"]):
        capsys.readouterr()
        assert main(["runs", "logs", painter.started[0], *more]) == 0
        printed = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
        assert printed == ["one", "two\\x1b[2J"]
    assert main(["runs", "logs", painter.started[0], "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["logs"]) == 2


def test_a_log_is_followed_while_it_grows(flaky: Any) -> None:
    there, server, slept = flaky(
        says(200, {"lines": [{"text": "one"}], "next": "run/a"}),
        says(200, {"lines": [], "next": "run/a"}),
        says(200, {"lines": [{"text": "two"}], "next": None}),
    )
    assert [line["text"] for line in server.logs("abc", follow=True)] == ["one", "two"]
    assert slept == [2.0]
    assert [path.partition("?")[2] for _, path, _ in there.seen] == ["", *["after=run%2Fa"] * 2]


def test_a_token_comes_from_the_environment_or_a_file_and_reaches_no_worker(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    file.write_text("impasto_abc\n")
    config = tmp_path / "config.toml"
    config.write_text('token_file = "token"\n')
    named = {"IMPASTO_CONFIG": str(config)}
    assert load_token(named) == "impasto_abc"
    assert load_token({"IMPASTO_TOKEN_FILE": str(file)}, config) == "impasto_abc"
    assert load_token(named | {"IMPASTO_TOKEN": "other"}) == "other"
    file.unlink()
    with pytest.raises(RequestError, match="can't read the token"):
        load_token(named)
    assert "IMPASTO_TOKEN" in SECRETS


class Flaky:
    """A server that answers as a list says, one answer for each request."""

    def __init__(self, *answers: Callable[[http.server.BaseHTTPRequestHandler], None]) -> None:
        self.left = list(answers)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        flaky = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                self.rfile.read(length)
                flaky.seen.append((self.command, self.path, dict(self.headers)))
                flaky.left.pop(0)(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def says(status: int, body: object, **headers: str) -> Callable[..., None]:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def breaks_off(text: str) -> Callable[..., None]:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        request.wfile.write(text.encode())
        request.close_connection = True

    return answer


@pytest.fixture
def flaky() -> Iterator[Callable[..., tuple[Flaky, Server, list[float]]]]:
    opened: list[Any] = []

    def make(*answers: Callable[..., None]) -> tuple[Flaky, Server, list[float]]:
        slept: list[float] = []
        there = Flaky(*answers)
        server = Server(there.url, "token", sleep=slept.append)
        opened.append(there)
        return there, server.__enter__(), slept

    yield make
    for there in opened:
        there.close()


def test_a_server_that_asks_for_patience_gets_it(flaky: Any) -> None:
    accepted = {"run_id": "abc", "state": "queued"}
    there, server, slept = flaky(
        says(429, {}, Retry_After="7"), says(503, {}, Retry_After="soon"), says(202, accepted)
    )
    assert server.submit({"source": "in/a.mp4"}) == "abc"
    assert slept == [7.0, 2.0]
    keys = [headers["Idempotency-Key"] for _, _, headers in there.seen]
    assert len(set(keys)) == 1  # so that a lost answer makes no second run
    assert there.seen[0][2]["Authorization"] == "Bearer token"


def test_patience_ends(flaky: Any) -> None:
    _, server, _ = flaky(says(429, {"detail": "slow down"}, Retry_After="3600"))
    with pytest.raises(RequestError, match="slow down"):
        server.run("abc")


def test_a_stream_that_breaks_is_taken_up_where_it_broke(flaky: Any) -> None:
    there, server, _ = flaky(
        breaks_off('id: 4\nevent: note\ndata: {"text": "one"}\n\nid: 5\nevent: no'),
        says(502, b"<html>bad gateway</html>"),
        says(200, {"state": "running"}),
        says(200, b'id: 6\nevent: state\ndata: {"state": "succeeded"}\n\n: ping\n\n'),
        says(200, {"state": "succeeded"}),
    )
    assert [event.id for event in server.follow("abc")] == ["4", "6"]
    streams = [headers["Last-Event-ID"] for _, path, headers in there.seen if "events" in path]
    assert streams == ["0", "4", "4"]


def test_half_a_file_is_no_file(flaky: Any, tmp_path: Path) -> None:
    _, server, _ = flaky(breaks_off("half"))
    with pytest.raises(RunFailed, match="can't reach"):
        server.fetch("abc", tmp_path / "x.mp4")


def test_what_is_no_server_of_ours_is_told_so(flaky: Any) -> None:
    _, server, _ = flaky(says(404, b"<html>nothing here</html>"))
    with pytest.raises(RequestError, match="is this a server of Impasto's"):
        server.run("abc")


def test_a_token_does_not_follow_a_redirect(flaky: Any) -> None:
    there, server, _ = flaky(says(302, {}, Location="http://127.0.0.1:9/v1/runs"))
    with pytest.raises(RequestError, match="302"):
        server.run("abc")
    assert len(there.seen) == 1
