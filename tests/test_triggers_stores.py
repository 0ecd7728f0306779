"""Triggers on real servers: Azure's emulator, S3's, PostgreSQL."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import servers
from impasto.service.database import Database
from impasto.service.records import ServiceRun
from impasto.service.runs import Runs
from impasto.service.triggers.arrivals import Arrivals, version_of
from impasto.service.triggers.delivery import Delivered, deliver
from impasto.service.triggers.events import Arrival
from impasto.stores import Store, open_store
from postgres import postgres
from servers import S3, Azurite, azurite
from test_triggers_events import blob, read, s3
from trigger_site import IN, TS, Site, settings

_numbers = itertools.count()


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="module")
def buckets() -> Iterator[S3]:
    with servers.s3() as server:
        yield server


@pytest.fixture(params=["azure", "s3"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, media=_open(request, request.param))
    yield made
    made.database.close()


def _open(request: pytest.FixtureRequest, kind: str) -> Store:
    number = next(_numbers)
    if kind == "azure":
        server: Azurite = request.getfixturevalue("blobs")
        access = server.container("media", f"watched-{number}")
        return open_store(f"az://watched-{number}/films", [access])
    bucket: S3 = request.getfixturevalue("buckets")
    return open_store(f"s3://films/watched-{number}", [bucket.owner])


def test_every_version_becomes_one_run(site: Site) -> None:
    triggers = site.triggers()
    site.put("in/a.ts", "in/deep/ü (1).ts", "in/b.ts.part", "out/c.ts")
    site.put("in/empty.ts", data=b"")
    site.put("in/b.toml", data=b"style = 'udnie'")
    site.put("in/b.ts")
    site.settle(triggers)
    site.settle(site.triggers())
    assert site.sources() == ["in/a.ts", "in/b.ts", "in/deep/ü (1).ts"]
    assert {run.source: run.style for run in site.all_runs()}["in/b.ts"] == "udnie"
    site.put("in/a.ts", data=TS * 2)
    site.settle(triggers)
    assert site.sources() == ["in/a.ts", "in/a.ts", "in/b.ts", "in/deep/ü (1).ts"]
    assert not triggers.faults()


def test_half_a_video_is_waited_for(site: Site, media: Callable[[str], Path]) -> None:
    whole = media("cfr_24").read_bytes()
    triggers = site.triggers()
    site.put("in/a.mp4", data=whole[: len(whole) // 2])
    site.settle(triggers, 4)
    assert not site.all_runs()
    site.put("in/a.mp4", data=whole)
    site.settle(triggers)
    assert site.only_run().source == "in/a.mp4"


def test_an_event_with_the_stores_own_etag_and_the_watch_give_one_run(site: Site) -> None:
    container, _, prefix = site.media.url.partition("://")[2].partition("/")
    arrivals = Arrivals(site.media, site.runs, site.runs.submit, IN.rules, clock=site.clock)
    site.put("in/a.ts")
    etag = version_of(site.media.head("in/a.ts"))

    def send(key: str, etag: str, place: str = container) -> list[Delivered]:
        old, new = read([blob(f"{prefix}/{key}", etag)]), read(s3(f"{prefix}/{key}", f'"{etag}"'))
        found = [Arrival(container=place, key=event.key, etag=event.etag) for event in (*old, *new)]
        return [deliver(arrivals, event) for event in found]

    runs = {sent.run_id for sent in send("in/a.ts", etag)}
    site.settle(site.triggers())
    assert runs == {site.only_run().run_id}
    assert all(sent.run_id is None for sent in send("in/a.ts", "of-another-version"))
    assert all(sent.run_id is None for sent in send("in/gone.ts", etag))
    assert all("outside" in sent.ignored for sent in send("in/a.ts", etag, "elsewhere"))
    (outside,) = read([blob("elsewhere/in/a.ts", etag)])
    assert isinstance(outside, Arrival)
    assert "outside" in deliver(arrivals, outside).ignored


def test_an_account_that_is_not_ours_is_not_heard(tmp_path: Path) -> None:
    site = Site(tmp_path, media=open_store("memory://media"))
    arrivals = Arrivals(site.media, site.runs, site.runs.submit, IN.rules, clock=site.clock)
    site.put("in/a.ts")
    (event,) = read([blob("in/a.ts")])
    assert "outside" in deliver(arrivals, event, account="others").ignored
    assert deliver(arrivals, event, account="Films").run_id == site.only_run().run_id
    site.database.close()


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with postgres() as url:
        yield url


def test_processes_on_postgresql_make_one_run_of_each_video_and_one_of_each_refusal(
    tmp_path: Path, database_url: str
) -> None:
    media = open_store(str(tmp_path / "media"))
    media.put("in/bad.toml", b"stile = 'udnie'")
    for name in [*range(25), "bad"]:
        media.put(f"in/{name}.ts", TS)
    both = settings(
        watch=[{"prefix": "in", "style": "udnie"}],
        schedules=[{"every": "1h", "prefix": "in", "style": "udnie"}],
        triggers={"skip_existing": False},
    )
    sites = [Site(tmp_path / str(n), media=media) for n in range(3)]
    for site in sites:
        site.database.close()
        site.database = Database(database_url)
        site.runs = Runs(site.database, clock=site.clock)
    together = threading.Barrier(len(sites), timeout=60)
    faults: list[dict[str, str]] = []

    def watch(site: Site) -> None:
        together.wait()
        triggers = site.triggers(both)
        site.settle(triggers, 4)
        faults.append(triggers.faults())

    threads = [threading.Thread(target=watch, args=(site,)) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made: list[ServiceRun] = sites[0].all_runs()
    for site in sites:
        site.database.close()
    assert faults == [{}, {}, {}]
    assert sorted(run.source for run in made) == sorted(f"in/{n}.ts" for n in [*range(25), "bad"])
    assert [run.source for run in made if run.state == "failed"] == ["in/bad.ts"]
