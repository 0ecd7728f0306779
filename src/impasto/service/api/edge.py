"""What every request passes before it reaches a route, and every response on its way out."""

import asyncio
import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impasto.service.api.problems import ProblemResponse, problem

log = logging.getLogger("impasto.service.api")

BODY_BYTES = 1 << 20
"""Of a request that is no upload."""
SILENCE_S = 30.0
"""A body of which nothing arrives for so long is given up."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""There is no page to show, and nothing that a cache or another site should have."""


class Edge:
    """Checks the host, bounds bodies in size and time, adds headers, and lets no exception out.

    Args:
        app: everything else.
        larger: path → bytes, for the paths whose bodies may be larger than `BODY_BYTES`.
        allowed_hosts: names that a Host header may have; any where empty.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        larger: dict[str, int],
        allowed_hosts: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._larger = larger
        self._allowed_hosts = frozenset(name.lower() for name in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        if (refused := self._refused(scope)) is not None:
            await refused(scope, receive, send_on)
            return
        try:
            await self._app(scope, self._bounded(scope, receive), send_on)
        except Exception:
            if started:  # the connection ends, which is all that can be said now
                raise
            log.exception("a request failed")
            await problem(500, "a fault of ours; the service's log says more")(
                scope, receive, send_on
            )

    def _refused(self, scope: Scope) -> ProblemResponse | None:
        """What the head of a request tells, before a byte of its body is read."""
        headers = Headers(scope=scope)
        if self._allowed_hosts and _host(headers) not in self._allowed_hosts:
            return problem(400, "the Host header names no host of this service")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._limit(scope):
            return _too_large(self._limit(scope))
        return None

    def _limit(self, scope: Scope) -> int:
        return self._larger.get(scope["path"], BODY_BYTES)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """`receive`, counting: a chunked body has no length to look at."""
        limit, taken, whole = self._limit(scope), 0, False

        async def receive_on() -> Message:
            nonlocal taken, whole
            if whole:  # what comes now is the end of the connection, however late
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), SILENCE_S)
            except TimeoutError:
                raise HTTPException(408, "the body did not arrive in time", _CLOSE) from None
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if taken > limit:
                    raise HTTPException(413, _limit_said(limit), _CLOSE)
            return message

        return receive_on


_CLOSE = {"Connection": "close"}


def _limit_said(limit: int) -> str:
    return f"the body is over the limit of {limit} bytes"


def _too_large(limit: int) -> ProblemResponse:
    return problem(413, _limit_said(limit), headers=_CLOSE)


def _host(headers: Headers) -> str | None:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None
