"""Routes on API tokens, and on the audit log: an admin's."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from impasto.errors import NotFound
from impasto.service.api.access import BackendDep, TokenManager, only
from impasto.service.api.forms import TOKEN_ID
from impasto.service.api.models import (
    Absent,
    AuditEntry,
    AuditPage,
    NewToken,
    TokenInfo,
    TokenPage,
    TokenRequest,
)
from impasto.service.api.problems import documented
from impasto.service.roles import Permission

router = APIRouter(prefix="/v1", tags=["administration"])

_MANAGERS = only(Permission.TOKENS_MANAGE)
_TokenId = Annotated[str, Path(pattern=TOKEN_ID, description="Of the token, not its text.")]


@router.post("/tokens", status_code=201, summary="Make a token", responses=documented(413, 415))
def create_token(
    asked: TokenRequest, who: TokenManager, backend: BackendDep, request: Request
) -> NewToken:
    """Make a token for a user. Its text is in this answer and nowhere else, ever."""
    made, written = backend.tokens.create(
        asked.user, asked.role, created_by=who.user, label=asked.label, lasts_s=asked.lasts_s
    )
    request.state.subject = made.id
    return NewToken(**asdict(made), token=written)


@router.get("/tokens", summary="List tokens", dependencies=[_MANAGERS])
def list_tokens(
    backend: BackendDep,
    after: Annotated[str, Field(pattern=TOKEN_ID)] | Absent = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> TokenPage:
    """Every token that was made, revoked and expired ones too, without their secrets."""
    found = backend.tokens.page(after=after, limit=limit + 1)
    shown = found[:limit]
    following = shown[-1].id if len(found) > limit else None
    return TokenPage(tokens=[TokenInfo.of(token) for token in shown], next=following)


@router.delete(
    "/tokens/{token_id}",
    status_code=204,
    summary="Revoke a token",
    responses=documented(404),
    dependencies=[_MANAGERS],
)
def revoke_token(token_id: _TokenId, backend: BackendDep) -> Response:
    """End a token at once and for ever."""
    if not backend.tokens.revoke(token_id):
        raise NotFound(f"there is no token {token_id!r}")
    return Response(status_code=204)


@router.get("/audit", summary="Read the audit log", dependencies=[only(Permission.AUDIT_READ)])
def read_audit(
    backend: BackendDep,
    before: Annotated[
        Annotated[int, Field(ge=1, le=2**53)] | Absent,
        Query(description="`next` of the page before."),
    ] = None,
    user: Annotated[str | Absent, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """Who did what, when, from where, and what came of it; the latest first."""
    found = backend.audit.page(before=before, limit=limit + 1, user=user)
    shown = found[:limit]
    following = shown[-1].id if len(found) > limit else None
    return AuditPage(entries=[AuditEntry.of(each) for each in shown], next=following)
