"""Every error as `application/problem+json` (RFC 9457), translated in one place."""

import http
import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from impasto.errors import (
    Conflict,
    ImpastoError,
    LimitExceeded,
    NotFound,
    RequestError,
    RunFailed,
    Unavailable,
)
from impasto.service.api.faults import Fault, faults_of
from impasto.service.words import in_api_words

log = logging.getLogger("impasto.service.api")

MEDIA_TYPE = "application/problem+json"
_AGAIN_S = 5
"""When to ask again after a fault of a store or database."""
_STATUS = {NotFound: 404, Conflict: 409, LimitExceeded: 413}
"""Of requests that are wrong in a way of their own; a limit is 429 where waiting helps."""


class Problem(BaseModel):
    """An error, as RFC 9457 writes it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "there is no run '0192'",
                }
            ]
        }
    )

    type: str = Field(default="about:blank", description="Always this: the status says what it is.")
    title: str
    status: int
    detail: str = Field(description="One line: what, which value, the way out.")
    errors: list[Fault] | None = Field(default=None, description="Each fault of a request's form.")


class ProblemResponse(JSONResponse):
    """A problem as a response."""

    media_type = MEDIA_TYPE


def problem(
    status: int,
    detail: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[Fault] | None = None,
) -> ProblemResponse:
    """The response that says what went wrong."""
    title = http.HTTPStatus(status).phrase
    body = Problem(title=title, status=status, detail=detail or title, errors=errors)
    return ProblemResponse(
        body.model_dump(exclude_none=True), status, dict(headers) if headers else None
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors that a route may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": http.HTTPStatus(status).phrase, "content": content}
        for status in sorted(statuses)
    }


def install(app: FastAPI) -> None:
    """Have `app` answer every error with a problem."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ImpastoError, _ours)
    app.add_exception_handler(Exception, _surprise)


def _http(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:  # of all routes at this path, not of the first alone
        headers["Allow"] = ", ".join(_methods(request))
    return problem(error.status_code, str(error.detail), headers=headers)


def _methods(request: Request) -> list[str]:
    found = set()
    for context in iter_route_contexts(request.app.routes):
        match, _ = context.matches(request.scope)
        if match is not Match.NONE:
            found |= set(context.methods or ())
    return sorted(found)


def _invalid(request: Request, error: Exception) -> ProblemResponse:
    """What is wrong with the request's form."""
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type")
    if kind is not None and "json" not in kind and isinstance(error.body, bytes):
        return problem(415, f"the body must be application/json, got {kind[:80]!r}")
    found = faults_of(request, error)
    more = f" ({len(found) - 1} more in errors)" if found[1:] else ""
    return problem(422, found[0].line + more, errors=found)


def _ours(request: Request, error: Exception) -> ProblemResponse:
    match error:
        case LimitExceeded(retry_after_s=wait_s) if wait_s > 0:
            again = {"Retry-After": str(math.ceil(wait_s))}
            return problem(429, in_api_words(error), headers=again)
        case RunFailed() | Unavailable():  # it names stores, which are not the asker's matter
            log.error("%s", error)
            return problem(
                503,
                "the service can't reach its storage now; try again later",
                headers={"Retry-After": str(_AGAIN_S)},
            )
        case RequestError():
            return problem(_STATUS.get(type(error), 422), in_api_words(error))
        case _:
            return _surprise(request, error)


def _surprise(_: Request, error: Exception) -> ProblemResponse:
    log.error("a request failed", exc_info=error)
    return problem(500, "a fault of ours; the service's log says more")
