"""The HTTP API under /v1: `create_app(backend)` is an ASGI application, `configure` its server."""

from impasto.service.api.app import create_app
from impasto.service.api.backend import Backend, Node
from impasto.service.api.server import configure

__all__ = ["Backend", "Node", "configure", "create_app"]
