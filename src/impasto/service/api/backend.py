"""What the API stands on: everything that `impasto serve` builds before it opens its port."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from impasto.service.audit import AuditLog
from impasto.service.oidc import Oidc
from impasto.service.service import Service
from impasto.service.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine or process that the engine holds now."""

    name: str
    engine: str
    workers: int
    busy: int
    """Workers that score at this moment."""


def _nothing() -> Sequence[Node]:
    return ()


def _ready() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The parts that routes reach; every call may come from any thread."""

    service: Service
    tokens: Tokens
    audit: AuditLog
    oidc: Oidc | None = None
    nodes: Callable[[], Sequence[Node]] = _nothing
    not_ready: Callable[[], str | None] = _ready
    """Why no run can be accepted now, in one line; None when one can."""
    routers: Sequence[APIRouter] = ()
    """Of other parts, such as events; they declare their permissions as ours do."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that a request's Host may have; any where empty."""
    open_metrics: bool = False
    """Whether /metrics answers without a token."""
    clock_s: Callable[[], float] = time.time
