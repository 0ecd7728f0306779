"""Routes on the service itself: health, readiness, metrics, nodes, its own description."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from impasto.service.api.access import BackendDep, only
from impasto.service.api.metrics import Metrics
from impasto.service.api.models import NodeList, NodeStatus, Status
from impasto.service.api.problems import documented
from impasto.service.roles import Permission

router = APIRouter(tags=["service"])
open_metrics = APIRouter(tags=["service"])
closed_metrics = APIRouter(tags=["service"], dependencies=[only(Permission.METRICS_READ)])

OPEN_ROUTES = frozenset({"/health", "/ready"})
"""Those that answer anybody; they tell nothing but that they do."""

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_METRICS: dict[str, Any] = {
    "summary": "Metrics for Prometheus",
    "response_class": Response,
    "responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}},
                        "description": "Prometheus' text format."}},
}  # fmt: skip


@router.get("/health", summary="Whether the process lives")
async def health() -> Status:
    """Answers while the process does; it looks at nothing."""
    return Status()


@router.get("/ready", summary="Whether runs are taken", responses=documented(503))
def ready(backend: BackendDep) -> Status:
    """Answers 200 while runs can be accepted; why not is in the service's log."""
    if backend.not_ready() is not None:
        raise HTTPException(503, "not ready", {"Retry-After": "5"})
    return Status()


@router.get("/v1/nodes", summary="List nodes", dependencies=[only(Permission.NODES_READ)])
def list_nodes(backend: BackendDep) -> NodeList:
    """What the engine holds at this moment: nothing while there is nothing to do."""
    return NodeList(nodes=[NodeStatus.model_validate(asdict(node)) for node in backend.nodes()])


@router.get("/openapi.json", include_in_schema=False, dependencies=[only(Permission.RUNS_READ)])
def describe(request: Request) -> dict[str, Any]:
    """The OpenAPI document of the API."""
    document: dict[str, Any] = request.app.openapi()
    return document


@closed_metrics.get("/metrics", **_METRICS)
def read_metrics(request: Request) -> Response:
    """Runs by state, queue depth, requests by route."""
    return _exposition(request)


@open_metrics.get("/metrics", **_METRICS)
def read_metrics_openly(request: Request) -> Response:
    """Runs by state, queue depth, requests by route."""
    return _exposition(request)


def _exposition(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.exposition(), media_type=_EXPOSITION)
