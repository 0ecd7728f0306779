"""Old runs go with what is kept of them; what somebody still needs stays; nothing is half gone."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api_service import make_service
from cli_fakes import a_plan
from impasto.cli import main
from impasto.cli.serve import _OneLine
from impasto.errors import RequestError, RunFailed
from impasto.keys import to_json
from impasto.service.audit import AuditLog, Entry
from impasto.service.database import Database, sqlite_url
from impasto.service.queue import Ended, Queue
from impasto.service.records import Submission
from impasto.service.retention import Retention
from impasto.service.runs import Runs
from impasto.service.settings import read_settings
from impasto.service.triggers.arrivals import content_of
from impasto.service.triggers.gone import forget_gone
from impasto.service.upkeep import Upkeep
from impasto.stores import Entry as Kept
from impasto.stores import Store, open_store
from served import PATIENCE_S, wait_for
from trigger_site import TS, Site


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Kept:
    """Runs that ended at 1000, 2000 and 3000 seconds, and one that has not; two share a plan."""

    def __init__(self, folder: Path) -> None:
        clock = _Clock()
        self.url = sqlite_url(folder / "service.db")
        self.database = Database(self.url)
        self.runs = Runs(self.database, clock=clock)
        self.system: Store = open_store(str(folder / "system"))
        queue = Queue(self.runs, "here")
        queue.join()
        self.ids = []
        for number in range(4):
            clock.now = 1000.0 * (number + 1)
            submission = Submission(source=f"in/{number}.mp4", style="udnie", user="ann")
            self.ids.append(self.runs.submit(submission)[0].run_id)
            (handed,) = queue.take(1)
            queue.begin(handed, 1)
            plan_id = f"plan{min(number, 2)}"
            queue.tell(handed, "plan", {}, plan_id=plan_id)
            self.system.put(f"runs/{plan_id}/plan.json", b"{}")
            self.system.put(f"runs/{self.ids[-1]}/logs/job.jsonl", b"{}\n")
            if number < 3:
                queue.settle(handed, Ended("succeeded"))
        self.retention = Retention(self.runs, self.system, keep_s=500.0)

    def keys(self) -> set[str]:
        return {entry.key.split("/")[1] for entry in self.system.list("runs")}


@pytest.fixture
def kept(tmp_path: Path) -> _Kept:
    return _Kept(tmp_path)


def test_what_ended_long_ago_goes_with_its_objects(kept: _Kept) -> None:
    removed = kept.retention.remove(ended_before=2500.0)
    assert removed.runs == tuple(kept.ids[:2])
    assert removed.objects == 4
    assert kept.keys() == {"plan2", *kept.ids[2:]}
    assert [run.run_id for run in kept.runs.page().runs] == kept.ids[:1:-1]


def test_a_plan_that_another_run_goes_back_to_stays(kept: _Kept) -> None:
    kept.retention.remove(ended_before=1e9)
    assert kept.keys() == {"plan2", kept.ids[3]}
    assert [run.run_id for run in kept.runs.page().runs] == kept.ids[3:]


def test_runs_that_share_a_plan_take_it_along(kept: _Kept) -> None:
    kept.runs.cancel(kept.ids[3])
    queue = Queue(kept.runs, "here")
    for handed in queue.owned():
        queue.settle(handed, Ended("cancelled"))
    told = kept.retention.remove(ended_before=1e9, dry_run=True)
    assert kept.retention.remove(ended_before=1e9) == told
    assert set(told.runs) == set(kept.ids)
    assert kept.keys() == set()


def test_a_run_that_is_retried_while_old_ones_go_stays(
    kept: _Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, runs = Queue(kept.runs, "here"), kept.runs
    runs.cancel(kept.ids[3])
    for handed in queue.owned():
        queue.settle(handed, Ended("cancelled"))
    look = kept.retention._ended

    def retried(before: float, after: int) -> list[Any]:
        found = look(before, after)
        if runs.get(kept.ids[3]).state == "cancelled":
            runs.retry(kept.ids[3])
        return found

    monkeypatch.setattr(kept.retention, "_ended", retried)
    assert kept.retention.remove(ended_before=1e9).runs == tuple(kept.ids[:3])
    assert runs.get(kept.ids[3]).state == "queued"
    assert kept.keys() == {"plan2", kept.ids[3]}


def test_what_frames_were_joined_into_goes_with_the_last_run_that_reads_it(
    kept: _Kept, tmp_path: Path
) -> None:
    for key in ("a/plan0", "b/plan0", "b/plan2", "young/plan0", "old/no"):
        folder = tmp_path / "system/sources" / key.partition("/")[0]
        kept.system.put(f"sources/{key}.reader", b"")
        kept.system.put(f"sources/{folder.name}/video.mp4", b"12345")
        for path in folder.iterdir() if folder.name != "young" else ():
            os.utime(path, (500.0, 500.0))
    before = kept.retention.remove(ended_before=2500.0, dry_run=True)
    removed = kept.retention.remove(ended_before=2500.0)
    left = {entry.key.split("/")[1] for entry in kept.system.list("sources")}
    assert left == {"b", "young"}
    assert removed.objects == 4 + 2 + 2
    assert before == removed


def test_networks_go_when_no_run_that_is_left_was_made_with_them(
    kept: _Kept, tmp_path: Path
) -> None:
    for plan, model in (("plan0", "feed"), ("plan2", "beef")):
        kept.system.put(f"runs/{plan}/plan.json", to_json(a_plan(model)))
    for model in ("feed", "beef", "dead", "young"):
        kept.system.put(f"models/{model}.onnx", b"net")
        if model != "young":
            os.utime(tmp_path / f"system/models/{model}.onnx", (500.0, 500.0))
    before = kept.retention.remove(ended_before=2500.0, dry_run=True)
    assert kept.retention.remove(ended_before=2500.0) == before
    left = {entry.key for entry in kept.system.list("models")}
    assert left == {"models/beef.onnx", "models/young.onnx"}


def test_a_dry_run_removes_nothing(kept: _Kept) -> None:
    before = kept.keys()
    assert len(kept.retention.remove(ended_before=1e9, dry_run=True).runs) == 3
    assert kept.keys() == before
    assert len(kept.runs.page().runs) == 4


def test_the_service_removes_what_is_older_than_it_keeps(kept: _Kept) -> None:
    kept.retention.tidy()  # at 4000 seconds
    assert [run.run_id for run in kept.runs.page().runs] == [kept.ids[3]]


def test_what_became_of_an_object_is_forgotten_long_after_it_has_gone(tmp_path: Path) -> None:
    site = Site(tmp_path)
    day_s = 86_400.0

    def forget() -> int:
        site.now += 31 * day_s
        return forget_gone(site.database, site.media, now=site.now, keep_s=30 * day_s)

    site.put("in/stays.mp4", "in/goes.mp4", "in/painted.mp4", data=TS)
    triggers = site.triggers()
    site.settle(triggers)
    versions = {entry.key: content_of(entry) for entry in site.media.list("in")}
    assert site.sources() == ["in/goes.mp4", "in/painted.mp4", "in/stays.mp4"]
    (target,) = [run.target for run in site.all_runs() if run.source == "in/painted.mp4"]
    assert target
    site.put(target)  # a run has made it
    known = triggers.arrivals.known
    assert forget() == 0
    site.media.delete("in/goes.mp4")
    site.media.delete("in/painted.mp4")
    assert forget() == 0  # it may have gone a moment ago
    assert known(versions.values()) == {*versions.values()}
    assert forget() == 1
    assert known(versions.values()) == {versions["in/stays.mp4"], versions["in/painted.mp4"]}
    site.settle(triggers)
    assert len(site.all_runs()) == 3  # nothing starts again
    assert triggers.arrivals.is_target(target)


def test_an_object_that_comes_back_in_time_is_known(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.put("in/a.mp4")
    triggers = site.triggers()
    site.settle(triggers)
    (entry,) = site.media.list("in")
    away = tmp_path / "media/in/a.mp4"
    away.rename(tmp_path / "a.mp4")
    for _ in range(2):
        site.now += 100.0
        forget_gone(site.database, site.media, now=site.now, keep_s=90.0)
        if away.exists():
            break
        (tmp_path / "a.mp4").rename(away)
    assert triggers.arrivals.known([content_of(entry)])
    site.settle(site.triggers())
    site.only_run()


def test_a_service_removes_by_itself_what_is_older_than_it_keeps(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    media, audit = made.backend.service.media, made.backend.audit
    media.put("out/.a.mp4-0123abcd.part", b"half")
    half = tmp_path / "system/models/feed.onnx#1"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    os.utime(half, (500.0, 500.0))
    run, _ = made.runs.submit(Submission(source="in/a.mp4", style="udnie", user="ann"))
    made.runs.cancel(run.run_id)
    long_ago = AuditLog(made.backend.service.database, clock_s=lambda: 1e9)
    long_ago.append(Entry(user="ann", action="POST /v1/runs", status=202))
    upkeep = Upkeep(made.backend.service, audit)
    made.clock.now += 2 * 86_400
    upkeep.tidy()
    assert made.runs.get(run.run_id)
    assert audit.page() == ()
    assert [entry.key for entry in media.list()] == ["in/a.mp4"]
    assert not half.exists()
    made.clock.now += 31 * 86_400
    upkeep.tidy()
    assert made.runs.page().runs == ()


def test_upkeep_goes_on_by_itself_after_a_fault_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_service(tmp_path)
    runs, system = made.runs, made.backend.service.system
    run_id = runs.submit(Submission(source="in/a.mp4", style="udnie", user="ann"))[0].run_id
    runs.cancel(run_id)
    made.clock.now += 31 * 86_400
    listed, slow, whole = threading.Event(), threading.Event(), system.list

    def listing(prefix: str = "") -> Iterator[Kept]:
        if not listed.is_set():
            listed.set()
            raise RunFailed("the store does not answer")
        assert slow.wait(PATIENCE_S)
        return whole(prefix)

    monkeypatch.setattr(system, "list", listing)
    upkeep = Upkeep(made.backend.service, made.backend.audit, every_s=0.01)
    upkeep.start()
    assert listed.wait(PATIENCE_S)
    other = runs.submit(Submission(source="in/a.mp4", style="udnie", user="ann"))[0].run_id
    slow.set()
    wait_for(lambda: [run.run_id for run in runs.page().runs] == [other])
    upkeep.stop()
    assert not upkeep._thread.is_alive()
    assert "nothing old is removed for now: the store does not answer" in caplog.text


@pytest.mark.parametrize(
    "wrong", [{"keep_audit_days": 29.0}, {"keep_audit_days": -1.0}, {"keep_arrivals_days": -1.0}]
)
def test_a_retention_that_can_not_be_is_a_wrong_setting(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=rf"\[serve\] {next(iter(wrong))} must be"):
        read_settings(wrong, media="media", system="system")


def test_the_command_line_cleans_a_services_database(
    kept: _Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["runs", "clean", "--database", kept.url, "--work", kept.system.url, "--json"]
    assert main([*words, "--older-than", "7d", "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["removed"], told["dry_run"]) == (kept.ids[:3], True)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == kept.ids[:3]
    assert [run.run_id for run in kept.runs.page().runs] == kept.ids[3:]


def test_a_database_that_is_not_there_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["runs", "clean", "--database", f"sqlite:///{tmp_path / 'typo.db'}"]
    assert main([*words, "--work", str(tmp_path / "system")]) == 2
    assert "there is no database" in capsys.readouterr().err
    assert not (tmp_path / "typo.db").exists()


def test_a_line_of_the_services_own_log_is_one_line() -> None:
    record = logging.LogRecord("impasto", logging.INFO, "", 0, "run %s", ("a\nFAKE\x1b[2J",), None)
    line = _OneLine("%(levelname)s %(message)s").format(record)
    assert "\n" not in line
    assert "\x1b" not in line
