"""The HTTP server around the application: uvicorn, with bounds on what a client may hold up."""

import asyncio
from collections.abc import Sequence

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from impasto.errors import RequestError

HEAD_S = 15.0
"""For the head of a request, from the first byte or the connection's begin to its end."""
_HEAD_BYTES = 32 << 10
_KEEP_ALIVE_S = 15
_CONNECTIONS = 2000
"""Followers of runs hold one each; what comes beyond is answered 503."""
_END_S = 10


class Protocol(H11Protocol):
    """HTTP/1.1 that does not wait for ever: for the head of a request, or for followers to go."""

    head_s = HEAD_S
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the wait ends with the head, and trickling does not prolong it."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._due is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the wait."""
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End the streams first: the server stops when every answer is whole, and only then."""
        self.app_state["followers"].close()
        super().shutdown()

    def _wait(self) -> None:
        self._due = self.loop.call_later(self.head_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def configure(
    app: FastAPI,
    *,
    host: str,
    port: int,
    trusted_proxies: Sequence[str] = (),
    certificate: str | None = None,
    key: str | None = None,
) -> uvicorn.Config:
    """How uvicorn serves `app`.

    Args:
        app: from `create_app`.
        host: address to listen on.
        port: likewise; 0 takes a free one.
        trusted_proxies: addresses whose X-Forwarded-For and -Proto are believed.
        certificate: PEM file with the chain; with it the port speaks TLS.
        key: PEM file with its key, where that stands in another.

    Raises:
        RequestError: no certificate, or no key for it, can be read there.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the audit log and the metrics have it, without what a client invents
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies) or None,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_END_S,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise RequestError(f"can't use the certificate {certificate!r}: {reason}") from error
    return config
