"""Events: what storage accounts send becomes runs once, and whatever else comes does no harm."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from api_service import Made, make_service
from impasto.errors import RequestError, RunFailed, Unavailable
from impasto.service.api.events import events_router
from impasto.service.triggers.arrivals import Arrivals, version_of
from impasto.service.triggers.events import Arrival, Handshake, Other, read_events
from impasto.service.triggers.loop import Triggers
from test_api_schema import _ask as ask
from test_api_schema import _operations as operations
from trigger_site import IN, TS

KEY = "in/b.ts"
TOPIC = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/films"


def blob(key: str = KEY, etag: str = "", **data: Any) -> dict[str, Any]:
    """BlobCreated in Event Grid's own schema."""
    return {
        "topic": TOPIC,
        "subject": f"/blobServices/default/containers/media/blobs/{key}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2026-05-05T10:00:00.0Z",
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": {
            "api": "PutBlockList", "contentType": "video/mp4", "contentLength": 376,
            "blobType": "BlockBlob", "url": f"https://films.blob.core.windows.net/media/{key}",
            "sequencer": "00000000000004420000000000028963", "eTag": etag, **data,
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }  # fmt: skip


def cloud(key: str = KEY, etag: str = "") -> dict[str, Any]:
    """The same as a CloudEvent."""
    old = blob(key, etag)
    return {"specversion": "1.0", "type": old["eventType"], "source": TOPIC, "id": old["id"],
            "time": old["eventTime"], "subject": old["subject"], "data": old["data"]}  # fmt: skip


def s3(key: str = "in/b.ts", etag: str = "", name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """A notification of a bucket; its key is URL-encoded."""
    entry = {"key": key, "size": 376, "eTag": etag, "sequencer": "0055AED6DCD90281E5"}
    return {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name,
                         "s3": {"bucket": {"name": "media"}, "object": entry}}]}  # fmt: skip


def bridged(key: str = KEY, etag: str = "") -> dict[str, Any]:
    """The same through EventBridge."""
    return {"version": "0", "detail-type": "Object Created", "source": "aws.s3",
            "detail": {"bucket": {"name": "media"},
                       "object": {"key": key, "size": 376, "etag": etag}}}  # fmt: skip


def wrapped(event: Any) -> dict[str, Any]:
    """The same through SNS."""
    return {"Type": "Notification", "MessageId": "1", "Message": json.dumps(event)}


FORMS: dict[str, Any] = {
    "event grid": [blob()],
    "one of event grid": blob(),
    "cloud event": cloud(),
    "cloud events": [cloud()],
    "s3": s3(),
    "s3 multipart": s3(name="ObjectCreated:CompleteMultipartUpload"),
    "minio": s3(name="s3:ObjectCreated:Put"),
    "eventbridge": bridged(),
    "sns": wrapped(s3()),
}


def read(event: Any) -> Any:
    return read_events(json.dumps(event).encode())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_event_names_the_object(form: str) -> None:
    (found,) = read(FORMS[form])
    assert isinstance(found, Arrival)
    assert (found.container, found.key) == ("media", KEY)


def test_keys_of_s3_are_decoded_and_those_of_the_others_are_not() -> None:
    (found,) = read(s3("in/my+film%281%29+%C3%BC.mp4"))
    assert found.key == "in/my film(1) ü.mp4"
    (found,) = read(blob("in/100%25+1.mp4"))
    assert found.key == "in/100%25+1.mp4"


def test_etags_are_compared_without_their_quotes() -> None:
    for event in (blob(etag="0x8D4"), s3(etag='"0x8D4"'), bridged(etag="0x8D4")):
        assert read(event)[0].etag == "0x8D4"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "media"}, "test event"),
        (s3(name="ObjectRemoved:Delete"), "ObjectRemoved"),
        ([{**blob(), "eventType": "Microsoft.Storage.BlobDeleted"}], "BlobDeleted"),
        ({**cloud(), "type": "com.example.tea"}, "com.example.tea"),
        ([blob(contentLength=0)], "is empty"),
        ({**bridged(), "detail-type": "Object Deleted"}, "Object Deleted"),
    ],
)
def test_events_about_other_things_are_set_aside(event: Any, reason: str) -> None:
    (found,) = read(event)
    assert isinstance(found, Other)
    assert reason in found.reason


MALFORMED: list[Any] = [
    "tea", 3, None, True, {}, [3], [[]], {"specversion": "0.3", "type": "x"},
    {"specversion": "1.0"}, {"eventType": 3}, {"Records": 3}, {"Records": [3]}, {"Records": [{}]},
    [{"eventType": "Microsoft.Storage.BlobCreated"}],
    [{**blob(), "subject": "/elsewhere"}], [{**blob(), "data": None}],
    [{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent"}],
    wrapped(wrapped(s3())), {"Type": "Notification", "Message": "{"},
    {"Type": "SubscriptionConfirmation"}, [blob()] * 5001,
]  # fmt: skip


@pytest.mark.parametrize("event", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_event_is_refused_in_one_line(event: Any) -> None:
    with pytest.raises(RequestError) as refused:
        read(event)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'"' + b"a" * (1 << 20) + b'"'],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_events(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(value=JSON, key=st.sampled_from(["Records", "eventType", "specversion", "data", "detail"]))
def test_any_json_is_read_or_refused(value: Any, key: str) -> None:
    for event in (value, {key: value}, [{**blob(), key: value}], {**cloud(), key: value}):
        try:
            found = read(event)
        except RequestError:
            continue
        assert isinstance(found, list | Handshake)


class Post:
    """The service with the route for events, and a client that may send them."""

    def __init__(self, made: Made, http: httpx.Client) -> None:
        service = made.backend.service
        self.made, self.http, self.media = made, http, service.media
        self.triggers = Triggers(service.media, service.runs, service.submit, IN, clock=made.clock)

    def send(self, event: Any, path: str = "/v1/events", **more: Any) -> httpx.Response:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        return self.http.post(path, content=body, **more)

    @property
    def arrivals(self) -> Arrivals:
        return self.triggers.arrivals

    def sources(self) -> list[str]:
        return sorted(run.source for run in self.made.runs.page(limit=500).runs)


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = make_service(tmp_path)
    service = made.backend.service
    arrivals = Arrivals(service.media, service.runs, service.submit, IN.rules, clock=made.clock)
    made.app.include_router(events_router(arrivals))
    service.media.put(KEY, TS)
    with made.client("submitter") as http:
        yield Post(made, http)


@pytest.mark.parametrize("path", ["/v1/events", "/events"])
@pytest.mark.parametrize("form", FORMS)
def test_an_event_becomes_a_run(post: Post, form: str, path: str) -> None:
    answer = post.send(FORMS[form], path)
    assert answer.status_code == 200
    (run,) = post.made.runs.page().runs
    assert answer.json() == {"runs": [run.run_id], "ignored": 0, "reasons": []}
    assert (run.source, run.style, run.origin) == (KEY, "starry_night", "event")
    assert run.target == "painted/b.starry_night.ts"


def test_duplicates_all_forms_and_the_watch_give_one_run(post: Post) -> None:
    for form in FORMS.values():
        post.send(form)
    post.send([blob()] * 50)
    for _ in range(4):
        post.triggers.tick()
        post.made.clock.now += 6
    assert post.sources() == [KEY]  # in/a.mp4 is not whole


def test_the_watch_and_then_the_event_give_one_run(post: Post) -> None:
    for _ in range(4):
        post.triggers.tick()
        post.made.clock.now += 6
    answer = post.send([blob()])
    (run_id,) = answer.json()["runs"]
    assert post.made.runs.get(run_id).source == KEY
    assert post.sources() == [KEY]  # in/a.mp4 is not whole


def test_events_out_of_order_paint_what_is_there_now(post: Post) -> None:
    old = version_of(post.media.head(KEY))
    post.media.put(KEY, TS * 2)
    new = version_of(post.media.head(KEY))
    assert post.send([blob(etag=new)]).json()["ignored"] == 0
    late = post.send([blob(etag=old)]).json()
    assert late["runs"] == []
    assert "has another version by now" in late["reasons"][0]
    assert post.sources() == [KEY]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("in/gone.mp4", "is gone"),
        ("in/b.txt", "is gone"),
        ("out/c.ts", "no rule is about"),
        ("in/.hidden.ts", "unfinished"),
        ("in/d.ts.part", "unfinished"),
        ("in/e.ts", "is empty"),
        ("in/../../etc/passwd", "lies outside the media store"),
        ("/etc/passwd", "lies outside the media store"),
        ("in/a\nFATAL b.ts", "lies outside the media store"),
        ("in/b.ts/c.ts", "is gone"),
        ("in", "is gone"),
        ("in/" + "ü" * 200 + ".ts", "is gone"),
        ("x" * 3000, "lies outside the media store"),
    ],
)
def test_an_event_about_nothing_of_ours_is_ignored_with_a_reason(
    post: Post, key: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("out/c.ts", "in/.hidden.ts", "in/d.ts.part"):
        post.media.put(name, TS)
    post.media.put("in/e.ts", b"")
    caplog.set_level("INFO", "impasto.service.triggers")
    answer = post.send([blob(key)])
    assert answer.status_code == 200
    assert answer.json()["runs"] == []
    assert reason in answer.json()["reasons"][0]
    assert reason in caplog.text
    assert "\nFATAL" not in caplog.text
    assert not post.sources()


def test_our_own_outputs_start_nothing(post: Post) -> None:
    post.send([blob()])
    post.media.put("painted/b.starry_night.ts", TS)
    answer = post.send([blob("painted/b.starry_night.ts")]).json()
    assert answer["runs"] == []
    assert post.sources() == [KEY]


def test_event_grids_handshake_is_answered(post: Post) -> None:
    event = {
        "id": "1", "topic": "/subscriptions/1", "subject": "", "eventTime": "2026-01-01T00:00:00Z",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
                 "validationUrl": "https://rp-eastus2.eventgrid.azure.net/validate?id=1"},
    }  # fmt: skip
    answer = post.send([event], headers={"aeg-event-type": "SubscriptionValidation"})
    assert answer.json() == {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}


@pytest.mark.parametrize("path", ["/v1/events", "/events"])
def test_cloud_events_handshake_is_answered(post: Post, path: str) -> None:
    asked = {"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"}
    answer = post.http.options(path, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert post.http.options(path).status_code == 422


def test_sns_is_confirmed_by_a_person_and_never_by_us(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    url = "http://169.254.169.254/latest/meta-data"
    answer = post.send({"Type": "SubscriptionConfirmation", "SubscribeURL": url})
    assert answer.status_code == 200
    assert url in caplog.text


@pytest.mark.parametrize("path", ["/v1/events", "/events"])
def test_nobody_sends_events_without_a_token_that_may(post: Post, path: str) -> None:
    tokens = post.made.tokens

    def status(token: str | None, **more: Any) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        post.http.headers.pop("Authorization", None)
        return post.send([blob()], path, headers=headers, **more).status_code

    assert status(None) == 401
    assert status("impasto_wrong") == 401
    assert status(tokens["viewer"]) == 403
    assert status(None, params={"token": "wrong"}) == 401
    assert status(None, params={"token": tokens["viewer"]}) == 403
    assert not post.sources()
    assert post.http.options(path, headers={"WebHook-Request-Origin": "x"}).status_code == 401
    for role in ("submitter", "operator", "admin"):
        assert status(None, params={"token": tokens[role]}) == 200
        assert status(tokens[role]) == 200
    assert post.sources() == [KEY]


def test_a_malformed_event_is_a_problem_document(post: Post) -> None:
    for event in (b"{", b"[3]", b"\xff"):
        answer = post.send(event)
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == 400
    assert post.send(b" " * (2 << 20)).status_code == 413


def test_a_store_that_does_not_answer_has_the_event_sent_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (RunFailed("no answer"), Unavailable("the credentials are refused")):

        def head(_: str, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(post.made.backend.service.media, "head", head)
        answer = post.send([blob()])
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
    monkeypatch.undo()
    assert len(post.send([blob()]).json()["runs"]) == 1


@pytest.mark.parametrize("fault", [RunFailed("no answer"), KeyError("a fault of ours")])
def test_an_event_that_can_not_be_dealt_with_does_not_stop_the_others(
    post: Post, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    media = post.made.backend.service.media
    look = media.head

    def head(key: str) -> Any:
        if key == KEY:
            raise fault
        return look(key)

    monkeypatch.setattr(media, "head", head)
    post.media.put("in/c.ts", TS)
    batch = [blob(), blob("in/c.ts")]
    assert post.send(batch).status_code == (503 if isinstance(fault, RunFailed) else 500)
    assert post.sources() == ["in/c.ts"]
    monkeypatch.undo()
    assert len(post.send(batch).json()["runs"]) == 2
    assert post.sources() == [KEY, "in/c.ts"]


def test_an_event_about_a_trigger_file_comes_again_until_what_that_names_is_whole(
    post: Post,
) -> None:
    post.made.clock.now = time.time()
    half = b"\x00\x00\x00\x18ftypisom" + bytes(12) + b"\x00\x10\x00\x00mdat" + TS
    post.media.put("archive/a.mp4", half)
    post.media.put("in/trigger.txt", b"archive/a.mp4")
    event = blob("in/trigger.txt")
    answer = post.send([event])
    assert answer.status_code == 503
    assert "not whole yet" in answer.json()["detail"]
    assert "Retry-After" in answer.headers
    assert not post.sources()
    post.media.put("archive/a.mp4", TS)
    assert len(post.send([event]).json()["runs"]) == 1
    assert post.sources() == ["archive/a.mp4"]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_schemathesis_finds_nothing_about_events(post: Post, mode: GenerationMode) -> None:
    found = [
        operation
        for operation in operations(post.made, str(post.http.base_url))
        if operation.path == "/v1/events"
    ]
    assert len(found) == 2
    for operation in found:
        ask(operation.as_strategy(generation_mode=mode))


def test_a_thousand_spoilt_events_do_no_harm(post: Post) -> None:
    chance = random.Random(20)  # noqa: S311 - to have the same ones each time
    bodies = [json.dumps(form).encode() for form in FORMS.values()]
    statuses = set()
    for _ in range(1000):
        statuses.add(post.send(spoil(chance.choice(bodies), chance)).status_code)
    assert statuses <= {200, 400}
    assert set(post.sources()) <= {KEY, "in/a.mp4"}  # every run is of something that is there
    runs = post.made.runs.page(limit=500).runs
    assert len({run.source for run in runs}) == len(runs)
    assert post.send([blob()]).status_code == 200


def spoil(body: bytes, chance: random.Random) -> bytes:
    """Damage a body: bytes changed, lost and doubled, values replaced."""
    if chance.random() < 0.5:
        return json.dumps(_spoil(json.loads(body), chance)).encode()
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(body) + 1)
        piece = body[at : at + chance.randrange(1, 40)]
        random_bytes = chance.randbytes(chance.randrange(1, 4))
        body = chance.choice(
            [body[:at] + random_bytes + body[at + 1 :], body[:at] + body[at + len(piece) :],
             body[:at] + piece + body[at:], body[: at + 1]]
        )  # fmt: skip
    return body


def _spoil(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.15:
        return chance.choice(
            [None, True, -1, 1e300, "", "\x00\n", "../../x", "ü" * 500, [], {}, [value] * 3]
        )
    if isinstance(value, dict):
        return {key: _spoil(inner, chance) for key, inner in value.items()}
    if isinstance(value, list):
        return [_spoil(inner, chance) for inner in value]
    return value
