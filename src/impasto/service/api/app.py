"""The application: every route, under one description, behind one edge."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.types import Lifespan

from impasto.service.api import logs, progress, results, runs, styles, system, tokens, uploads
from impasto.service.api.accounts import Accounts
from impasto.service.api.backend import Backend
from impasto.service.api.edge import Edge
from impasto.service.api.followers import Followers
from impasto.service.api.metrics import Metrics
from impasto.service.api.places import Places
from impasto.service.api.problems import documented, install

_DESCRIPTION = """
Paint videos in a style, many at a time. Ask for a run, follow it, fetch the result.

Every request but `/health` and `/ready` needs `Authorization: Bearer TOKEN`. Errors are
`application/problem+json` (RFC 9457).
"""
_EVERYWHERE = documented(400, 401, 403, 422, 500, 503)


ROUTERS = (
    runs.router, progress.router, results.router, logs.router, uploads.router, styles.router,
    tokens.router, system.router,
)  # fmt: skip


def create_app(backend: Backend) -> FastAPI:
    """Return the ASGI application that serves `backend`."""
    metrics = Metrics(backend.service.runs)
    followers = Followers(backend.service.runs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Followers]]:
        yield {"followers": followers}  # each request's state has it, and so has the server

    scraped = system.open_metrics if backend.open_metrics else system.closed_metrics
    app = with_routes((*ROUTERS, scraped, *backend.routers), lifespan)
    app.state.backend = backend
    app.state.metrics = metrics
    quota = backend.service.runs.quota
    app.state.streams = Places(quota.streams, "streams of events")
    app.state.uploads = Places(quota.uploads, "uploads")
    install(app)
    app.add_middleware(
        Edge,
        larger={uploads.PATH: quota.upload_bytes},
        allowed_hosts=backend.allowed_hosts,
    )
    app.add_middleware(Accounts, audit=backend.audit, metrics=metrics)
    return app


def with_routes(routers: Iterable[APIRouter], lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The routes and their description, with nothing behind them."""
    app = FastAPI(
        title="Impasto",
        description=_DESCRIPTION,
        version=version("impasto"),
        openapi_url=None,  # the document is a route like the others: it asks for a token
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_EVERYWHERE,
        lifespan=lifespan,
    )
    for router in routers:
        app.include_router(router)
    return app
