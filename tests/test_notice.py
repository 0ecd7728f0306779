"""A machine that is about to go: who announces it, who is asked, and what a worker does then."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from impasto.config import load_settings
from impasto.engines import notice, open_engine
from impasto.errors import EngineLost, RequestError
from impasto.records import Chunk, Failed, Outcome, Task

_PATH = "/metadata/scheduledevents?api-version=2020-07-01"


@dataclass
class Host:
    """Stands in for the host of a virtual machine."""

    events: list[dict[str, object]] = field(default_factory=list)
    name: str | None = None
    """What it calls the machine; None where it doesn't tell."""
    asked: list[str] = field(default_factory=list)
    broken: int = 0
    """Answers that fail, before it is well."""
    url: str = ""

    def answer(self, path: str, metadata: str | None) -> tuple[int, bytes]:
        self.asked.append(path)
        if metadata != "true":
            return 400, b""
        if path != _PATH:
            return (404, b"") if self.name is None else (200, self.name.encode())
        if self.broken:
            self.broken -= 1
            return 200, b"not JSON"
        return 200, json.dumps({"DocumentIncarnation": 1, "Events": self.events}).encode()


@pytest.fixture
def host() -> Iterator[Host]:
    state = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = state.answer(self.path, self.headers.get("Metadata"))
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}{_PATH}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def _event(kind: str, *machines: str) -> dict[str, object]:
    return {
        "EventId": "602d9444-d2cd-49c7-8624-8643e7171297",
        "EventType": kind,
        "ResourceType": "VirtualMachine",
        "Resources": [*machines],
        "EventStatus": "Scheduled",
        "NotBefore": "Mon, 19 Sep 2016 18:29:47 GMT",
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
    }


@pytest.mark.parametrize("kind", ["Preempt", "Terminate", "Reboot", "Redeploy"])
def test_what_ends_this_machine_is_told_once(kind: str, host: Host) -> None:
    host.name = "Painters_3"
    host.events = [_event("Preempt", "painters_2"), _event(kind, "other", "painters_3")]
    host.broken = 1
    told: list[str] = []
    notice.watch(host.url, told.append, every_s=0.01)
    assert told == [f"the machine Painters_3 is about to go ({kind})"]


@pytest.mark.parametrize(
    "event",
    [_event("Preempt", "other"), _event("Freeze", "mine"), _event("Preempt"), {"EventType": "New"}],
)
def test_what_ends_nothing_here_is_no_notice(event: dict[str, object]) -> None:
    assert notice.coming(json.dumps({"Events": [event]}).encode(), "mine") is None


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"Events": 3}', b'{"Events": [{}]}', b"\xff"])
def test_a_document_that_is_none_is_a_value_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        notice.coming(answer, "mine")


def test_nobody_is_asked_on_a_machine_that_is_not_azures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = tmp_path / "chassis_asset_tag"
    monkeypatch.setattr(notice, "_ASSET_TAG", tag)
    assert notice.endpoint("auto") is None
    tag.write_text("No Asset Tag\n")
    assert notice.endpoint("auto") is None
    tag.write_text("7783-7084-3265-9085-8269-3286-77\n")
    assert notice.endpoint("auto") == notice.AZURE
    assert notice.endpoint("off") is None
    assert notice.endpoint("http://127.0.0.1:9/events") == "http://127.0.0.1:9/events"


@pytest.mark.parametrize(
    ("value", "found"), [(None, "auto"), ("off", "off"), ("http://h/e", "http://h/e")]
)
def test_the_environment_says_who_is_asked(value: str | None, found: str) -> None:
    environ = {"IMPASTO_SCHEDULED_EVENTS": value} if value else {}
    assert load_settings(environ).surroundings.scheduled_events == found


def test_an_endpoint_that_is_no_url_is_a_wrong_request() -> None:
    with pytest.raises(RequestError, match="must be auto, off or an http URL, got 'file:///x'"):
        load_settings({"IMPASTO_SCHEDULED_EVENTS": "file:///x"})


@pytest.mark.parametrize("engine", ["local", "mpi"])
def test_workers_of_a_machine_that_goes_take_no_more(
    engine: str, host: Host, tmp_path: Path
) -> None:
    task = Task("nowhere", "film.mp4", str(tmp_path), scheduled_events=host.url)
    taken: list[int] = []

    def chunks() -> Iterator[Chunk]:
        for index in range(100_000):
            taken.append(index)
            yield Chunk(index, 0, 1, 0)

    seen: list[Outcome] = []
    outcomes = open_engine(engine, workers=1).map(task, chunks(), lambda _: None)
    seen.append(next(outcomes))
    assert not _lost(seen[0])
    host.events = [_event("Preempt", socket.gethostname())]
    with pytest.raises(EngineLost, match=r"is about to go \(Preempt\)"):
        seen.extend(outcomes)
    # The chunk that says that there is more to do was never given to anybody.
    assert len(taken) - len(seen) in {0, 1}
    assert [one.chunk for one in seen] == taken[: len(seen)]


def _lost(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.lost_worker
