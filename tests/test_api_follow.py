"""Live progress by server-sent events, over a real connection."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi.routing
import httpx
import pytest

from api_service import Made, make_service, served
from impasto.service.api.followers import Followers
from impasto.service.limits import Quota
from impasto.service.records import ServiceRun, Submission
from impasto.service.runs import Runs, change, record
from served import wait_for


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_service(tmp_path)


def submit(made: Made) -> ServiceRun:
    asked = Submission(source="in/a.mp4", style="starry_night", user="submitter")
    return made.runs.submit(asked)[0]


def tell(made: Made, run_id: str, kind: str, **data: Any) -> None:
    with made.runs.database.transaction() as connection:
        record(connection, run_id, made.clock(), kind, data)
        if kind == "state":
            change(connection, run_id, state=data["state"])


def read(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Events of a stream, as the HTML standard parses them; comments as {"comment": …}."""
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if not line and event:
            yield event
            event = {}
        elif line.startswith(":"):
            yield {"comment": value.strip()}
        elif line:
            event[name] = json.loads(value) if name == "data" else value.strip()


def test_a_stream_tells_everything_and_ends_with_the_run(made: Made) -> None:
    run_id = submit(made).run_id
    tell(made, run_id, "stage", name="probe")
    with made.client() as client, client.stream("GET", f"/v1/runs/{run_id}/events") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        events = read(stream.iter_lines())
        first = next(events)
        assert (first["event"], first["data"]["state"]) == ("state", "queued")
        assert next(events)["data"]["name"] == "probe"
        tell(made, run_id, "note", text="two\nlines and ünicode")
        live = next(events)
        assert live["data"] == {"at": made.clock.now, "text": "two\nlines and ünicode"}
        assert int(live["id"]) > int(first["id"])
        tell(made, run_id, "state", state="succeeded")
        assert [event["data"]["state"] for event in events] == ["succeeded"]


def test_a_user_may_follow_so_many_runs_at_a_time(tmp_path: Path) -> None:
    made = make_service(tmp_path, quota=Quota(streams=2))
    path = f"/v1/runs/{submit(made).run_id}/events"
    with made.client() as client:
        with client.stream("GET", path), client.stream("GET", path):
            refused = client.get(path)
            assert refused.status_code == 429
            assert refused.headers["Retry-After"] == "5"
            assert "2 of your streams of events are under way" in refused.json()["detail"]
            with (
                made.at(str(client.base_url), "operator") as other,
                other.stream("GET", path) as stream,
            ):
                assert stream.status_code == 200
            assert client.get("/health").status_code == 200

        def let_in() -> bool:
            with client.stream("GET", path) as stream:
                return stream.status_code == 200

        wait_for(let_in)


def test_a_follower_that_comes_again_goes_on_where_it_was(made: Made) -> None:
    run_id = submit(made).run_id
    for n in range(5):
        tell(made, run_id, "progress", frames_done=n)
    tell(made, run_id, "state", state="failed")
    with made.client() as client:
        whole = list(read(iter(client.get(f"/v1/runs/{run_id}/events").text.splitlines())))
        assert len(whole) == 7
        headers = {"Last-Event-ID": whole[3]["id"]}
        rest = client.get(f"/v1/runs/{run_id}/events", headers=headers).text
        assert list(read(iter(rest.splitlines()))) == whole[4:]
        headers = {"Last-Event-ID": whole[-1]["id"]}
        assert client.get(f"/v1/runs/{run_id}/events", headers=headers).text.strip() == ""
        assert client.get(
            f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "1; DROP"}
        ).status_code == 422  # fmt: skip


def test_a_retried_run_is_followed_past_its_first_end(made: Made) -> None:
    run_id = submit(made).run_id
    made.runs.cancel(run_id)
    made.runs.retry(run_id)
    with made.client() as client, client.stream("GET", f"/v1/runs/{run_id}/events") as stream:
        events = read(stream.iter_lines())
        assert [next(events)["data"]["state"] for _ in range(3)] == [
            "queued", "cancelled", "queued"
        ]  # fmt: skip
        tell(made, run_id, "state", state="succeeded")
        assert next(events)["data"]["state"] == "succeeded"
        assert list(events) == []


@pytest.mark.parametrize("moment", ["before its state is read", "after it", "at the last event"])
def test_no_run_ends_unheard_however_it_falls(
    made: Made, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    run_id = submit(made).run_id
    get, events = Runs.get, Runs.events
    left = [True]

    def ends() -> None:
        if left:
            left.pop()
            tell(made, run_id, "state", state="succeeded")

    def getting(self: Runs, asked: str) -> ServiceRun:
        if moment == "before its state is read":
            ends()
        found = get(self, asked)
        if moment == "after it":
            ends()
        return found

    def reading(self: Runs, asked: str, **more: Any) -> Any:
        found = events(self, asked, **more)
        if moment == "at the last event" and not found:
            ends()
        return found

    async def heard() -> list[str]:
        followers = Followers(made.runs, every_s=0.01)
        return [event.data["state"] async for event in followers.follow(run_id)]

    monkeypatch.setattr(Runs, "get", getting)
    monkeypatch.setattr(Runs, "events", reading)
    assert asyncio.run(asyncio.wait_for(heard(), 20)) == ["queued", "succeeded"]


def test_a_quiet_stream_is_kept_alive(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    run_id = submit(made).run_id
    with made.client() as client, client.stream("GET", f"/v1/runs/{run_id}/events") as stream:
        events = read(stream.iter_lines())
        assert next(events)["event"] == "state"
        assert "comment" in next(events)
        tell(made, run_id, "state", state="cancelled")
        assert [event for event in events if "comment" not in event]


def test_a_hundred_followers_cost_one_poll(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = submit(made).run_id
    reads = 0
    polls = 0
    events_of, news = Runs.events, Followers._news

    def counted(self: Runs, *args: Any, **more: Any) -> Any:
        nonlocal reads
        reads += 1
        return events_of(self, *args, **more)

    def counted_news(self: Followers, *args: Any) -> Any:
        nonlocal polls
        polls += 1
        return news(self, *args)

    monkeypatch.setattr(Runs, "events", counted)
    monkeypatch.setattr(Followers, "_news", counted_news)
    url_of = f"/v1/runs/{run_id}/events"
    headers = {"Authorization": f"Bearer {made.tokens['submitter']}"}
    ready = threading.Barrier(2)

    async def follow(client: httpx.AsyncClient, heard: list[int], all_there: asyncio.Event) -> int:
        async with client.stream("GET", url_of) as stream:
            count = 0
            async for line in stream.aiter_lines():
                count += line.startswith("event:")
                if count == 1 and line.startswith("event:"):
                    heard.append(1)
                    if len(heard) == 100:
                        all_there.set()
            return count

    async def everybody(url: str) -> list[int]:
        heard: list[int] = []
        all_there = asyncio.Event()
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=60, limits=limits
        ) as client:
            tasks = [asyncio.create_task(follow(client, heard, all_there)) for _ in range(100)]
            await all_there.wait()
            await asyncio.to_thread(ready.wait)
            return await asyncio.gather(*tasks)

    def work() -> None:
        ready.wait(60)
        for n in range(20):
            tell(made, run_id, "progress", frames_done=n)
        tell(made, run_id, "state", state="succeeded")

    worker = threading.Thread(target=work)
    with served(made.app) as url:
        worker.start()
        assert asyncio.run(everybody(url)) == [22] * 100
    worker.join()
    assert reads < 500  # each reads the past, and 2,200 events were told to a hundred
    assert polls < 500


def test_nobody_following_asks_the_database_nothing(made: Made) -> None:
    async def follow_and_leave() -> None:
        followers = Followers(made.runs, every_s=0.01)
        stream = followers.follow(submit(made).run_id)
        assert (await anext(stream)).kind == "state"
        assert followers._polling is not None
        await stream.aclose()
        assert followers._polling is None
        assert followers._feeds == {}

    asyncio.run(follow_and_leave())


def test_the_server_stops_while_somebody_follows(made: Made) -> None:
    run_id = submit(made).run_id
    with served(made.app) as url:
        client = made.at(url, "submitter")
        stream = client.send(client.build_request("GET", f"/v1/runs/{run_id}/events"), stream=True)
        events = read(stream.iter_lines())
        assert next(events)["event"] == "state"
    assert list(events) == []  # the stream ended whole; nothing was cut off
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health", timeout=2)
    client.close()
