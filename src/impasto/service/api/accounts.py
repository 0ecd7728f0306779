"""The account of every request: counted in the metrics, and where it matters in the audit log."""

import logging
import time

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impasto.errors import ImpastoError, LimitExceeded
from impasto.service.api.metrics import Metrics
from impasto.service.audit import AuditLog, Entry
from impasto.service.limits import Quota, next_arrival

log = logging.getLogger("impasto.service.api")

_READING = {"GET", "HEAD", "OPTIONS"}
_REFUSED = {401, 403}
_NAMELESS = Quota(submissions_per_minute=60, burst=60)
"""Refusals of nobody known that are written: a flood of them must not fill the disk."""
_SUBJECTS = ("run_id", "token_id", "name")
"""Path parameters that say what something was done to."""


class Accounts:
    """Counts each request; audits what changes something, and what was refused.

    An entry is durable before the response begins, so nothing is answered that is not on record.
    """

    def __init__(self, app: ASGIApp, *, audit: AuditLog, metrics: Metrics) -> None:
        self._app = app
        self._audit = audit
        self._metrics = metrics
        self._arrival: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began_s = 500, time.perf_counter()

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                await self._record(scope, status)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            lasted_s = time.perf_counter() - began_s
            self._metrics.requested(scope["method"], _route(scope), status, lasted_s)

    async def _record(self, scope: Scope, status: int) -> None:
        state = scope.get("state", {})
        who = state.get("principal")
        if scope["method"] in _READING and status not in _REFUSED:
            return
        if state.get("audited") == status:
            return
        if who is None and not self._has_room():
            return
        entry = entry_of(scope, status)
        try:
            await run_in_threadpool(self._audit.append, entry)
        except ImpastoError:
            log.exception("%s is not in the audit log", entry)

    def _has_room(self) -> bool:
        try:
            self._arrival = next_arrival(self._arrival, time.monotonic(), _NAMELESS)
        except LimitExceeded:
            return False
        return True


def entry_of(scope: Scope, status: int) -> Entry:
    """What the audit log says of a request.

    A route that writes it with what it does, in one transaction, says so by `state.audited`, the
    status that it wrote.
    """
    state = scope.get("state", {})
    who = state.get("principal")
    return Entry(
        user=who.user if who else "",
        role=who.role if who else "",
        token=who.token if who else "",
        address=(scope.get("client") or ("",))[0],
        action=f"{scope['method']} {_route(scope)}",
        subject=state.get("subject") or _subject(scope),
        status=status,
    )


def _route(scope: Scope) -> str:
    """The template, so that neither the metrics nor the log grow with what is asked for."""
    route = scope.get("route")
    return getattr(route, "path", None) or "(no route)"


def _subject(scope: Scope) -> str:
    found = scope.get("path_params", {})
    return next((str(found[name]) for name in _SUBJECTS if name in found), "")
