"""What storage accounts say about new objects, read without trusting a word of it.

Understood are Event Grid's BlobCreated, in its own schema and as CloudEvents 1.0 (structured, one
or a batch), and S3's ObjectCreated: as buckets and MinIO send it ("Records"), through EventBridge,
and wrapped by SNS. Everything else is set aside with a reason, or refused as malformed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from impasto.errors import RequestError

MAX_BYTES = 1 << 20
"""Of a request: Event Grid's own bound for a batch."""
_MAX_EVENTS = 5000
_MAX_TEXT = 2048

_SUBJECT = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_ACCOUNT = re.compile(r"/storageAccounts/([a-z0-9]+)$", re.IGNORECASE)
_BLOB_CREATED = "Microsoft.Storage.BlobCreated"
_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An event that says: an object was written."""

    container: str
    """Or bucket."""
    key: str
    etag: str = ""
    """Without quotes; empty where the event has none."""
    account: str = ""
    """Of Azure; empty where the event has none."""


@dataclass(frozen=True, slots=True)
class Other:
    """An event, or a part of one, that starts nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Handshake:
    """Event Grid asks whether we want its events; the answer is its own code."""

    code: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """SNS asks whether we want its messages; a person has to open this address."""

    url: str


def read_events(body: bytes) -> Handshake | Confirmation | list[Arrival | Other]:
    """Read the body of a request.

    Raises:
        RequestError: it is not JSON, or no event that we know has this shape.
    """
    if len(body) > MAX_BYTES:
        raise RequestError(f"events come in at most {MAX_BYTES} bytes, got {len(body)}")
    try:
        message = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise RequestError(f"the events are not JSON: {str(error)[:200]}") from None
    if isinstance(message, dict) and message.get("Type") == "SubscriptionConfirmation":
        return Confirmation(_text(message, "SubscribeURL"))
    events = message if isinstance(message, list) else [message]
    if len(events) > _MAX_EVENTS:
        raise RequestError(f"a batch has at most {_MAX_EVENTS} events, got {len(events)}")
    for event in events:
        if isinstance(event, dict) and _kind(event) == _VALIDATION:
            return Handshake(_text(_table(event, "data"), "validationCode"))
    return [found for event in events for found in _read(event, depth=0)]


def _kind(event: dict[str, Any]) -> Any:
    """The type, as CloudEvents or as Event Grid's older schema calls it."""
    return event.get("type") if "specversion" in event else event.get("eventType")


def _read(event: Any, *, depth: int) -> Iterator[Arrival | Other]:
    match event:
        case {"specversion": version, "type": str(), **_rest}:
            if version != "1.0":
                raise RequestError(f"CloudEvents 1.0 is understood, got {version!r:.40}")
            yield _blob(event, event.get("source", ""))
        case {"eventType": str()}:
            yield _blob(event, event.get("topic", ""))
        case {"Records": list(records)}:
            if len(records) > _MAX_EVENTS:
                raise RequestError(f"a batch has at most {_MAX_EVENTS} events")
            yield from (_record(record) for record in records)
        case {"detail-type": str(), "detail": dict(), "source": str()}:
            yield _bridged(event)
        case {"Service": "Amazon S3", "Event": "s3:TestEvent"}:
            yield Other("a test event of S3")
        case {"Type": "Notification", "Message": str(inner)} if depth == 0:
            yield from _unwrapped(inner)
        case _:
            raise RequestError(
                "neither an Event Grid event, nor a CloudEvent, nor an S3 notification"
            )


def _blob(event: dict[str, Any], topic: Any) -> Arrival | Other:
    kind, subject = _kind(event), event.get("subject")
    if kind != _BLOB_CREATED:
        return Other(f"an event of type {kind!r:.80}")
    found = _SUBJECT.fullmatch(subject) if isinstance(subject, str) else None
    if found is None:
        raise RequestError(f"a BlobCreated event with the subject {subject!r:.200}")
    data = _table(event, "data")
    if data.get("contentLength") == 0:  # announces that a file was opened, in Data Lake Storage
        return Other(f"{found[2][:_MAX_TEXT]!r} is empty")
    account = _ACCOUNT.search(topic) if isinstance(topic, str) else None
    return Arrival(
        container=found[1],
        key=found[2][:_MAX_TEXT],
        etag=plain_etag(data.get("eTag")),
        account=account[1].lower() if account else "",
    )


def _record(record: Any) -> Arrival | Other:
    if not isinstance(record, dict):
        raise RequestError(f"a record of an S3 notification is an object, got {record!r:.80}")
    name = _text(record, "eventName").removeprefix("s3:")  # which MinIO says, and S3 does not
    if not name.startswith("ObjectCreated:"):
        return Other(f"an event named {name!r:.80}")
    s3 = _table(record, "s3")
    entry = _table(s3, "object")
    key = unquote_plus(_text(entry, "key"), errors="replace")
    return _object(_text(_table(s3, "bucket"), "name"), key, entry.get("eTag"), entry)


def _bridged(event: dict[str, Any]) -> Arrival | Other:
    """EventBridge's form, whose keys are not URL-encoded."""
    if event["source"] != "aws.s3" or event["detail-type"] != "Object Created":
        return Other(f"an event of type {event['detail-type']!r:.80}")
    entry = _table(event["detail"], "object")
    bucket = _text(_table(event["detail"], "bucket"), "name")
    return _object(bucket, _text(entry, "key"), entry.get("etag"), entry)


def _object(bucket: str, key: str, etag: Any, entry: dict[str, Any]) -> Arrival | Other:
    if entry.get("size") == 0:
        return Other(f"{key[:_MAX_TEXT]!r} is empty")
    return Arrival(container=bucket, key=key[:_MAX_TEXT], etag=plain_etag(etag))


def _unwrapped(inner: str) -> Iterator[Arrival | Other]:
    try:
        message = msgspec.json.decode(inner)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise RequestError(f"the message within SNS's is not JSON: {str(error)[:200]}") from None
    yield from _read(message, depth=1)


def plain_etag(etag: Any) -> str:
    """An ETag without its quotes: Azure's events leave them out, and its listings don't."""
    return etag.removeprefix("W/").strip('"')[:200] if isinstance(etag, str) else ""


def _table(event: dict[str, Any], key: str) -> dict[str, Any]:
    value = event.get(key)
    if not isinstance(value, dict):
        raise RequestError(f"an event without {key!r}, or with one that is no object")
    return value


def _text(event: dict[str, Any], key: str) -> str:
    value = event.get(key)
    if not isinstance(value, str) or not value or len(value) > 2 * _MAX_TEXT:
        raise RequestError(f"an event without {key!r}, or with one that is no text")
    return value
