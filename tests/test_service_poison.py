"""What kills, hangs, floods or eats memory costs its own run only; the queue goes on."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from impasto.cli import main
from impasto.keys import from_json
from impasto.observe import logs
from impasto.service import jobs as jobs_module
from impasto.service.carrier import Carrier
from impasto.service.database import Database, sqlite_url
from impasto.service.job import Ending, Order, Setup, unpack
from impasto.service.jobs import COMMAND, Jobs
from impasto.service.queue import Queue
from impasto.service.records import ServiceRun, Submission
from impasto.service.runs import Runs
from impasto.service.service import Service
from impasto.service.settings import JobLimits, read_settings
from impasto.settings import Settings
from impasto.stores import open_store
from painting import settings_in
from served import PLAIN, Served, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits as POSIX has them")

_FAKE = (sys.executable, str(Path(__file__).with_name("fake_job.py")))
_ATTEMPTS = 3


@dataclass
class Bench:
    """The parts that carry runs out, without the network and without workflows."""

    service: Service
    queue: Queue
    jobs: Jobs
    carrier: Carrier

    def submit(self, source: str, user: str = "ann") -> str:
        submission = Submission(source=source, model="net.onnx", options=PLAIN, user=user)
        return self.service.runs.submit(submission)[0].run_id

    def carry_out(self, run_id: str) -> ServiceRun:
        """Take the next run and make attempts as the workflow does."""
        (handed,) = self.queue.take(1)
        assert handed.run_id == run_id
        for number in range(1, _ATTEMPTS + 1):
            ended = self.carrier.attempt(handed, number)
            assert ended is not None
            if ended.kind != "failed" or number == _ATTEMPTS:
                self.carrier.settle(handed, ended)
                break
        return self.service.runs.get(run_id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[tuple[Jobs, Database]] = []

    def build(command: tuple[str, ...] = _FAKE, *, wall_s: float | None = None,
              keep_warm_s: float = 0.0, **limits: int) -> Bench:  # fmt: skip
        settings = read_settings(
            {"engine": "inline"}, media=str(tmp_path / "media"), system=str(tmp_path / "system")
        )
        database = Database(sqlite_url(tmp_path / "service.db"))
        core: Settings = settings_in(tmp_path)
        service = Service(settings, core, database, Runs(database),
                          open_store(settings.media), open_store(settings.system))  # fmt: skip
        queue = Queue(service.runs, f"process {len(made)}")
        queue.join()
        jobs = Jobs(Setup(JobLimits(**limits)), keep_warm_s=keep_warm_s, wall_s=wall_s,
                    command=command)  # fmt: skip
        made.append((jobs, database))
        return Bench(service, queue, jobs, Carrier(service, queue, jobs))

    yield build
    for jobs, database in made:
        jobs.close(within_s=10.0)
        database.close()


@pytest.mark.parametrize(
    ("source", "told"),
    [("segv.mp4", "SIGSEGV"), ("abort.mp4", "SIGABRT"), ("kill.mp4", "SIGKILL"),
     ("exit.mp4", "exit code 3"), ("fail.mp4", "did not work")],
)  # fmt: skip
def test_what_kills_its_process_every_time_is_set_aside_with_its_log(
    bench: Callable[..., Bench], source: str, told: str
) -> None:
    parts = bench()
    run = parts.carry_out(parts.submit(source))
    assert (run.state, run.attempts) == ("set_aside", _ATTEMPTS)
    assert told in (run.error or "")
    lines = list(logs.lines(parts.service.system, run.run_id))
    assert {line.attempt for line in lines if told in line.text} == set(range(1, _ATTEMPTS + 1))
    if source in {"segv.mp4", "abort.mp4", "kill.mp4"}:
        assert any("the decoder is in" in line.text for line in lines)
        assert not any("hunter2" in line.text for line in lines)
    assert parts.carry_out(parts.submit("good.mp4")).state == "succeeded"


def test_a_process_that_babbles_changes_nothing_but_its_own_progress(
    bench: Callable[..., Bench],
) -> None:
    parts = bench()
    run = parts.carry_out(parts.submit("babble.mp4"))
    assert run.state == "succeeded"
    assert run.progress.frames_done == 10
    states = [e.data["state"] for e in parts.service.runs.events(run.run_id) if e.kind == "state"]
    assert states == ["queued", "running", "succeeded"]


def test_a_run_that_hangs_is_ended_when_its_time_is_over(bench: Callable[..., Bench]) -> None:
    parts = bench(wall_s=0.5)
    run_id = parts.submit("sleep.mp4")
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.1):
            parts.jobs.tick()

    ticking = threading.Thread(target=tick)
    ticking.start()
    run = parts.carry_out(run_id)
    stop.set()
    ticking.join()
    assert run.state == "set_aside"
    assert "longer than a run may" in (run.error or "")


def test_a_refused_video_is_tried_once(bench: Callable[..., Bench]) -> None:
    parts = bench()
    run = parts.carry_out(parts.submit("refuse.mp4"))
    assert (run.state, run.error, run.attempts) == ("failed", "no video", 0)


def test_the_system_store_tells_of_a_run_that_never_had_a_plan(
    bench: Callable[..., Bench], capsys: pytest.CaptureFixture[str]
) -> None:
    parts = bench()
    run_id = parts.carry_out(parts.submit("unplanned.mp4")).run_id
    assert main(["runs", "list", "--work", parts.service.system.url, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["run_id"], row["state"], row["error"]) == (run_id, "failed", "no video")
    assert row["source"] == f"{parts.service.media.url}/unplanned.mp4"
    assert row["scorer"] == "net.onnx"


def test_a_warm_process_makes_the_next_run_and_goes_when_it_is_cold(
    bench: Callable[..., Bench],
) -> None:
    parts = bench(keep_warm_s=3600.0)
    for number in range(3):
        assert parts.carry_out(parts.submit(f"good-{number}.mp4")).state == "succeeded"
        assert parts.jobs.processes == 1
    parts.jobs._keep_warm_s = 0.0
    parts.jobs.tick()
    assert parts.jobs.processes == 0


def test_a_runs_process_does_not_know_the_databases_password(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    program = (
        "import os, sys, json\n"
        "sys.stdin.readline(), sys.stdin.readline()\n"
        "found = str(os.environ.get('PGPASSWORD'))\n"
        "print('Ending', json.dumps({'kind': 'refused', 'error': found}), flush=True)\n"
    )
    parts = bench((sys.executable, "-c", program))
    assert parts.carry_out(parts.submit("a.mp4")).error == "None"


def test_a_process_makes_runs_of_one_user_only(bench: Callable[..., Bench]) -> None:
    parts = bench(keep_warm_s=3600.0)
    parts.carry_out(parts.submit("good-1.mp4"))
    (first,) = parts.jobs._warm
    parts.carry_out(parts.submit("good-2.mp4", user="bob"))
    (second,) = parts.jobs._warm
    assert second is not first
    assert not first.alive
    parts.carry_out(parts.submit("good-3.mp4", user="bob"))
    assert parts.jobs._warm == [second]


def test_a_process_that_may_have_used_a_share_of_its_time_makes_no_other_run(
    bench: Callable[..., Bench],
) -> None:
    parts = bench(keep_warm_s=3600.0, cpu_s=0)
    assert parts.carry_out(parts.submit("good.mp4")).state == "succeeded"
    assert parts.jobs.processes == 0


def test_a_process_that_has_just_ended_is_not_looked_after_any_more(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = bench()
    looked = threading.Event()
    failed: list[ValueError] = []
    trim = jobs_module._Process.trim

    def late(process: Any) -> None:
        looked.set()
        time.sleep(0.5)  # the run ends meanwhile
        try:
            trim(process)
        except ValueError as error:
            failed.append(error)

    monkeypatch.setattr(jobs_module._Process, "trim", late)
    ticking = threading.Thread(target=parts.jobs.tick)

    def hear(_: object) -> None:
        if not looked.is_set():
            ticking.start()
            assert looked.wait(10)

    order = Order("m", "s", "good.mp4", None, "n", None, {}, "inline", None, False)
    assert parts.jobs.make("run", order, hear, user="ann").error == ""
    ticking.join()
    assert not failed


def test_a_job_is_held_to_its_memory(bench: Callable[..., Bench], tmp_path: Path) -> None:
    parts = bench(COMMAND, memory_bytes=600 << 20)
    Served(tmp_path)  # for its film
    run = parts.carry_out(parts.submit("in/a.mp4"))
    assert run.state in {"set_aside", "failed"}
    roomy = bench(COMMAND)
    assert roomy.carry_out(roomy.submit("in/a.mp4")).state == "succeeded"


def test_a_job_is_held_to_its_processor_time_files_and_file_size(tmp_path: Path) -> None:
    program = (
        "import sys, resource, json\n"
        "from impasto.keys import from_json\n"
        "from impasto.service.job import Setup, restrain\n"
        "restrain(from_json(sys.stdin.buffer.readline(), Setup).limits)\n"
        "names = 'CPU FSIZE NOFILE AS CORE'.split()\n"
        "found = [resource.getrlimit(getattr(resource, f'RLIMIT_{n}')) for n in names]\n"
        "sys.stdin.readline()\n"
        "print('Ending', json.dumps({'kind': 'failed', 'error': json.dumps(found)}), flush=True)\n"
    )
    limits = JobLimits(cpu_s=50, file_bytes=1 << 30, open_files=100, memory_bytes=4 << 30)
    jobs = Jobs(Setup(limits), command=(sys.executable, "-c", program))
    made = jobs.make("run", Order("m", "s", "a", "b", None, None, {}, "inline", None, False), print,
                     user="ann")  # fmt: skip
    held_to = [1 << 30, 100, 4 << 30, 0]
    assert json.loads(made.error) == [[50, 55], *([limit, limit] for limit in held_to)]


def test_a_run_that_uses_up_its_processor_time_is_told_so(bench: Callable[..., Bench]) -> None:
    program = (
        "import sys\n"
        "from impasto.keys import from_json\n"
        "from impasto.service.job import Setup, restrain\n"
        "restrain(from_json(sys.stdin.buffer.readline(), Setup).limits)\n"
        "sys.stdin.readline()\n"
        "while True: pass\n"
    )
    parts = bench((sys.executable, "-c", program), cpu_s=1)
    run = parts.carry_out(parts.submit("busy.mp4"))
    assert run.state == "set_aside"
    assert "more processor time than a run may" in (run.error or "")


def test_a_link_out_of_the_media_store_is_refused(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    parts = bench(COMMAND)
    Served(tmp_path)
    (tmp_path / "media/in/link.mp4").symlink_to("/etc/hostname")
    (tmp_path / "media/out").symlink_to(tmp_path)
    run = parts.carry_out(parts.submit("in/link.mp4"))
    assert run.state == "failed"
    assert "leads out of the media store" in (run.error or "")


def test_a_message_is_what_it_says_or_none() -> None:
    assert unpack(b'Ending {"kind": "failed"}') == Ending("failed")
    for line in (b"", b"Ending", b"Order {}", b"Said 1", b"\xff\xfe"):
        with pytest.raises(ValueError, match=r"message|record"):
            unpack(line)
    assert from_json(b'{"limits": {}}', Setup) == Setup(JobLimits())


def test_fifty_broken_videos_stop_neither_the_service_nor_the_queue(
    tmp_path: Path,
) -> None:
    service = Served(tmp_path, config='engine = "inline"\nkeep_warm_s = 60.0\n')
    film = (service.media / "in/a.mp4").read_bytes()
    for number in range(50):
        spoilt = bytearray(film[: len(film) * (number % 5 + 1) // 5])
        for place in range(number * 7, len(spoilt), 211):
            spoilt[place] ^= 0x5A
        (service.media / f"in/bad-{number}.mp4").write_bytes(spoilt)
    service.start()
    try:
        quick = {"style": "starry_night", "model": None, "options": {**PLAIN, "quality": "fast"}}
        bad = [service.submit(f"out/{n}.mp4", source=f"in/bad-{n}.mp4", **quick) for n in range(50)]
        good = service.submit("out/good.mp4", **quick)
        states = [service.ended(run_id)["state"] for run_id in bad]
        assert set(states) <= {"succeeded", "failed", "set_aside"}
        assert "failed" in states
        assert service.ended(good)["state"] == "succeeded"
        assert wait_for(lambda: service.ask("GET", "/health")).status_code == 200
    finally:
        assert service.stop() == 0
