"""The route that storage accounts call: POST /v1/events, and /events, which is the same."""

import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from impasto.errors import LimitExceeded, RequestError, RunFailed
from impasto.service.api.access import BackendDep, Requires, bearer
from impasto.service.api.forms import ORIGIN
from impasto.service.api.problems import documented
from impasto.service.roles import Permission, Principal
from impasto.service.triggers.arrivals import Arrivals
from impasto.service.triggers.delivery import Delivered, deliver
from impasto.service.triggers.events import Arrival, Confirmation, Handshake, Other, read_events

log = logging.getLogger("impasto.service.api")

PATHS = ("/v1/events", "/events")
_MOST_REASONS = 100
_LATER_S = 30
"""Until something that is uploaded may have come."""

_NAME = {"type": "string", "minLength": 1, "maxLength": 1024}
_TOPIC = "/subscriptions/…/providers/Microsoft.Storage/storageAccounts/films"
_BLOB_CREATED: dict[str, Any] = {
    "id": "831e1650-001e-001b-66ab-eeb76e069631",
    "subject": "/blobServices/default/containers/media/blobs/in/a.mp4",
    "data": {"api": "PutBlockList", "eTag": "0x8D4BCC2E4835CD0", "contentLength": 524288},
}


def _object(**properties: Any) -> dict[str, Any]:
    """A schema: an object that has these, and may have more."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _batch(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "maxItems": 100, "items": items}


_EVENT_GRID = _object(eventType=_NAME, subject=_NAME, data={"type": "object"}) | {
    "not": {"required": ["specversion"]}
}
_CLOUD_EVENT = _object(specversion={"const": "1.0"}, type=_NAME, source=_NAME, id=_NAME)
_S3 = _object(
    Records=_batch(
        _object(eventName=_NAME, s3=_object(bucket=_object(name=_NAME), object=_object(key=_NAME)))
    )
)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "EventBridge's and SNS's forms are understood too.",
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        _batch(_EVENT_GRID) | {"title": "Event Grid's own schema"},
                        _S3 | {"title": "A notification of S3 or MinIO"},
                    ]
                },
                "example": [
                    {**_BLOB_CREATED, "eventType": "Microsoft.Storage.BlobCreated",
                     "topic": _TOPIC}
                ],
            },
            "application/cloudevents+json": {
                "schema": _CLOUD_EVENT,
                "example": {**_BLOB_CREATED, "specversion": "1.0", "source": _TOPIC,
                            "type": "Microsoft.Storage.BlobCreated"},
            },
            "application/cloudevents-batch+json": {"schema": _batch(_CLOUD_EVENT)},
        },
    }
}  # fmt: skip


class EventsTaken(BaseModel):
    """What became of the events."""

    runs: list[str] = Field(description="Ids of the runs that they stand for, new or known.")
    ignored: int = Field(description="How many of them start nothing.")
    reasons: list[str] = Field(description=f"Why; the first {_MOST_REASONS} of them.")


class Validated(BaseModel):
    """The answer to Event Grid's handshake."""

    validationResponse: str  # noqa: N815 - Event Grid's name


class Sender(Requires):
    """As `Requires`, and takes the token from the query too: not every sender can set a header."""

    async def __call__(
        self,
        request: Request,
        backend: BackendDep,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> Principal:
        """Authenticate and authorise."""
        token = request.query_params.get("token")
        if credentials is None and token:
            credentials = HTTPAuthorizationCredentials(scheme="Bearer", credentials=token)
        return await super().__call__(request, backend, credentials)


Token = Annotated[
    str | None, Query(max_length=8192, description="The token, where no header can be set.")
]
SENDS = Sender(Permission.EVENTS_SEND)


def _deliver_all(
    arrivals: Arrivals, found: Sequence[Arrival | Other], account: str
) -> list[Delivered]:
    """Deal with every event, and only then say what could not be done: all of them come again.

    Raises:
        LimitExceeded, RunFailed: of the first that could not be dealt with now.
        HTTPException: what one of them is about is not ready yet.
    """
    results, faults = list[Delivered](), list[Exception]()
    for event in found:
        try:
            results.append(deliver(arrivals, event, account=account))
        except Exception as error:  # one of them must not stop the others  # noqa: BLE001
            log.warning("an event is to come again: %s", error)
            faults.append(error)
    for fault in faults:
        if isinstance(fault, RequestError) and not isinstance(fault, LimitExceeded):
            # The store's credentials, say: nothing that the sender can mend.
            raise RunFailed(str(fault)) from fault
        raise fault
    for result in results:
        if result.later:
            raise HTTPException(503, result.later, {"Retry-After": str(_LATER_S)})
    return results


async def _body(request: Request) -> bytes:
    return await request.body()


def events_router(arrivals: Arrivals, *, account: str = "") -> APIRouter:
    """The routes that take events.

    Args:
        arrivals: makes the runs.
        account: that the media store belongs to; events of others are ignored. Any where empty.
    """
    router = APIRouter(tags=["events"], dependencies=[Depends(SENDS)])

    def take(body: Annotated[bytes, Depends(_body)], token: Token = None) -> Any:
        """Take what a storage account says about new objects.

        Event Grid's BlobCreated in its own schema or as CloudEvents 1.0, and S3's ObjectCreated, as
        it comes from the bucket, MinIO, EventBridge or SNS. Each object is looked up; the version
        that is there becomes a run, once, by the rule table. Duplicates do no harm.
        """
        del token  # who sends it was asked before
        try:
            message = read_events(body)
        except RequestError as error:
            raise HTTPException(400, str(error)) from error
        match message:
            case Handshake(code):
                return Validated(validationResponse=code)
            case Confirmation(url):
                log.warning("SNS wants to send events; to let it, open %r", url)
                return EventsTaken(runs=[], ignored=1, reasons=["a person has to confirm it"])
            case found:
                pass
        results = _deliver_all(arrivals, found, account)
        reasons = [result.ignored for result in results if result.run_id is None]
        runs = [result.run_id for result in results if result.run_id is not None]
        return EventsTaken(
            runs=list(dict.fromkeys(runs)), ignored=len(reasons), reasons=reasons[:_MOST_REASONS]
        )

    def consent(
        response: Response,
        origin: Annotated[str, Header(alias="WebHook-Request-Origin", pattern=ORIGIN)],
        token: Token = None,
    ) -> None:
        """Let a CloudEvents sender know that its events are wanted (CloudEvents webhooks, 4)."""
        del token
        response.headers["WebHook-Allowed-Origin"] = origin
        response.headers["WebHook-Allowed-Rate"] = "*"

    for path in PATHS:
        shown = path == PATHS[0]
        router.add_api_route(
            path, take, methods=["POST"], summary="Say that objects have arrived",
            response_model=EventsTaken | Validated, openapi_extra=_BODY, include_in_schema=shown,
            responses=documented(413, 429),
        )  # fmt: skip
        router.add_api_route(
            path, consent, methods=["OPTIONS"], summary="Ask whether events are wanted",
            include_in_schema=shown,
        )  # fmt: skip
    return router
