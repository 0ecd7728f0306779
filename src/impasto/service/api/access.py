"""Who is let in: the one dependency by which a route says what it asks for."""

import logging
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from impasto.errors import NotFound
from impasto.service.api.backend import Backend
from impasto.service.oidc import OidcRefused, OidcUnreachable
from impasto.service.records import ServiceRun
from impasto.service.roles import Permission, Principal
from impasto.service.tokens import TokenRefused

log = logging.getLogger("impasto.service.api")

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="An API token (`impasto_…`), or one of the configured OpenID Connect provider.",
)
_PAUSE_S = "10"


async def backend_of(request: Request) -> Backend:
    """What the application was made with; not worth a thread."""
    backend: Backend = request.app.state.backend
    return backend


BackendDep = Annotated[Backend, Depends(backend_of)]


class Requires:
    """Lets those in who have a permission; the route gets to know who it is.

    Raises:
        HTTPException: 401 without a valid token, 403 without the permission, 503 while nobody can
            tell whether the token is valid, 422 for a query parameter that the route does not have.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(
        self,
        request: Request,
        backend: BackendDep,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> Principal:
        """Authenticate and authorise; what has to be looked up is, in a thread."""
        if credentials is None:
            raise _unauthorised()
        who = backend.tokens.recall(credentials.credentials)
        if who is None:
            who = await run_in_threadpool(_identify, backend, credentials.credentials)
        request.state.principal = who
        if not who.may(self.permission):
            raise HTTPException(403, f"the role {who.role} has no permission {self.permission}")
        _refuse_unknown(request)
        return who


def _refuse_unknown(request: Request) -> None:
    """A misspelt filter must not come back as everything."""
    if not request.scope["query_string"]:
        return
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise HTTPException(422, f"unknown query parameter {name[:80]!r}; there are: {there}")


def _identify(backend: Backend, written: str) -> Principal:
    try:
        if written.startswith("impasto_") or backend.oidc is None:
            return backend.tokens.verify(written)
        return backend.oidc.verify(written)
    except (TokenRefused, OidcRefused) as error:
        log.info("a token was refused: %s", error)
        raise _unauthorised('error="invalid_token"') from error
    except OidcUnreachable as error:
        log.warning("%s", error)
        raise HTTPException(
            503, "the identity provider can't be reached", {"Retry-After": _PAUSE_S}
        ) from error


def _unauthorised(reason: str = "") -> HTTPException:
    """RFC 6750, section 3: what is wrong with the token is said by a code, or not at all."""
    challenge = f'Bearer realm="impasto"{", " if reason else ""}{reason}'
    return HTTPException(401, "a valid token is needed: Authorization: Bearer TOKEN",
                         {"WWW-Authenticate": challenge})  # fmt: skip


def only(permission: Permission) -> Any:
    """The same for a route, or a router, that needn't know who it is."""
    return Depends(Requires(permission))


Reader = Annotated[Principal, only(Permission.RUNS_READ)]
Submitter = Annotated[Principal, only(Permission.RUNS_SUBMIT)]
Controller = Annotated[Principal, only(Permission.RUNS_CONTROL)]
Uploader = Annotated[Principal, only(Permission.MEDIA_WRITE)]
TokenManager = Annotated[Principal, only(Permission.TOKENS_MANAGE)]


def visible_run(backend: Backend, run_id: str, who: Principal) -> ServiceRun:
    """The run, to whom it belongs and to operators; to others there is none.

    Raises:
        NotFound: there is none of that id, or it is somebody else's.
    """
    run = backend.service.runs.get(run_id)
    if not who.owns(run.user):
        raise NotFound(f"there is no run {run_id!r}")
    return run
