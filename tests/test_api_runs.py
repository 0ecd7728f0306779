"""Runs through the API: asked for, listed, shown, cancelled, retried, fetched."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_service import MP4, Made, make_service, served
from impasto.errors import Conflict
from impasto.observe import logs
from impasto.observe.journal import Journal
from impasto.observe.logs import Line, encode, keep_attempt, now
from impasto.records import Failed
from impasto.service.api.forms import WORDS
from impasto.service.api.models import RunOptions, RunRequest
from impasto.service.api.reference import updated
from impasto.service.carrier import Carrier
from impasto.service.job import Order, Said, Setup, make
from impasto.service.jobs import Jobs
from impasto.service.limits import Quota
from impasto.service.queue import Queue
from impasto.service.records import Submission
from impasto.service.runs import change, record
from impasto.service.settings import JobLimits
from impasto.service.submissions import OPTIONS
from impasto.stores import open_store
from painting import settings_in
from served import PLAIN, Served

ASKED: dict[str, Any] = {"source": "in/a.mp4", "style": "starry_night"}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_service(tmp_path)


@pytest.fixture
def client(made: Made) -> Iterator[httpx.Client]:
    with made.client() as client:
        yield client


def ask(client: httpx.Client, **more: Any) -> str:
    answer = client.post("/v1/runs", json=ASKED | more)
    assert answer.status_code == 202, answer.text
    run_id: str = answer.json()["run_id"]
    return run_id


def finish(made: Made, run_id: str, state: str = "succeeded", **columns: Any) -> None:
    """Let a run end, as its process would have it."""
    with made.runs.database.transaction() as connection:
        change(connection, run_id, state=state, finished_at=made.clock(), **columns)
        record(connection, run_id, made.clock(), "state", {"state": state})


def is_problem(answer: httpx.Response, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert said in body["detail"]
    assert "Traceback" not in answer.text


def test_a_run_is_accepted_by_the_contract(client: httpx.Client) -> None:
    options = {"strength": 0.5, "size": "720p", "keep_colors": True}
    asked = ASKED | {"target": "out/a.mp4", "options": options}
    answer = client.post("/v1/runs", json=asked)
    assert answer.status_code == 202
    assert set(answer.json()) == {"run_id", "state"}
    assert answer.json()["state"] == "queued"
    shown = client.get(answer.headers["Location"]).json()
    assert shown["options"] == options
    assert shown["target"] == "out/a.mp4"
    assert shown["progress"] == {"frames_done": 0, "frames_total": 0, "stage": ""}
    assert shown["user"] == "submitter"
    assert shown["report"] is None


def test_the_options_are_those_that_the_service_lets_users_choose() -> None:
    assert set(RunOptions.model_fields) == OPTIONS


def test_a_blend_and_a_model_are_styles_too(made: Made, client: httpx.Client) -> None:
    made.backend.service.media.put("in/x.onnx", b"x")
    blend = {"starry_night": 0.7, "the_scream": 0.3}
    run_id = ask(client, style=blend)
    assert client.get(f"/v1/runs/{run_id}").json()["style"] == blend
    made.backend.service.media.put("in/p.jpg", b"x")
    assert client.get(f"/v1/runs/{ask(client, style='in/p.jpg')}").json()["style"] == "in/p.jpg"
    run_id = ask(client, style=None, model="in/x.onnx")
    assert client.get(f"/v1/runs/{run_id}").json()["model"] == "in/x.onnx"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"source": None}, "/source: must be text, got null"),
    "an unknown field": ({"stile": "x"}, "/stile: unknown field 'stile'; did you mean style?"),
    "a field like no other": ({"xyz": "x"}, "unknown field 'xyz'; there are source, style, "),
    "an option beside options": (
        {"size": "720p"},
        "unknown field 'size'; it belongs into 'options'",
    ),
    "an unknown option": ({"options": {"strengh": 1}}, "'strengh'; did you mean strength?"),
    "an option of the service's": (
        {"options": {"engine": "ray"}},
        "unknown field 'engine'; there ",
    ),
    "options that are none": ({"options": [1]}, "/options: must be an object, got [1]"),
    "an option out of bounds": (
        {"options": {"strength": 2}},
        "/options/strength: must be at most 1, got 2",
    ),
    "a number as text": (
        {"options": {"strength": "1"}},
        '/options/strength: must be a number, got "1"',
    ),
    "a word that is none of several": (
        {"options": {"codec": "xvid"}},
        '/options/codec: must be h264, h265, av1, vp9 or ffv1, got "xvid"',
    ),
    "a size of another form": (
        {"options": {"size": "big"}},
        '/options/size: must be source, 720p or 1280x720, got "big"',
    ),
    "a time of another form": (
        {"options": {"end": "soon"}},
        '/options/end: must be a time, as 12.5, 90s or 00:01:02.5, got "soon"',
    ),
    "one of two types, out of bounds": (
        {"options": {"chunk_frames": 0}},
        "/options/chunk_frames: must be at least 1 or auto, got 0",
    ),
    "a long text": ({"options": {"preset": "x" * 90}}, "of a–z and 0–9, got 90 characters"),
    "a secret": ({"priority": "token=abcdefghijklmnop"}, 'whole number, got "token=***"'),
    "two faults": ({"priority": 101, "target": 5}, "(1 more in errors)"),
    "neither style nor model": ({"style": None}, "either a style or a model"),
    "both style and model": ({"model": "in/x.onnx"}, "either a style or a model"),
    "an unknown style": ({"style": "nope"}, "no style 'nope'; see GET /v1/styles"),
    "a style that is a number": ({"style": 5}, "/style: must be text or an object, got 5"),
    "a style that climbs": ({"style": "../x.jpg"}, "/style: the path '../x.jpg'"),
    "a style that is a path": ({"style": "in/style.onnx"}, "/style: a style is a name"),
    "a painting that is not there": ({"style": "in/x.jpg"}, "there is no 'in/x.jpg'"),
    "a blend with a path": ({"style": {"../x": 1}}, "/style/..~1x: must be a style's name, 1 to"),
    "a blend without a number": ({"style": {"a": "b"}}, '/style/a: must be a number, got "b"'),
    "a source that is not there": ({"source": "in/b.mp4"}, "there is no 'in/b.mp4'"),
    "a target that is the source": ({"target": "in/a.mp4"}, "the source itself"),
    "a priority out of bounds": ({"priority": 101}, "/priority: must be at most 100, got 101"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_told_what_is_wrong(client: httpx.Client, what: str) -> None:
    change_to, said = WRONG[what]
    answer = client.post("/v1/runs", json=ASKED | change_to)
    is_problem(answer, 422, said)
    assert "^" not in answer.text  # what is allowed is said in words, not by a pattern
    assert client.get("/v1/runs").json()["runs"] == []


def test_a_body_that_is_none_is_told_so(client: httpx.Client) -> None:
    for body, said in (
        (b"[]", "the body must be an object, got []"),
        (b"{", "the body is not JSON"),
        (b"", "the body is missing"),
        (b"{}", "/source: is missing"),
    ):
        headers = {"Content-Type": "application/json"}
        is_problem(client.post("/v1/runs", content=body, headers=headers), 422, said)


def test_every_form_of_text_has_words(made: Made) -> None:
    fields = RunRequest.model_json_schema()["properties"]
    told_by_themselves = patterns_in([fields["source"], fields["style"]["anyOf"][0]])
    assert patterns_in(made.app.openapi()) - told_by_themselves <= set(WORDS)


def patterns_in(document: Any) -> set[str]:
    """Every pattern that a document of JSON Schema has."""
    match document:
        case dict():
            found = {document["pattern"]} if isinstance(document.get("pattern"), str) else set()
            return found.union(*map(patterns_in, document.values()))
        case list():
            return set().union(*map(patterns_in, document))
        case _:
            return set()


def test_an_idempotency_key_gives_one_run(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    answers = [client.post("/v1/runs", json=ASKED, headers=headers) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    other = client.post("/v1/runs", json=ASKED | {"style": "the_scream"}, headers=headers)
    is_problem(other, 422, "belongs to run")
    is_problem(client.post("/v1/runs", json=ASKED, headers={"Idempotency-Key": "a b"}), 422, "Key")


def test_a_target_that_is_there_is_refused_at_once(made: Made, client: httpx.Client) -> None:
    asked = ASKED | {"target": "out/a.mp4"}
    headers = {"Idempotency-Key": "k"}
    first = client.post("/v1/runs", json=asked, headers=headers)
    assert first.status_code == 202
    made.backend.service.media.put("out/a.mp4", b"painted")
    refused = client.post("/v1/runs", json=asked)
    is_problem(refused, 409, '\'out/a.mp4\' exists; "force": true in "options" overwrites it')
    other = client.post("/v1/runs", json=asked | {"priority": 5}, headers={"Idempotency-Key": "l"})
    is_problem(other, 409, "exists")
    again = client.post("/v1/runs", json=asked, headers=headers)  # the answer was lost, say
    assert (again.status_code, again.json()["run_id"]) == (202, first.json()["run_id"])
    changed = client.post("/v1/runs", json=asked | {"style": "the_scream"}, headers=headers)
    is_problem(changed, 422, "belongs to run")
    with made.client("operator") as operator:
        assert operator.post(
            "/v1/runs", json=asked | {"options": {"force": True}}
        ).status_code == 202  # fmt: skip
    below = client.post("/v1/runs", json=ASKED | {"target": "in/a.mp4/b.mp4"})
    assert below.status_code == 202  # there is nothing yet: the run finds that there can't be


def test_a_version_of_a_video_gives_its_run_though_its_target_is_there(made: Made) -> None:
    service = made.backend.service
    asked = Submission(
        source="in/a.mp4", style="starry_night", target="out/a.mp4", user="watch", content="a@1"
    )
    run, _ = service.submit(asked)
    service.media.put("out/a.mp4", b"painted")
    assert service.submit(asked) == (run, False)
    with pytest.raises(Conflict, match=r"'out/a\.mp4' exists"):
        service.submit(replace(asked, content="a@2"))


def test_lists_are_paged_from_the_latest_on(made: Made, client: httpx.Client) -> None:
    ids = [ask(client) for _ in range(7)]
    seen, after = [], None
    while True:
        params = {"limit": 3} | ({"after": after} if after else {})
        page = client.get("/v1/runs", params=params).json()
        seen += [run["run_id"] for run in page["runs"]]
        if (after := page["next"]) is None:
            break
    assert seen == ids[::-1]
    assert "report" not in page["runs"][0]


def test_lists_are_filtered(made: Made, client: httpx.Client) -> None:
    first, second = ask(client), ask(client, style="the_scream")
    finish(made, first)
    for params, expected in (
        ({"state": "succeeded"}, [first]),
        ({"state": "queued"}, [second]),
        ({"style": "the_scream"}, [second]),
        ({"source": "in/"}, [second, first]),
        ({"source": "out/"}, []),
        ({"user": "submitter"}, [second, first]),
    ):
        found = client.get("/v1/runs", params=params).json()["runs"]
        assert [run["run_id"] for run in found] == expected
    is_problem(client.get("/v1/runs", params={"state": "done"}), 422, "state")
    is_problem(client.get("/v1/runs", params={"stat": "x"}), 422, "unknown query parameter 'stat'")
    is_problem(client.get("/v1/runs", params={"limit": 501}), 422, "limit")
    is_problem(client.get("/v1/runs", params={"after": "'; --"}), 422, "after")


def test_a_run_is_cancelled_and_retried(made: Made, client: httpx.Client) -> None:
    run_id = ask(client)
    is_problem(client.post(f"/v1/runs/{run_id}/retry"), 409, "queued")
    assert client.post(f"/v1/runs/{run_id}/cancel").json()["state"] == "cancelled"
    is_problem(client.post(f"/v1/runs/{run_id}/cancel"), 409, "cancelled")
    assert client.post(f"/v1/runs/{run_id}/retry").json()["state"] == "queued"
    is_problem(client.post(f"/v1/runs/{'0' * 19}/retry"), 404, "there is no run")


def test_a_finished_run_has_its_report_and_its_target(made: Made, client: httpx.Client) -> None:
    run_id = ask(client, target='out/größe "1";.mp4')
    for path in ("report", "target"):
        is_problem(client.get(f"/v1/runs/{run_id}/{path}"), 409, "queued")
    target = client.get(f"/v1/runs/{run_id}").json()["target"]
    painted = bytes(range(256)) * 12_000  # more than a block
    made.backend.service.media.put(target, painted)
    finish(made, run_id, report={"frames": 9})
    assert client.get(f"/v1/runs/{run_id}").json()["report"] == {"frames": 9}
    assert client.get(f"/v1/runs/{run_id}/report").json() == {"frames": 9}
    fetched = client.get(f"/v1/runs/{run_id}/target")
    assert fetched.content == painted
    assert fetched.headers["Content-Type"] == "application/octet-stream"
    assert fetched.headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22%3B.mp4"
    )
    made.backend.service.media.delete(target)
    is_problem(client.get(f"/v1/runs/{run_id}/target"), 404, "no longer")


@pytest.fixture
def painted(made: Made, client: httpx.Client) -> tuple[str, bytes]:
    """The path of a finished run's target, and its bytes."""
    run_id = ask(client, target="out/a.mp4")
    data = bytes(range(256)) * 12_000  # three blocks
    made.backend.service.media.put("out/a.mp4", data)
    finish(made, run_id)
    return f"/v1/runs/{run_id}/target", data


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-2500000", 100, 2_500_001),
        ("Bytes=3071990-", 3_071_990, 3_072_000),
        ("bytes=3071990-999999999", 3_071_990, 3_072_000),
        ("bytes=-10", 3_071_990, 3_072_000),
        ("bytes=-999999999", 0, 3_072_000),
    ],
)
def test_a_player_seeks_in_a_target(
    asked: str, start: int, stop: int, painted: tuple[str, bytes], client: httpx.Client
) -> None:
    path, data = painted
    part = client.get(path, headers={"Range": asked})
    assert part.status_code == 206
    assert part.content == data[start:stop]
    assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(data)}"
    assert part.headers["Content-Length"] == str(stop - start)
    assert part.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,4-5", "frames=0-9", "bytes=9-2", "bytes=-", "bytes=a-b", "0-9", ""],
)
def test_of_no_single_range_the_whole_target_comes(
    asked: str, painted: tuple[str, bytes], client: httpx.Client
) -> None:
    path, data = painted
    whole = client.get(path, headers={"Range": asked})
    assert whole.status_code == 200
    assert "Content-Range" not in whole.headers
    assert whole.content == data


@pytest.mark.parametrize("asked", ["bytes=3072000-", "bytes=99999999-99999999", "bytes=-0"])
def test_a_range_behind_the_end_of_a_target_says_how_long_it_is(
    asked: str, painted: tuple[str, bytes], client: httpx.Client
) -> None:
    path, _ = painted
    answer = client.get(path, headers={"Range": asked})
    is_problem(answer, 416, "the target has 3072000 bytes")
    assert answer.headers["Content-Range"] == "bytes */3072000"


def test_a_download_goes_on_only_with_the_same_file(
    made: Made, painted: tuple[str, bytes], client: httpx.Client
) -> None:
    path, data = painted
    first = client.get(path, headers={"Range": "bytes=0-9"})
    rest = {"Range": "bytes=10-", "If-Range": first.headers["ETag"]}
    assert client.get(path, headers=rest).content == data[10:]
    for other in ('"other"', f"W/{rest['If-Range']}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert client.get(path, headers={**rest, "If-Range": other}).status_code == 200
    made.backend.service.media.put("out/a.mp4", data[::-1])
    again = client.get(path, headers=rest)
    assert (again.status_code, again.content) == (200, data[::-1])


def test_times_of_frames_come_from_what_the_run_left(made: Made, client: httpx.Client) -> None:
    run_id = ask(client)
    assert client.get(f"/v1/runs/{run_id}/timings").json() == {"chunks": []}
    finish(made, run_id, plan_id="abc")
    assert client.get(f"/v1/runs/{run_id}/timings").json() == {"chunks": []}
    chunk = {"chunk": 0, "start": 0, "worker": "w", "wall_s": 1.0, "stage_s": {"score": 0.9},
             "frame_s": [0.4, 0.5]}  # fmt: skip
    made.backend.service.system.put(
        "runs/abc/timings.json", json.dumps({"chunks": [chunk]}).encode()
    )
    assert client.get(f"/v1/runs/{run_id}/timings").json() == {"chunks": [chunk]}


def read_log(client: httpx.Client, run_id: str, limit: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    after = None
    while True:
        params = {"limit": limit} | ({"after": after} if after else {})
        page = client.get(f"/v1/runs/{run_id}/logs", params=params).json()
        assert len(page["lines"]) <= limit
        lines += page["lines"]
        if (after := page["next"]) is None:
            return lines


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_a_log_is_read_in_pages_of_any_size(made: Made, client: httpx.Client, limit: int) -> None:
    run_id = ask(client)
    system = made.backend.service.system
    journal = Journal()
    journal.keep_in(system, run_id)
    journal.say(f"one{made.backend.service.media.url}/")
    journal.flush()
    failed = Failed(2, "w", "two\x1b[2J")
    keep_attempt(system, "abc", failed, "printed", chunks=3)
    for number, texts in enumerate((["died", "here"], ["again"]), 1):
        said = [encode(Line(time=now(), run=run_id, text=text)) for text in texts]
        system.put(f"runs/{run_id}/logs/job-1-{number}.jsonl", b"".join(said))
    finish(made, run_id, "set_aside", plan_id="abc")
    lines = read_log(client, run_id, limit)
    assert [line["text"] for line in lines] == [
        "one", "printed", "two\x1b[2J", "died", "here", "again"
    ]  # fmt: skip
    assert (lines[2]["chunk"], lines[2]["attempt"], lines[2]["level"]) == (2, 1, "error")


def test_the_log_of_a_run_that_goes_on_can_be_waited_for(made: Made, client: httpx.Client) -> None:
    run_id = ask(client)
    system = made.backend.service.system
    first = client.get(f"/v1/runs/{run_id}/logs").json()
    assert first["lines"] == []
    with made.runs.database.transaction() as connection:
        change(connection, run_id, state="running", plan_id="abc")
    journal = Journal()
    journal.keep_in(system, run_id)
    for text in ("one", "two"):
        journal.say(text)
        journal.flush()
        page = client.get(f"/v1/runs/{run_id}/logs", params={"after": first["next"]}).json()
        assert [line["text"] for line in page["lines"]] == [text]
        first = page
    finish(made, run_id)
    last = client.get(f"/v1/runs/{run_id}/logs", params={"after": first["next"]}).json()
    assert last == {"lines": [], "next": None}
    wrong = client.get(f"/v1/runs/{run_id}/logs", params={"after": "run/../../x"})
    is_problem(wrong, 422, "")


def test_the_log_of_a_run_that_dies_before_its_plan_says_how(
    made: Made, client: httpx.Client
) -> None:
    service = made.backend.service
    service.media.put("early.mp4", MP4)
    run_id = ask(client, source="early.mp4")
    queue = Queue(made.runs, "here")
    queue.join()
    fake = (sys.executable, str(Path(__file__).with_name("fake_job.py")))
    jobs = Jobs(Setup(JobLimits()), command=fake)
    carrier = Carrier(service, queue, jobs)
    (handed,) = queue.take(1)
    ended = carrier.attempt(handed, 1)
    assert ended is not None
    carrier.settle(handed, ended)
    jobs.close(within_s=10.0)
    texts = [line["text"] for line in read_log(client, run_id, 10)]
    assert texts[0] == "boom in the probe"
    assert "SIGSEGV" in texts[1]


def test_users_who_share_a_plan_see_nothing_of_each_other_in_their_logs(tmp_path: Path) -> None:
    film = Served(tmp_path).media
    system, settings = open_store(str(tmp_path / "system")), settings_in(tmp_path)
    plans = set()
    for user in ("ann", "bob"):
        (film / user).mkdir()
        shutil.copy(film / "in/a.mp4", film / user / "a.mp4")
        order = replace(
            Order(str(film), system.url, "", None, "net.onnx", "", PLAIN, "inline", None, False),
            source=f"{user}/a.mp4", target=f"{user}/secret.mp4", log=f"run-{user}",
        )  # fmt: skip

        def hear(said: Said) -> None:
            plans.update([said.columns["plan_id"]] if "plan_id" in said.columns else [])

        assert make(order, settings, hear).kind == "succeeded"
    (plan_id,) = plans
    for user, other in (("ann", "bob"), ("bob", "ann")):
        lines, _ = logs.read(system, f"run-{user}", plan_id=plan_id)
        texts = [line.text for line in lines]
        assert any(f"{user}/secret.mp4" in text for text in texts)
        assert not any(f"{other}/" in text for text in texts)
        assert {line.chunk for line in lines if line.timing} == set(range(8))
        assert "probe began" in texts


def test_who_asks_too_fast_is_told_when_to_come_again(tmp_path: Path) -> None:
    made = make_service(tmp_path, quota=Quota(submissions_per_minute=6, burst=2))
    with served(made.app) as url, made.at(url, "submitter") as client:
        ask(client)
        ask(client)
        answer = client.post("/v1/runs", json=ASKED)
        is_problem(answer, 429, "submissions a minute")
        assert answer.headers["Retry-After"] == "10"
        with made.at(url, "operator") as other:  # another user's turn is not touched
            ask(other)


def test_a_source_that_is_too_large_is_refused_for_good(tmp_path: Path) -> None:
    made = make_service(tmp_path, quota=Quota(source_bytes=10))
    with made.client() as client:
        is_problem(client.post("/v1/runs", json=ASKED), 413, "10 are allowed")


def test_styles_are_listed_and_shown(client: httpx.Client) -> None:
    styles = client.get("/v1/styles").json()["styles"]
    names = {style["name"] for style in styles}
    assert "starry_night" in names
    assert {"name", "shipped", "bytes", "qualities"} == set(styles[0])
    card = client.get("/v1/styles/starry_night").json()
    assert card["qualities"] == ["fast", "balanced", "best"]
    assert card["artist"]
    is_problem(client.get("/v1/styles/nope"), 404, "no style 'nope'")


def test_the_document_names_every_route_with_words_and_problems(made: Made) -> None:
    document = made.app.openapi()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            problems = [operation["responses"][s]["content"] for s in ("401", "422", "500")]
            assert all(set(each) == {"application/problem+json"} for each in problems)
            assert ("security" in operation) == (path not in {"/health", "/ready"})


def test_a_service_that_can_not_work_says_so(tmp_path: Path) -> None:
    made = make_service(tmp_path, not_ready=lambda: "the disk of x is full")
    with made.client(None) as client:
        assert client.get("/health").json() == {"status": "ok"}
        answer = client.get("/ready")
        is_problem(answer, 503, "not ready")
        assert "disk" not in answer.text


def test_a_fault_of_ours_shows_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    made = make_service(tmp_path)
    monkeypatch.setattr(type(made.runs), "page", broken)
    with made.client() as client:
        answer = client.get("/v1/runs")
        is_problem(answer, 500, "a fault of ours")
        assert "secret" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_database_that_is_away_is_no_detail_for_users(tmp_path: Path) -> None:
    made = make_service(tmp_path)
    with made.client() as client:
        with made.runs.database.transaction() as connection:
            connection.exec_driver_sql("ALTER TABLE runs RENAME TO gone")
        answer = client.get("/v1/runs")
        is_problem(answer, 503, "try again later")
        assert answer.headers["Retry-After"] == "5"
        assert "gone" not in answer.text
        assert str(tmp_path) not in answer.text


def test_the_page_on_the_api_is_up_to_date() -> None:
    page = Path(__file__).parent.parent / "docs" / "api.md"
    text = page.read_text(encoding="utf-8")
    assert text == updated(text), "write it anew: make docs"


def ordered(made: Made, target: str | None = None) -> Order:
    service = made.backend.service
    return Order(
        media=service.media.url, system=service.system.url, source="in/a.mp4",
        style="starry_night", model=None, target=target, options={}, engine="inline", workers=None,
        resumed=False,
    )  # fmt: skip


def test_the_error_of_a_run_names_what_a_request_can_do(made: Made) -> None:
    service = made.backend.service
    service.media.put("out/a.mp4", b"mine")
    ending = make(ordered(made, "out/a.mp4"), service.core, lambda _: None)
    assert ending.error == (
        '\'out/a.mp4\' exists; "force": true in "options" overwrites it, "target" names another'
    )


def test_an_error_names_paths_as_users_know_them(made: Made, tmp_path: Path) -> None:
    service = made.backend.service
    service.media.put("in/a.mp4", b"no video")
    ending = make(ordered(made), service.core, lambda _: None)
    assert ending.kind == "refused"
    assert ending.error is not None
    assert ending.error.startswith("'in/a.mp4' is not a video")
    assert str(tmp_path) not in ending.error


@pytest.mark.parametrize(
    "around",
    [
        {"system": "az://without-an-account"},
        {"media": "az://without-an-account"},
        {"engine": "ray"},
    ],
)
def test_what_is_wrong_around_a_run_is_no_fault_of_its_request(
    made: Made, around: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = made.backend.service
    monkeypatch.setitem(sys.modules, "ray", None)  # as where the package is missing
    ending = make(replace(ordered(made), **around), service.core, lambda _: None)
    assert ending.kind == "failed", ending
