"""Runs on real Ray nodes: what comes late, what goes away, and what is told."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

import media_maker
import networks
from crew import FORTY, alive, crew
from impasto.cli import main
from impasto.config import load_settings
from impasto.engines import jobs, open_engine
from impasto.engines.jobs import Jobs
from impasto.errors import EngineLost, RequestError, RunFailed, Unavailable
from impasto.records import Chunk, Done, Event, Failed, Noted, Progress, Report, Task
from impasto.request import Options
from impasto.run import ignore, score
from impasto.surroundings import RayCluster, Surroundings
from painting import PLAIN, model_in, settings_in
from ray_nodes import Head, Nodes, autoscaling_head, nodes
from served import Served

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

_LARGE = replace(PLAIN, engine="ray", size="768x768", chunk_frames=10)
"""Chunks that take so long that progress is heard of each."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ray") / "forty.mp4"
    media_maker.make(FORTY, path)
    return path


@pytest.fixture(scope="module")
def undisturbed(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The target's bytes of a run in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    _paint(film, folder, replace(_LARGE, engine="inline"))
    return (folder / "out.mp4").read_bytes()


@pytest.fixture(scope="module")
def shared() -> Iterator[Nodes]:
    with nodes() as found:
        yield found


@pytest.fixture
def cluster(shared: Nodes) -> Iterator[Nodes]:
    """A cluster without a node, but its head."""
    yield shared
    shared.clear()


def _paint(
    film: Path,
    folder: Path,
    options: Options,
    on_event: Callable[[Event], None] = ignore,
    around: Surroundings | None = None,
) -> Report:
    return score(
        film,
        model=model_in(folder, networks.painterly()),
        target=folder / "out.mp4",
        options=options,
        settings=replace(settings_in(folder), surroundings=around or Surroundings()),
        on_event=on_event,
    )


def _command(film: Path, folder: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "impasto", "score", str(film),
        "--model", str(model_in(folder, networks.painterly())),
        "-o", str(folder / "out.mp4"), "--work", str(folder / "store"), "--engine", "ray",
        "--chunk-frames", "10", "--size", "768x768", "--precision", "f32", "--json", *more,
    ]  # fmt: skip


# --- what comes and goes ----------------------------------------------------------------------


def test_nodes_that_die_cost_a_chunk_and_nodes_that_come_late_take_work(
    cluster: Nodes, film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    """It begins without a node; the first dies in mid-chunk, and only then another comes."""
    first = cluster.add(1)
    left = [first]
    failed: list[Failed] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Progress) and left:
            cluster.kill(left.pop())
            cluster.add(1)
        elif isinstance(event, Failed):
            failed.append(event)

    report = _paint(film, tmp_path, _LARGE, on_event, cluster.around())
    (lost,) = failed
    assert lost.lost_worker
    assert "its node has died" in lost.error
    assert report.chunks.retried == 1
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


def test_a_killed_worker_costs_its_chunk_only(
    cluster: Nodes, film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    cluster.add(1)
    left = 1
    failed: list[Failed] = []

    def on_event(event: Event) -> None:
        nonlocal left
        if isinstance(event, Progress) and left:
            left -= 1
            crew()[0].kill()
        elif isinstance(event, Failed):
            failed.append(event)

    report = _paint(film, tmp_path, _LARGE, on_event, cluster.around())
    (lost,) = failed
    assert lost.lost_worker
    assert "its worker process has died" in lost.error
    assert report.chunks.retried == 1
    assert report.restarts == 0
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


def test_a_cluster_that_goes_away_is_one_error_and_its_chunks_wait_for_another_start(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    failed: list[Failed] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Progress):
            doomed.kill_head()
        elif isinstance(event, Failed):
            failed.append(event)

    whole = replace(_LARGE, chunk_frames=40)
    gone = "the Ray cluster has gone; 0 of 1 chunk done"
    with nodes(1) as doomed, pytest.raises(RunFailed, match=gone):
        _paint(film, tmp_path, whole, on_event, doomed.around())
    # Its worker may be missed before the cluster is, and the chunk asked for once more.
    assert {(one.chunk, one.lost_worker) for one in failed} == {(0, True)}
    assert not (tmp_path / "out.mp4").exists()


def test_a_machine_that_is_about_to_go_finishes_its_chunk_and_gets_no_other(
    cluster: Nodes, film: Path, tmp_path: Path, undisturbed: bytes
) -> None:
    """Its host says so to the first worker only, so another node takes the rest."""
    for _ in range(2):
        cluster.add(1)
    documents = iter([[{"EventType": "Preempt", "Resources": [socket.gethostname()]}]])
    events: list[Event] = []
    with _host(lambda: next(documents, [])) as url:
        around = replace(cluster.around(), scheduled_events=url)
        report = _paint(film, tmp_path, replace(_LARGE, workers=1), events.append, around)
    assert [event for event in events if isinstance(event, Failed)] == []
    assert len({event.worker for event in events if isinstance(event, Done)}) == 2
    assert report.chunks.retried == 0
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed


@contextmanager
def _host(events: Callable[[], list[dict[str, Any]]]) -> Iterator[str]:
    """Stands in for the host of a virtual machine, which announces what will happen to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = "scheduledevents" in self.path
            body = json.dumps({"Events": events()}).encode() if known else b""
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as port:
        yield f"http://127.0.0.1:{port}/scheduledevents"


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


# --- one of its own ---------------------------------------------------------------------------


def _segments(folder: Path) -> list[Path]:
    return sorted((folder / "store").glob("runs/*/segments/*.mkv"))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_takes_its_cluster_along_and_the_next_one_goes_on(
    sent: signal.Signals, film: Path, tmp_path: Path, undisturbed: bytes, shared: Nodes
) -> None:
    """Killed it leaves nobody behind; interrupted it ends in good order; others don't notice."""
    command = _command(film, tmp_path)
    driver = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    while driver.poll() is None and not _segments(tmp_path):
        time.sleep(0.05)
    there = psutil.Process(driver.pid).children(recursive=True)
    if sent == signal.SIGINT:  # as a terminal sends it
        os.killpg(driver.pid, sent)
    else:
        driver.send_signal(sent)
    _, err = driver.communicate()
    assert driver.returncode == (130 if sent == signal.SIGINT else -sent), err
    assert b"Traceback" not in err
    assert alive(there) == []
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    report = json.loads(again.stdout)
    assert report["chunks"]["reused"] >= 1
    assert (tmp_path / "out.mp4").read_bytes() == undisturbed
    assert shared.well


# --- nodes that are started for waiting chunks, and jobs sent from outside ----------------------


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with autoscaling_head() as found:
        yield found


def _submit(head: Head, *words: str) -> list[str]:
    return [sys.executable, "-m", "impasto", "submit", "--ray-address", head.url, *words]


def test_a_submitted_run_starts_nodes_for_its_chunks_and_they_stop_when_it_is_done(
    head: Head, film: Path, tmp_path: Path
) -> None:
    """From no node to two to none; the film's name would do harm if a shell read it."""
    hostile = tmp_path / 'a b\'$(touch harm)`touch harm`;touch harm & "x".mp4'
    hostile.write_bytes(film.read_bytes())
    assert head.nodes() == 0
    most = 0
    words = ["--style=starry_night", "--work", str(tmp_path / "store"), "--size=512x512",
             "--chunk-frames=5", "--precision=f32", "-o", str(tmp_path / "-out.mp4"), "--json",
             str(hostile)]  # fmt: skip
    run = subprocess.Popen(
        _submit(head, *words), env=head.environ, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while run.poll() is None:
        most = max(most, head.nodes())
        time.sleep(0.2)
    out, err = run.communicate()
    assert run.returncode == 0, err
    report = json.loads(out)
    assert (report["engine"], report["frames"], report["verified"]) == ("ray", 40, True)
    assert report["workers"] == 2
    assert most == 2
    assert "score" in err
    assert (tmp_path / "-out.mp4").exists()
    assert list(tmp_path.rglob("harm")) == []
    until = time.monotonic() + 60
    while head.nodes() and time.monotonic() < until:
        time.sleep(0.2)
    assert head.nodes() == 0


def test_what_is_sent_is_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[str]] = []
    monkeypatch.setattr(Jobs, "__init__", lambda self, url: setattr(self, "url", url))

    def submit(_: Jobs, command: list[str]) -> str:
        sent.append(command)
        return "raysubmit_1"

    monkeypatch.setattr(Jobs, "submit", submit)
    given = ["--strength=0.5", "--keep-colors", "--chunk-frames=7", "--workers=3", "--steps=9",
             "--method=optimise", "--painting-size=300", "--cores-per-worker=2", "--work=a b",
             "--restarts=1", "--on-error=pass-through", "--start=-1;ls"]  # fmt: skip
    words = [*given, "--ray-address=http://h", "--style=s", "--no-wait", "--", "-clip.mp4"]
    assert main(["submit", *words]) == 0
    (command,) = sent
    assert command[:2] == ["impasto", "stylize"]
    assert command[-4:] == ["--engine=ray", "--json", "--", "-clip.mp4"]
    assert sorted(command[2:-4]) == sorted([*given, "--style=s", "--quality=balanced"])
    for wrong in (["--strength=2"], ["--blend=s:1"]):
        assert main(["submit", "--style=s", "--ray-address=http://h", *wrong, "a.mp4"]) == 2
    assert len(sent) == 1


def test_a_submitted_run_that_fails_has_the_exit_code_of_the_run(
    head: Head, tmp_path: Path
) -> None:
    command = _submit(head, "--style=nobody", "--json", "nowhere.mp4")
    found = subprocess.run(
        command, env=head.environ, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2, found.stderr
    assert "nobody" in json.loads(found.stdout)["error"]


def test_an_interrupted_submit_stops_the_run(head: Head, film: Path, tmp_path: Path) -> None:
    words = ["--style=starry_night", "--work", str(tmp_path / "store"), "--size=512x512",
             "--chunk-frames=1", "--precision=f32", "-o", str(tmp_path / "out.mp4")]  # fmt: skip
    run = subprocess.Popen(
        _submit(head, *words, str(film)), env=head.environ, cwd=tmp_path,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while run.poll() is None and not _segments(tmp_path):
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    assert run.returncode == 130, err
    assert "was stopped; the same command goes on from there: impasto submit" in err
    assert not (tmp_path / "out.mp4").exists()


def test_a_run_that_is_only_begun_prints_its_jobs_id(head: Head, tmp_path: Path) -> None:
    command = _submit(head, "--style=nobody", "--no-wait", "nowhere.mp4")
    found = subprocess.run(
        command, env=head.environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("raysubmit_")
    assert found.stderr == ""


@pytest.mark.parametrize("token", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 32}])
def test_without_its_token_a_cluster_takes_no_job(
    token: dict[str, str], head: Head, tmp_path: Path
) -> None:
    kept = {key: value for key, value in head.environ.items() if not key.startswith("RAY_AUTH")}
    found = subprocess.run(
        _submit(head, "--style=starry_night", "a.mp4"), env=kept | token, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2, found.stderr
    (line,) = found.stderr.splitlines()
    assert "wants another token" in line


@contextmanager
def _head_without_agent(answers_without: int) -> Iterator[str]:
    """Stands in for a head whose agent begins later than its API: so many answers say so."""
    left = answers_without

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/jobs/"):
                job = {"type": "SUBMISSION", "submission_id": "raysubmit_1", "entrypoint": "",
                       "status": "SUCCEEDED", "driver_exit_code": 3}  # fmt: skip
                self._answer_later(job)
            else:
                self._answer(200, json.dumps({"version": "4", "ray_version": version("ray")}))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer_later({"job_id": "raysubmit_1", "submission_id": "raysubmit_1"})

        def _answer_later(self, job: dict[str, object]) -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                self._answer(500, "No available agent to submit job, please try again later.")
            else:
                self._answer(200, json.dumps(job))

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_run_sent_to_a_head_that_has_just_been_started_waits_for_its_agent(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(step=10)
    monkeypatch.setattr(jobs, "_now", lambda: next(clock))
    monkeypatch.setattr(jobs, "_AGAIN_S", 0.01)
    with _head_without_agent(3) as url:
        words = ["submit", "--style=s", "--no-wait", f"--ray-address={url}", "a.mp4"]
        assert main(words) == 0
        assert capfd.readouterr().out == "raysubmit_1\n"
    with _head_without_agent(99) as url:
        assert main([*words[:3], f"--ray-address={url}", "a.mp4"]) == 1
    told = capfd.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert "the agent that would begin it has not come for 60 s" in line


def test_a_head_that_does_not_answer_for_a_while_does_not_end_the_wait_for_a_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "_AGAIN_S", 0.01)
    with _head_without_agent(29) as url:
        assert Jobs(url).end("raysubmit_1").exit_code == 3
    with (
        _head_without_agent(30) as url,
        pytest.raises(RunFailed, match="does not answer any more; the job raysubmit_1 may go on"),
    ):
        Jobs(url).end("raysubmit_1")


# --- what can't be ----------------------------------------------------------------------------


def _once(
    around: RayCluster, folder: Path, hear: Callable[[Progress | Noted], None] = ignore
) -> None:
    engine = open_engine("ray", surroundings=Surroundings(ray=around))
    task = Task("nowhere", "film.mp4", str(folder))
    list(engine.map(task, [Chunk(0, 0, 1, 0)], hear))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("127.0.0.1:99999", "no Ray cluster answers at 127.0.0.1:99999"),
        ("ray://head:10001", "use: impasto submit"),
        ("http://head:8265", "use: impasto submit"),
    ],
)
def test_an_address_where_no_cluster_is_makes_the_engine_unavailable(
    address: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=says):
        _once(RayCluster(address), tmp_path)


def test_more_cores_than_any_node_has_are_a_wrong_request_and_no_room_an_error_after_a_while(
    cluster: Nodes, tmp_path: Path
) -> None:
    notes: list[Progress | Noted] = []
    with pytest.raises(EngineLost, match="no Ray worker has come for 16 s: a worker needs 3 cores"):
        _once(RayCluster(cluster.address, 3, wait_s=16), tmp_path, notes.append)
    assert [type(note) for note in notes] == [Noted] * len(notes)
    assert "of 0 that the cluster has 0 are free; waiting for one up to 16 s" in str(notes)
    cluster.add(2)
    with pytest.raises(RequestError, match=r"--cores-per-worker 3 is more than any node .* \(2\)"):
        _once(RayCluster(cluster.address, 3), tmp_path)


def test_the_engine_without_its_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"engine 'ray' needs: pip install 'impasto\[ray\]'"):
        open_engine("ray")
    with pytest.raises(RequestError, match=r"submit needs: pip install 'impasto\[ray\]'"):
        Jobs("http://head:8265")


@pytest.mark.parametrize(
    ("environ", "address", "jobs"),
    [
        ({}, "", ""),
        ({"RAY_ADDRESS": "head:6379"}, "head:6379", ""),
        ({"RAY_ADDRESS": "http://head:8265"}, "", "http://head:8265"),
        ({"RAY_ADDRESS": "auto", "RAY_API_SERVER_ADDRESS": "http://h:1"}, "auto", "http://h:1"),
    ],
)
def test_the_environment_says_where_the_cluster_is(
    environ: dict[str, str], address: str, jobs: str
) -> None:
    assert load_settings(environ).surroundings.ray == RayCluster(address, jobs=jobs)


def test_the_configuration_says_where_the_cluster_is_and_how_long_to_wait(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('ray_address = "head:6379"\n')
    found = load_settings({"IMPASTO_RAY_WAIT_S": "60"}, file).surroundings.ray
    assert found == RayCluster("head:6379", wait_s=60)
    for wrong in ("0", "-1", "soon", "inf", "nan"):
        with pytest.raises(RequestError, match="IMPASTO_RAY_WAIT_S must be a number of seconds"):
            load_settings({"IMPASTO_RAY_WAIT_S": wrong}, file)


def test_a_service_paints_with_this_engine_and_names_it(tmp_path: Path) -> None:
    served = Served(tmp_path, config='engine = "ray"\nworkers = 2\n').start()
    try:
        run = served.ended(served.submit("out/a.mp4"))
        assert run["state"] == "succeeded", run
        assert (run["report"]["engine"], run["report"]["workers"]) == ("ray", 2)
        (node,) = served.ask("GET", "/v1/nodes").json()["nodes"]
        assert node["engine"] == "ray"
    finally:
        assert served.stop() == 0
