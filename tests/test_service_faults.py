"""Whatever happens to the service, every accepted run ends, once, with the bytes it should have."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from impasto.cli import main
from impasto.errors import RequestError
from impasto.run import score
from impasto.service.database import Database
from impasto.service.retention import clean_database
from impasto.stores import open_store
from painting import settings_in
from postgres import postgres, postgres_server
from served import PLAIN, Served, wait_for

_RUNS = range(20, 30)
"""Ten runs, told apart by their quality."""
_KILLS = 5


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, config='engine = "inline"\n')
    yield served
    served.kill()


def _undisturbed(served: Served, folder: Path, crf: int) -> bytes:
    """The target's bytes of a run that nothing happens to."""
    from impasto.service.submissions import read_options

    options = replace(read_options({**PLAIN, "crf": crf}), engine="inline")
    target = folder / f"{crf}.mp4"
    score(
        served.media / "in/a.mp4",
        model=served.media / "net.onnx",
        target=target,
        options=options,
        settings=settings_in(folder),
    )
    return target.read_bytes()


def _submit(served: Served, crf: int) -> str:
    return served.submit(f"out/{crf}.mp4", options={**PLAIN, "crf": crf}, style=None)


def _check(services: list[Served], made: dict[int, str], folder: Path) -> None:
    """Every run has succeeded, once, and its target is what it should be."""
    folder.mkdir()
    for crf, run_id in made.items():
        run = services[0].ended(run_id)
        assert run["state"] == "succeeded", run
        assert run["attempts"] == 0, "the service's death is not the run's failure"
        assert (services[0].media / f"out/{crf}.mp4").read_bytes() == _undisturbed(
            services[0], folder, crf
        )
        told = Counter(event["data"].get("state") for event in _events(services[0], run_id))
        assert told["succeeded"] == 1
    assert not list(services[0].media.rglob("*.part"))


def _events(served: Served, run_id: str) -> list[dict[str, Any]]:
    import sqlalchemy as sa

    from impasto.service.database import Database
    from impasto.service.tables import events_table

    database = Database(served.database or f"sqlite:///{served.folder / 'service.db'}")
    with database.read() as connection:
        rows = connection.execute(
            sa.select(events_table).where(events_table.c.run_id == run_id)
        ).all()
    database.close()
    return [{"kind": row.kind, "data": row.data} for row in rows]


def test_a_service_killed_at_any_point_finishes_every_run_once(
    service: Served, tmp_path: Path
) -> None:
    service.start()
    made = {crf: _submit(service, crf) for crf in _RUNS}
    random = np.random.default_rng(5)
    for _ in range(_KILLS):
        time.sleep(random.uniform(0.0, 3.0))
        service.kill()
        service.start()
    _check([service], made, tmp_path / "undisturbed")


def test_two_services_on_postgresql_share_the_runs_of_one_that_dies(tmp_path: Path) -> None:
    with postgres() as url:
        one, other = (
            Served(tmp_path, database=url, name=name,
                   config='engine = "inline"\nlost_after_s = 12.0\n')
            for name in ("one", "other")
        )  # fmt: skip
        try:
            one.start()
            other.token = one.token
            other.start()
            made = {crf: _submit(one, crf) for crf in _RUNS}

            def workers() -> set[str]:
                return {
                    event["data"]["worker"]
                    for run_id in made.values()
                    for event in _events(one, run_id)
                    if event["kind"] == "chunk"
                }

            wait_for(lambda: len(workers()) > 1)  # both are at work
            one.kill()
            _check([other], made, tmp_path / "undisturbed")
        finally:
            one.kill()
            other.kill()


def test_while_the_database_is_away_nothing_is_accepted_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    with postgres_server() as server:
        service = Served(tmp_path, database=server.url, config='engine = "inline"\n').start()
        try:
            made = {crf: _submit(service, crf) for crf in (20, 21, 22)}
            wait_for(lambda: service.run(made[20])["state"] == "running", every_s=0.02)
            server.stop()
            wait_for(lambda: service.ask("GET", "/ready").status_code == 503)
            refused = service.ask("POST", "/v1/runs", json={"source": "in/a.mp4", "style": "udnie"})
            assert refused.status_code == 503
            assert service.ask("GET", "/health").status_code == 200
            server.start()
            _check([service], made, tmp_path / "undisturbed")
            assert service.ask("GET", "/ready").status_code == 200
        finally:
            assert service.stop() == 0


def test_after_a_long_absence_of_the_database_no_service_ends_another(tmp_path: Path) -> None:
    with postgres_server() as server:
        config = 'engine = "inline"\nlost_after_s = 3.0\n'
        one, other = (
            Served(tmp_path, database=server.url, name=name, config=config)
            for name in ("one", "other")
        )
        try:
            one.start()
            other.token = one.token
            other.start()
            server.stop()
            wait_for(lambda: one.ask("GET", "/ready").status_code == 503)
            wait_for(lambda: other.ask("GET", "/ready").status_code == 503)
            time.sleep(4.0)
            server.start()
            made = {crf: _submit(one, crf) for crf in (20, 21)}
            _check([one, other], made, tmp_path / "undisturbed")
            for each in (one, other):
                assert each.ask("GET", "/ready").status_code == 200
                assert "silent for too long" not in each.said
        finally:
            assert one.stop() == other.stop() == 0


def test_a_service_that_is_told_to_stop_stops_its_runs_and_goes_on_at_the_next_start(
    service: Served, tmp_path: Path
) -> None:
    service.start()
    made = {crf: _submit(service, crf) for crf in (20, 21)}
    wait_for(lambda: service.run(made[20])["state"] == "running", every_s=0.02)
    processes = psutil.Process(service.pid).children(recursive=True)
    assert service.stop() == 0
    assert not any(process.is_running() for process in processes)
    service.start()
    assert "admin token" not in service.said.rpartition("stopping")[2]
    _check([service], made, tmp_path / "undisturbed")


def test_a_run_whose_process_is_killed_is_tried_again(service: Served, tmp_path: Path) -> None:
    service.start()
    run_id = _submit(service, 20)
    wait_for(lambda: service.run(run_id)["progress"]["stage"] == "score", every_s=0.01)
    for process in psutil.Process(service.pid).children():
        process.send_signal(signal.SIGKILL)
    run = service.ended(run_id)
    assert run["state"] == "succeeded"
    assert run["attempts"] <= 1
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    assert (service.media / "out/20.mp4").read_bytes() == _undisturbed(service, folder, 20)


def test_a_running_run_is_cancelled_and_retried_to_the_same_bytes(
    service: Served, tmp_path: Path
) -> None:
    service.start()
    run_id = _submit(service, 20)
    wait_for(lambda: service.run(run_id)["state"] == "running", every_s=0.02)
    assert service.ask("POST", f"/v1/runs/{run_id}/cancel").status_code < 300
    run = service.ended(run_id)
    if run["state"] == "cancelled":
        assert service.ask("POST", f"/v1/runs/{run_id}/retry").status_code < 300
    _check([service], {20: run_id}, tmp_path / "undisturbed")


def test_two_services_on_one_sqlite_file_are_refused(service: Served) -> None:
    service.start()
    second = Served(service.folder, name="second")
    with pytest.raises(AssertionError, match="several processes need PostgreSQL"):
        second.start()
    second.kill()
    assert service.ask("GET", "/health").status_code == 200


def test_a_media_folder_that_is_not_there_is_refused_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for media in ("no pe", (tmp_path / "no pe").as_uri()):
        assert main(["serve", "--media", media, "--system", "system", "--port", "0"]) == 2
        assert capsys.readouterr().err == (
            f"impasto: there is no folder '{tmp_path}/no pe' for the media store; make it first: "
            f"mkdir -p '{tmp_path}/no pe'\n"
        )
    assert not list(tmp_path.iterdir())


def test_a_database_that_can_not_be_made_is_told_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=f"can't make the database '{tmp_path}/file/x.db'"):
        Database("sqlite:///file/x.db")
    with pytest.raises(RequestError, match=f"there is no database '{tmp_path}/x.db'"):
        clean_database("sqlite:///x.db", open_store("system"), ended_before=0, dry_run=True)


def test_with_no_run_no_process_is_held(tmp_path: Path) -> None:
    service = Served(tmp_path, config='engine = "local"\nkeep_warm_s = 1.0\n').start()
    try:
        before = psutil.Process(service.pid).children(recursive=True)
        assert before == []
        service.ended(_submit(service, 20))
        wait_for(lambda: not psutil.Process(service.pid).children(recursive=True))
        assert service.ended(_submit(service, 21))["state"] == "succeeded"
    finally:
        assert service.stop() == 0


def test_the_first_start_alone_prints_the_admin_token(service: Served) -> None:
    service.start()
    assert service.said.count("admin token: ") == 1
    service.stop()
    service.start()
    assert service.said.count("admin token: ") == 1
    kept = [path for path in service.folder.glob("service.db*") if path.suffix != ".lock"]
    assert len(kept) > 1
    assert not any(path.stat().st_mode & 0o077 for path in kept), "for the service alone to read"
