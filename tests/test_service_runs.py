"""What is accepted stays, once; whose turn it is; what a user may ask for; on both databases."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from impasto.errors import Conflict, LimitExceeded, NotFound, RequestError
from impasto.service.database import Database, sqlite_url
from impasto.service.limits import Quota, next_arrival
from impasto.service.queue import Ended, Handed, Queue
from impasto.service.records import ServiceRun, Submission
from impasto.service.runs import Runs, record
from impasto.service.settings import read_settings
from impasto.service.submissions import check_path
from postgres import postgres
from served import PATIENCE_S, wait_for

_ONE = Submission(source="in/a.mp4", style="starry_night", user="ann")


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        made = Database(sqlite_url(tmp_path / "service.db"))
    else:
        made = Database(request.getfixturevalue("server"))
        with made.transaction() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    yield made
    made.close()


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def runs(database: Database, clock: _Clock) -> Runs:
    return Runs(database, clock=clock)


def _submit(runs: Runs, user: str = "ann", **more: Any) -> str:
    return runs.submit(dataclasses.replace(_ONE, user=user, **more))[0].run_id


def _joined(runs: Runs, name: str) -> Queue:
    queue = Queue(runs, name)
    queue.join()
    return queue


def test_a_submission_is_found_again_as_it_was(runs: Runs) -> None:
    made, new = runs.submit(
        dataclasses.replace(_ONE, style={"udnie": 0.5, "mondrian": 0.5}, options={"crf": 20})
    )
    assert new
    assert runs.get(made.run_id) == made
    assert made.state == "queued"
    assert made.style == {"udnie": 0.5, "mondrian": 0.5}
    assert [event.kind for event in runs.events(made.run_id)] == ["state"]


def test_the_same_idempotency_key_gives_the_same_run(runs: Runs) -> None:
    once, new = runs.submit(dataclasses.replace(_ONE, idempotency_key="k"))
    again, new_again = runs.submit(dataclasses.replace(_ONE, idempotency_key="k"))
    assert (new, new_again, once.run_id) == (True, False, again.run_id)
    other, new_other = runs.submit(dataclasses.replace(_ONE, user="bob", idempotency_key="k"))
    assert new_other
    assert other.run_id != once.run_id
    with pytest.raises(RequestError, match="asked for something else"):
        runs.submit(dataclasses.replace(_ONE, source="in/b.mp4", idempotency_key="k"))


def test_many_threads_with_one_content_give_one_run(runs: Runs) -> None:
    def submit(number: int) -> tuple[str, bool]:
        run, new = runs.submit(dataclasses.replace(_ONE, user=f"u{number % 3}", content="a@1"))
        return run.run_id, new

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(40)))
    assert len({run_id for run_id, _ in answers}) == 1
    assert sum(new for _, new in answers) == 1


def test_of_many_submissions_at_once_only_the_wrong_ones_fail(runs: Runs) -> None:
    _submit(runs, idempotency_key="7")

    def submit(number: int) -> bool:
        source = "in/other.mp4" if number % 10 == 7 else "in/a.mp4"
        try:
            runs.submit(dataclasses.replace(_ONE, source=source, idempotency_key=str(number % 10)))
        except RequestError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(submit, range(40)))
    assert taken == [number % 10 != 7 for number in range(40)]
    assert runs.counts() == {"queued": 10}


def test_a_run_is_there_with_what_belongs_to_it_or_not_at_all(runs: Runs) -> None:
    def fail(_connection: sa.Connection, run: ServiceRun) -> None:
        raise RequestError(f"{run.run_id} can't be written down")

    with pytest.raises(RequestError, match="written down"):
        runs.submit(_ONE, also=fail)
    assert runs.counts() == {}
    assert runs.submit(_ONE)[1]


def test_pages_are_the_latest_first_and_leave_nothing_out(runs: Runs) -> None:
    made = [_submit(runs, user=f"u{n % 2}", source=f"in/{n}.mp4") for n in range(7)]
    seen: list[str] = []
    after = None
    while True:
        page = runs.page(after=after, limit=3)
        seen += [run.run_id for run in page.runs]
        if (after := page.next) is None:
            break
    assert seen == made[::-1]
    assert [run.run_id for run in runs.page(user="u1").runs] == made[1::2][::-1]
    assert [run.run_id for run in runs.page(source="in/3").runs] == [made[3]]
    assert runs.page(style="udnie").runs == ()
    with pytest.raises(RequestError, match="no cursor"):
        runs.page(after="1; drop table runs")


def test_users_take_turns_whatever_one_of_them_has_queued(runs: Runs) -> None:
    flood = [_submit(runs, "ann", priority=100) for _ in range(20)]
    queue = _joined(runs, "p")
    (first,) = queue.take(1)
    assert first.run_id == flood[0]
    other = _submit(runs, "bob")
    queue.settle(first, Ended("succeeded"))
    (second,) = queue.take(1)
    assert second.run_id == other, "bob waits for one running job at most"
    third_user = _submit(runs, "eve")
    assert {handed.run_id for handed in queue.take(3)} == {third_user, flood[1]}


def test_priorities_order_the_runs_of_one_user(runs: Runs) -> None:
    made = {priority: _submit(runs, priority=priority) for priority in (0, 5, -5)}
    taken = _joined(runs, "p").take(3)
    assert [handed.run_id for handed in taken] == [made[5], made[0], made[-5]]


def test_several_processes_never_take_the_same_run(runs: Runs) -> None:
    for n in range(30):
        _submit(runs, f"u{n % 4}")
    queues = [_joined(runs, f"p{n}") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda queue: queue.take(5), queues))
    assert [len(each) for each in taken] == [5] * 4
    assert len({handed.run_id for each in taken for handed in each}) == 20


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_asked(runs: Runs) -> None:
    queue = _joined(runs, "p")
    running = _submit(runs)
    (handed,) = queue.take(1)
    queue.begin(handed, 1)
    waiting = _submit(runs)
    assert runs.cancel(waiting).state == "cancelled"
    assert runs.cancel(running).cancelling
    assert queue.cancelling() == {running}
    queue.settle(handed, Ended("cancelled"))
    assert runs.get(running).state == "cancelled"
    with pytest.raises(Conflict, match="has cancelled"):
        runs.cancel(running)
    with pytest.raises(NotFound):
        runs.cancel("nothing")


def test_a_retry_is_a_new_generation_that_the_old_one_can_not_settle(runs: Runs) -> None:
    queue = _joined(runs, "p")
    run_id = _submit(runs)
    (handed,) = queue.take(1)
    queue.begin(handed, 1)
    queue.count_attempt(handed, 1, "it broke")
    queue.count_attempt(handed, 1, "it broke")
    queue.settle(handed, Ended("failed", "it broke"))
    assert (runs.get(run_id).state, runs.get(run_id).attempts) == ("set_aside", 1)
    assert runs.retry(run_id).attempts == 0
    queue.settle(handed, Ended("succeeded"))
    assert runs.get(run_id).state == "queued"
    (again,) = queue.take(1)
    assert again == Handed(run_id, handed.generation + 1)


@pytest.mark.parametrize(("kind", "kept"), [("failed", "plan"), ("refused", None)])
def test_a_retry_after_a_refusal_takes_no_target_for_its_own(
    runs: Runs, kind: Literal["failed", "refused"], kept: str | None
) -> None:
    queue = _joined(runs, "p")
    run_id = _submit(runs)
    (handed,) = queue.take(1)
    queue.begin(handed, 1)
    queue.tell(handed, "plan", {}, plan_id="plan")
    queue.settle(handed, Ended(kind, "in/a.mp4 exists"))
    assert runs.retry(run_id).plan_id == kept


def test_what_a_dead_process_had_is_adopted_by_one_other(runs: Runs, clock: _Clock) -> None:
    dead, living, late = (_joined(runs, name) for name in ("dead", "living", "late"))
    run_id = _submit(runs)
    (handed,) = dead.take(1)
    for _ in range(6):
        assert living.adopt() == []
        clock.now += 5.0
        assert living.beat()
        assert late.beat()
    assert living.adopt() == [handed]
    assert late.adopt() == []
    assert not dead.beat(), "it learns that it was taken for dead"
    assert living.owned() == [handed]
    assert runs.get(run_id).state == "queued"


def test_after_the_database_was_away_nobody_is_taken_for_dead_before_a_period_is_over(
    runs: Runs, clock: _Clock
) -> None:
    a, b, c, dead = (_joined(runs, name) for name in ("a", "b", "c", "dead"))
    _submit(runs)
    (handed,) = dead.take(1)
    clock.now += 60.0
    assert a.beat()
    assert a.adopt() == []
    fresh = _joined(runs, "fresh")
    assert fresh.adopt() == [], "one that has just begun knows no better"
    clock.now += 10.0
    assert b.beat()
    assert b.adopt() == []
    for _ in range(5):
        for each in (a, b, c, fresh):
            assert each.beat()
        clock.now += 5.0
    assert a.adopt() == [handed]
    assert all(each.beat() for each in (a, b, c, fresh))
    assert not dead.beat()


def test_what_a_process_had_that_left_is_adopted_at_once(runs: Runs) -> None:
    leaving = _joined(runs, "leaving")
    _submit(runs)
    (handed,) = leaving.take(1)
    leaving.leave()
    assert _joined(runs, "next").adopt() == [handed]


def test_a_run_that_takes_its_process_along_every_time_is_set_aside(runs: Runs) -> None:
    queue = _joined(runs, "p")
    run_id = _submit(runs)
    (handed,) = queue.take(1)
    begun = 0
    while queue.begin(handed, 1) is not None:
        begun += 1
    assert begun == 11
    assert runs.get(run_id).state == "set_aside"
    assert "ended 11 times" in (runs.get(run_id).error or "")


def test_a_user_with_too_many_open_runs_is_told_when_to_come_again(database: Database) -> None:
    runs = Runs(database, Quota(open_runs=2), clock=_Clock())
    _submit(runs), _submit(runs)
    with pytest.raises(LimitExceeded, match="2 may be") as told:
        _submit(runs)
    assert told.value.retry_after_s > 0
    _submit(runs, "bob")


def test_a_retry_counts_as_a_submission(database: Database) -> None:
    runs = Runs(database, Quota(open_runs=1), clock=_Clock())
    ended = [_submit(runs)]
    runs.cancel(ended[0])
    ended.append(_submit(runs))
    runs.cancel(ended[1])
    assert runs.retry(ended[0]).state == "queued"
    with pytest.raises(LimitExceeded, match="1 may be") as told:
        runs.retry(ended[1])
    assert told.value.retry_after_s > 0
    assert runs.get(ended[1]).state == "cancelled"
    runs.cancel(ended[0])
    hasty = Runs(database, Quota(submissions_per_minute=60, burst=1), clock=lambda: 2000.0)
    hasty.retry(ended[0])
    with pytest.raises(LimitExceeded, match="submissions a minute"):
        hasty.retry(ended[1])


def test_a_source_that_is_too_large_is_refused(database: Database) -> None:
    runs = Runs(database, Quota(source_bytes=10), clock=_Clock())
    with pytest.raises(LimitExceeded, match="11 bytes"):
        _submit(runs, source_bytes=11)


def test_a_flood_of_submissions_is_refused_and_costs_nothing(database: Database) -> None:
    clock = _Clock()
    runs = Runs(database, Quota(submissions_per_minute=60, burst=5), clock=clock)
    made = [_submit(runs) for _ in range(5)]
    for _ in range(3):
        with pytest.raises(LimitExceeded) as told:
            _submit(runs)
    assert 0 < told.value.retry_after_s <= 1.0
    clock.now += told.value.retry_after_s
    made.append(_submit(runs))
    assert runs.counts() == {"queued": len(made)}


@given(st.lists(st.floats(0, 30), max_size=60))
def test_no_window_ever_admits_more_than_rate_and_burst(waits: list[float]) -> None:
    quota = Quota(submissions_per_minute=30, burst=4)
    now, arrival, admitted = 1000.0, None, []
    for wait in waits:
        now += wait
        try:
            arrival = next_arrival(arrival, now, quota)
        except LimitExceeded as error:
            assert error.retry_after_s > 0  # noqa: PT017 - it may or may not be raised
            continue
        admitted.append(now)
    for place, begin in enumerate(admitted):
        for count, end in enumerate(admitted[place:], 1):
            assert count <= 4 + (end - begin) / 2 + 1e-6


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../up.mp4", "in/../../up.mp4", "a//b", "./a", "in/a\n.mp4", "in\\a.mp4",
     "http://169.254.169.254/latest", "file:///etc/passwd", "in/\x1b[2Ja.mp4", "a" * 1025,
     "a\u2028b"],
)  # fmt: skip
def test_a_path_never_leaves_the_store_or_troubles_a_log(path: str) -> None:
    with pytest.raises(RequestError):
        check_path(path, name="source")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"options": {"engine": "mpi"}}, "unknown option 'engine'"),
        ({"options": {"work": "/srv"}}, "unknown option 'work'"),
        ({"options": {"perceptual": "/etc/passwd"}}, "unknown option"),
        ({"options": {"crf": "low"}}, "options: Expected"),
        ({"options": {"strength": 2}}, "between 0 and 1"),
        ({"options": {"chunk_frames": 0}}, "above zero"),
        ({"style": "/etc/passwd"}, "a style's name"),
        ({"style": {}}, "at least one"),
        ({"style": None}, "either a style or a model"),
        ({"target": "in/a.mp4"}, "source itself"),
        ({"priority": 1000}, "priority"),
        ({"idempotency_key": ""}, "idempotency key"),
    ],
)
def test_a_wrong_submission_is_refused_and_leaves_nothing(
    runs: Runs, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        _submit(runs, **more)
    assert runs.counts() == {}


def test_a_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "service.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(Exception, match="does not answer"):
        Database(sqlite_url(tmp_path / "service.db"))
    with pytest.raises(RequestError, match="sqlite:///PATH or postgresql://"):
        Database("mysql://root@localhost/impasto")
    with pytest.raises(RequestError, match=r"got 'service\.db'"):
        Database("service.db")


def test_what_sqlite_has_accepted_is_on_disk(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "service.db"))
    runs = Runs(database)
    run_id = _submit(runs)
    with sqlite3.connect(tmp_path / "service.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("SELECT run_id FROM runs").fetchall() == [(run_id,)]
    other.close()
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, (
            "every commit is synced"
        )
    database.close()


def test_who_asks_for_what_came_since_an_event_misses_none(
    runs: Runs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that write to a run at once, the first to write is the last to commit."""
    queue = _joined(runs, "a")
    run_id = _submit(runs)
    (handed,) = queue.take(1)
    queue.begin(handed, 1)
    written, may_commit = threading.Event(), threading.Event()

    def written_slowly(*given: Any) -> None:
        record(*given)
        written.set()
        assert may_commit.wait(PATIENCE_S)

    monkeypatch.setattr("impasto.service.queue.record", written_slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(queue.tell, handed, "note", {"text": "first"})
        assert written.wait(PATIENCE_S)
        second = pool.submit(runs.cancel, run_id)
        wait_for(lambda: second.done() or _somebody_waits(database))
        seen = runs.events(run_id)
        may_commit.set()
    assert first.exception() is None
    assert second.result().cancelling
    later = runs.events(run_id, after=seen[-1].id)
    assert [*seen, *later] == [*runs.events(run_id)]
    assert [event.data["text"] for event in later] == ["first", "it is being cancelled"]


def _somebody_waits(database: Database) -> bool:
    if database.is_sqlite:
        return True  # which has one writer at a time
    with database.read() as connection:
        return bool(
            connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            ).scalar()
        )


@pytest.mark.parametrize(
    ("media", "system"),
    [
        ("/x/m", "/x/m/"),
        ("/x/m", "/x/m/runs"),
        ("/x/m/in", "/x/./m"),
        ("file:///x/m", "/x/n/../m"),
        ("az://films", "az://films/"),
        ("az://films/a", "az://films"),
        ("s3://films/a", "S3://films/a/system"),
    ],
)
def test_neither_of_the_stores_may_lie_within_the_other(media: str, system: str) -> None:
    with pytest.raises(RequestError, match="neither may lie within the other") as refused:
        read_settings({}, media=media, system=system)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("media", "system"),
    [("/x/m", "/x/media"), ("az://films/media", "az://films/system"), ("az://a", "s3://a"),
     ("/films", "az://films")],
)  # fmt: skip
def test_stores_beside_each_other_are_two(media: str, system: str) -> None:
    assert read_settings({}, media=media, system=system).system == system
