"""A watched prefix: every complete new version of a video becomes one run, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import networks
from impasto.errors import RunFailed
from impasto.service.job import Ending, Order, Said, make
from impasto.service.limits import Quota
from impasto.service.queue import Queue
from impasto.service.records import ServiceRun, Submission
from impasto.service.triggers import watch
from impasto.service.triggers.names import is_unfinished
from impasto.service.triggers.whole import is_whole
from impasto.settings import Settings
from trigger_site import IN, TS, Site, settings


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.database.close()


def test_a_new_video_becomes_one_run_with_the_style_and_the_target_of_the_contract(
    site: Site,
) -> None:
    triggers = site.triggers()
    site.put("in/a.ts")
    site.settle(triggers, 6)
    run = site.only_run()
    assert (run.source, run.style, run.target) == (
        "in/a.ts", "starry_night", "painted/a.starry_night.ts",
    )  # fmt: skip
    assert (run.state, run.origin, run.user) == ("queued", "watch", "triggers")


def test_a_video_is_found_by_the_next_scan_and_taken_by_the_one_after(site: Site) -> None:
    triggers = site.triggers()
    triggers.tick()
    site.put("in/a.ts")
    site.now += 5
    triggers.tick()
    assert not site.all_runs()
    assert triggers.scans()["watch in"].waiting == 1
    site.now += 5
    triggers.tick()
    assert triggers.scans()["watch in"].runs == (site.only_run().run_id,)


def test_a_video_that_a_scan_has_found_does_not_wait_for_another_scan(site: Site) -> None:
    patient = settings(
        watch=[{"prefix": "in", "style": "starry_night"}], triggers={"interval_s": 1000.0}
    )
    triggers = site.triggers(patient)
    triggers.tick()
    site.now += 1000
    site.put("in/a.mp4", "in/gone.mp4", "in/growing.mp4")
    triggers.tick()
    assert triggers.scans()["watch in"].waiting == 3
    site.media.delete("in/gone.mp4")
    site.put("in/growing.mp4", data=TS * 2)
    site.put("in/later.mp4")
    site.now += 6
    assert triggers.tick() == pytest.approx(5.0)  # for the one that grows
    assert site.sources() == ["in/a.mp4"]
    site.now += 6
    assert triggers.tick() == pytest.approx(988.0)  # nothing waits: the next scan
    assert site.sources() == ["in/a.mp4", "in/growing.mp4"]
    site.now += 988
    site.settle(triggers)
    assert site.sources() == ["in/a.mp4", "in/growing.mp4", "in/later.mp4"]


def test_a_restart_neither_misses_nor_repeats(site: Site) -> None:
    site.put("in/a.ts")
    site.settle(site.triggers())
    site.put("in/b.ts")
    site.settle(site.triggers())
    site.settle(site.triggers())
    assert site.sources() == ["in/a.ts", "in/b.ts"]


def test_a_run_that_was_cleaned_away_is_not_made_again(site: Site) -> None:
    from impasto.service.tables import runs_table

    site.put("in/a.ts")
    site.settle(site.triggers())
    with site.database.transaction() as connection:
        connection.execute(runs_table.delete())
    site.settle(site.triggers())
    assert not site.all_runs()


def test_a_crash_between_the_run_and_its_note_does_not_repeat_it(site: Site) -> None:
    from impasto.service.triggers.arrivals import arrivals_table

    site.put("in/a.ts")
    site.settle(site.triggers())
    with site.database.transaction() as connection:
        connection.execute(arrivals_table.delete())
    site.settle(site.triggers())
    assert site.only_run().source == "in/a.ts"


def test_processes_that_watch_the_same_prefix_at_once_make_one_run(tmp_path: Path) -> None:
    sites = [Site(tmp_path) for _ in range(4)]
    sites[0].put(*[f"in/{n}.ts" for n in range(25)])
    together = threading.Barrier(len(sites))

    def watch(site: Site) -> None:
        triggers = site.triggers()
        together.wait()
        site.settle(triggers)

    threads = [threading.Thread(target=watch, args=(each,)) for each in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sites[0].sources() == sorted(f"in/{n}.ts" for n in range(25))
    for each in sites:
        each.database.close()


def test_a_growing_file_is_left_alone_until_it_has_settled(site: Site) -> None:
    triggers = site.triggers()
    for size in range(1, 6):
        site.put("in/a.ts", data=TS * size)
        site.settle(triggers, 1)
    assert not site.all_runs()
    site.settle(triggers, 2)
    assert site.only_run().source == "in/a.ts"


def test_an_upload_that_halts_half_way_is_waited_for(
    site: Site, media: Callable[[str], Path]
) -> None:
    whole = media("cfr_24").read_bytes()
    triggers = site.triggers()
    site.put("in/a.mp4", data=whole[: len(whole) // 2])
    site.settle(triggers, 20)
    assert not site.all_runs()
    site.put("in/a.mp4", data=whole)
    site.settle(triggers)
    assert site.only_run().source == "in/a.mp4"


def test_a_file_that_stays_damaged_becomes_a_run_after_all_so_that_somebody_sees_it(
    site: Site, media: Callable[[str], Path]
) -> None:
    triggers = site.triggers()
    site.put("in/a.mp4", data=media("cfr_24").read_bytes()[:-100])
    site.settle(triggers, 4)
    assert not site.all_runs()
    site.now += 3600
    site.settle(triggers)
    assert site.only_run().source == "in/a.mp4"


@pytest.mark.parametrize(
    "key",
    ["in/a.mp4.part", "in/a.crdownload", "in/a.mp4.tmp", "in/.a.mp4", "in/.cache/a.mp4",
     "in/a.mp4#1", "in/~a.mp4", "in/a.mp4~", "in/a.txt", "in/a", "other/a.ts", "inn/a.ts",
     "in/style/a.jpg"],
)  # fmt: skip
def test_what_is_no_video_of_somebodys_is_left_alone(site: Site, key: str) -> None:
    (Path(site.media.url) / key).parent.mkdir(parents=True, exist_ok=True)
    (Path(site.media.url) / key).write_bytes(TS)
    triggers = site.triggers()
    site.settle(triggers, 4)
    assert not site.all_runs()
    assert not triggers.faults()


def test_an_empty_object_is_left_alone_until_it_has_bytes(site: Site) -> None:
    triggers = site.triggers()
    site.put("in/a.ts", data=b"")
    site.settle(triggers, 5)
    assert not site.all_runs()
    site.put("in/a.ts")
    site.settle(triggers)
    assert site.only_run().source == "in/a.ts"


def test_our_own_outputs_start_nothing_wherever_they_lie(site: Site) -> None:
    beside = settings(
        watch=[{"prefix": "", "style": "starry_night", "target": "{stem}.{style}.{ext}"}]
    )
    queue = Queue(site.runs, "p")
    site.runs.submit(Submission(source="x.mov", style="udnie", user="ann"))
    (handed,) = queue.take(1)
    queue.tell(handed, "plan", {}, resolved_target="x.udnie.mov")
    site.runs.submit(Submission(source="y.ts", style="udnie", target="deep/y.ts", user="ann"))
    triggers = site.triggers(beside)
    site.put("in/a.ts")
    site.settle(triggers)
    site.put("in/a.starry_night.ts", "x.udnie.mov", "deep/y.ts")
    site.settle(triggers)
    assert site.sources() == ["in/a.ts", "x.mov", "y.ts"]


@pytest.mark.parametrize(
    ("source", "options", "target"),
    [
        ("in/B.MP4", {}, "in/B.net.mp4"),
        ("in/c.mp4", {"start": "0.5", "end": "1"}, "in/c.net.0.5s-1s.mp4"),
        ("in/d.mp4", {"start": "0.5"}, "in/d.net.0.5s-end.mp4"),
    ],
)
def test_a_run_tells_where_its_target_goes_before_it_is_there(
    site: Site,
    tmp_path: Path,
    media: Callable[[str], Path],
    source: str,
    options: dict[str, Any],
    target: str,
) -> None:
    site.put("net.onnx", data=networks.painterly())
    site.put(source, data=media("cfr_24").read_bytes())
    options = {"precision": "f32", **options}
    site.runs.submit(Submission(source=source, model="net.onnx", user="ann", options=options))
    queue, arrivals = Queue(site.runs, "p"), site.triggers().arrivals
    (handed,) = queue.take(1)

    def hear(said: Said | Ending) -> None:
        if isinstance(said, Said) and said.kind == "plan":
            assert not arrivals.is_target(target)
            assert not site.media.exists(target)
            where = said.columns["resolved_target"]
            queue.tell(handed, said.kind, said.data, resolved_target=where)
            assert arrivals.is_target(target)

    order = Order(
        site.media.url, str(tmp_path / "system"), source, None, "net.onnx", None, options,
        "inline", None, False,
    )  # fmt: skip
    core = Settings(user_styles=tmp_path / "styles", system_store=order.system)
    ending = make(order, core, hear)
    assert ending.report is not None, ending.error
    assert ending.report["target"] == target
    assert arrivals.is_target(target)
    assert not arrivals.is_target(source)


def test_a_name_like_one_of_ours_is_somebodys_when_no_run_makes_it(site: Site) -> None:
    site.put("in/holiday.starry_night.ts")
    site.settle(site.triggers())
    assert site.only_run().source == "in/holiday.starry_night.ts"


def test_a_new_version_under_the_old_name_gets_a_run_that_takes_the_old_ones_place(
    site: Site,
) -> None:
    triggers = site.triggers()
    site.put("in/a.ts")
    site.settle(triggers)
    site.put("in/a.ts", data=TS * 2)
    site.settle(triggers)
    first, second = site.all_runs()
    assert first.state == "cancelled"  # its source is gone
    assert (second.state, second.target) == ("queued", first.target)
    assert second.options == {"force": True}
    assert first.options == {}


def test_the_painting_of_another_video_is_not_overwritten(site: Site) -> None:
    triggers = site.triggers()
    site.put("in/a.avi", "in/a.mkv")
    site.settle(triggers, 4)
    assert [run.target for run in site.all_runs()] == ["painted/a.starry_night.mkv"] * 2
    assert [run.options for run in site.all_runs()] == [{}, {}]  # the later one fails, and says why


def test_what_was_there_before_the_very_first_start_can_be_left_alone(site: Site) -> None:
    quiet = settings(
        watch=[{"prefix": "in", "style": "starry_night"}], triggers={"skip_existing": True}
    )
    site.put("in/old.ts", "in/older.ts")
    site.settle(site.triggers(quiet))
    site.put("in/new.ts")
    site.settle(site.triggers(quiet))
    site.put("in/old.ts", data=TS * 2)
    site.settle(site.triggers(quiet))
    assert site.sources() == ["in/new.ts", "in/old.ts"]


def test_a_quota_makes_videos_wait_and_loses_none(tmp_path: Path) -> None:
    site = Site(tmp_path, quota=Quota(submissions_per_minute=60, burst=3))
    site.put(*[f"in/{n}.ts" for n in range(8)])
    triggers = site.triggers()
    site.settle(triggers, 2)
    assert len(site.all_runs()) == 3
    site.settle(triggers, 6)
    assert len(site.all_runs()) == 8
    site.database.close()


def test_one_rules_flood_does_not_hold_up_anothers_video(tmp_path: Path) -> None:
    site = Site(tmp_path, quota=Quota(submissions_per_minute=0.001, burst=1))
    rules = [{"prefix": f"in/{user}", "style": "udnie", "user": user} for user in ("ann", "bob")]
    triggers = site.triggers(settings(watch=[{"prefix": "in"}], rules=rules))
    site.put(*[f"in/{user}/{n}.ts" for user in ("ann", "bob") for n in range(5)])
    site.settle(triggers)
    assert sorted(run.user for run in site.all_runs()) == ["ann", "bob"]
    site.database.close()


def test_as_many_as_may_wait_of_one_user_do_not_keep_anothers_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_MOST_WAITING", 20)
    site = Site(tmp_path, quota=Quota(submissions_per_minute=0.001, burst=1))
    rules = [{"prefix": f"in/{user}", "style": "udnie", "user": user} for user in ("ann", "bob")]
    triggers = site.triggers(settings(watch=[{"prefix": "in"}], rules=rules))
    site.put(*[f"in/ann/{n}.ts" for n in range(40)])
    site.settle(triggers, 4)
    assert triggers.scans()["watch in"].waiting == 20
    site.put("in/bob/1.ts")
    site.settle(triggers, 3)
    assert sorted(run.user for run in site.all_runs()) == ["ann", "bob"]
    site.database.close()


def test_an_unfinished_file_is_read_again_after_ever_longer_pauses(
    site: Site, media: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[float] = []
    get_range = site.media.get_range

    def counted(*given: Any, **more: Any) -> bytes:
        reads.append(site.now)
        return get_range(*given, **more)

    monkeypatch.setattr(site.media, "get_range", counted)
    whole = media("cfr_24").read_bytes()
    site.put("in/a.mp4", data=whole[: len(whole) // 2])
    triggers = site.triggers()
    site.settle(triggers, 100)
    assert 1 < len(set(reads)) < 10
    site.put("in/a.mp4", data=whole)
    site.settle(triggers, 3)
    assert site.only_run().source == "in/a.mp4"


def test_a_video_over_the_limit_is_refused_where_it_can_be_seen(tmp_path: Path) -> None:
    site = Site(tmp_path, quota=Quota(source_bytes=100))
    site.put("in/a.ts")
    triggers = site.triggers()
    site.settle(triggers, 6)
    run = site.only_run()
    assert run.state == "failed"
    assert run.error is not None
    assert "376 bytes" in run.error
    site.database.close()


def test_a_store_that_does_not_answer_is_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    triggers = site.triggers()
    site.put("in/a.ts")
    working = site.media.list

    def down(prefix: str = "") -> Iterator[object]:
        raise RunFailed("can't list 'in': it can't be reached")

    monkeypatch.setattr(site.media, "list", down)
    site.settle(triggers, 3)
    assert triggers.faults() == {"watch in": "can't list 'in': it can't be reached"}
    monkeypatch.setattr(site.media, "list", working)
    site.now += 300
    site.settle(triggers)
    assert triggers.faults() == {}
    assert site.only_run().source == "in/a.ts"


def test_an_object_that_can_not_be_dealt_with_does_not_stop_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    triggers = site.triggers()
    site.put("in/a.ts", "in/b.ts", "in/c.ts")
    working = site.runs.submit

    def moody(submission: Submission) -> tuple[ServiceRun, bool]:
        if submission.source == "in/b.ts":
            raise RunFailed("the disk has a bad place")
        return working(submission)

    monkeypatch.setattr(triggers.arrivals, "_submit", moody)
    site.settle(triggers, 4)
    assert site.sources() == ["in/a.ts", "in/c.ts"]
    monkeypatch.setattr(triggers.arrivals, "_submit", working)
    site.settle(triggers)
    assert site.sources() == ["in/a.ts", "in/b.ts", "in/c.ts"]


def test_names_of_any_length_and_odd_trigger_files_do_not_stop_the_watch(site: Site) -> None:
    triggers = site.triggers()
    site.put("in/b.ts")
    Path(site.media.url, "in", "a" * 252 + ".ts").write_bytes(TS)  # its sidecar's can't be one
    site.put("in/trigger1.txt", data=b"in/" + b"x" * 300 + b".mp4")
    site.put("in/trigger2.txt", data=b"in/b.ts/c.ts")
    site.settle(triggers, 5)
    assert not triggers.faults()
    states = {run.source[3:12]: run.state for run in site.all_runs()}
    assert states == {"aaaaaaaaa": "queued", "b.ts": "queued", "trigger1.": "failed",
                      "trigger2.": "failed"}  # fmt: skip


def test_a_surprise_in_one_prefix_does_not_stop_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both = settings(watch=[{"prefix": "in", "style": "udnie"}, {"prefix": "too", "style": "udnie"}])
    triggers = site.triggers(both)
    working = site.media.list

    def moody(prefix: str = "") -> Iterator[object]:
        if prefix == "in":
            raise ZeroDivisionError
        yield from working(prefix)

    monkeypatch.setattr(site.media, "list", moody)
    site.put("in/a.ts", "too/b.ts")
    site.settle(triggers)
    assert site.sources() == ["too/b.ts"]
    assert list(triggers.faults()) == ["watch in"]


def test_the_thread_looks_by_itself_and_ends_when_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    quick = settings(
        watch=[{"prefix": "in", "style": "udnie"}],
        triggers={"interval_s": 0.1, "settle_s": 0.0},
    )
    made = threading.Event()

    def submit(submission: object) -> object:
        try:
            return site.runs.submit(submission)  # type: ignore[arg-type]
        finally:
            made.set()

    from time import time

    from impasto.service.triggers import Triggers

    site.put("in/a.ts")
    triggers = Triggers(site.media, site.runs, submit, quick, clock=time)  # type: ignore[arg-type]
    triggers.start()
    assert made.wait(30)
    triggers.stop()
    assert site.only_run().source == "in/a.ts"
    site.database.close()


@pytest.mark.parametrize(
    "case", ["cfr_24", "cfr_23976_mkv", "edit_list", "vfr_mkv", "odd_vp9", "two_audio"]
)
def test_a_whole_file_is_known_for_one_and_its_first_half_is_not(
    media: Callable[[str], Path], case: str
) -> None:
    data = media(case).read_bytes()

    def whole(part: bytes) -> bool:
        return is_whole(lambda start, stop: part[start:stop], len(part))

    assert whole(data)
    assert not whole(data[: len(data) // 2])
    assert not whole(data[:-1])
    assert not whole(bytes(len(data)))


HEADS = [b"", b"\0\0\0\x18ftypisom", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67",
         b"RIFF\xff\xff\xff\xffAVI "]  # fmt: skip


@given(data=st.binary(max_size=200), head=st.sampled_from(HEADS))
def test_any_bytes_are_answered_without_a_fault(data: bytes, head: bytes) -> None:
    data = head + data
    assert is_whole(lambda start, stop: data[start:stop], len(data)) in {True, False}


def test_names_of_videos_are_not_taken_for_unfinished_ones() -> None:
    assert not any(
        map(is_unfinished, ["a.mp4", "in/part/b.mkv", "in/tmp.1/c.part.mov", "ü (1).ts"])
    )


def test_the_watch_of_the_command_line_needs_no_rule_table() -> None:
    assert IN.watched == ("in",)
    assert [rule.prefix for rule in IN.rules] == ["in"]
