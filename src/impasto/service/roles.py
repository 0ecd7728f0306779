"""Who may do what: four roles, one table."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from impasto.errors import RequestError

Role = Literal["viewer", "submitter", "operator", "admin"]


class Permission(StrEnum):
    """What a route asks for. Whose runs it then reaches is `RUNS_OF_ALL`'s matter."""

    RUNS_READ = "runs:read"
    RUNS_SUBMIT = "runs:submit"
    RUNS_CONTROL = "runs:control"
    """Cancel and retry."""
    RUNS_OF_ALL = "runs:of-all"
    """See and control everybody's runs; without it another's run does not exist."""
    STYLES_READ = "styles:read"
    MEDIA_WRITE = "media:write"
    EVENTS_SEND = "events:send"
    """Say that an object has arrived; what becomes of it is the rule table's matter."""
    NODES_READ = "nodes:read"
    METRICS_READ = "metrics:read"
    TOKENS_MANAGE = "tokens:manage"
    AUDIT_READ = "audit:read"


_VIEWER = frozenset({Permission.RUNS_READ, Permission.STYLES_READ})
_SUBMITTER = _VIEWER | {
    Permission.RUNS_SUBMIT,
    Permission.RUNS_CONTROL,
    Permission.MEDIA_WRITE,
    Permission.EVENTS_SEND,
}
_OPERATOR = _SUBMITTER | {
    Permission.RUNS_OF_ALL,
    Permission.NODES_READ,
    Permission.METRICS_READ,
}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "viewer": _VIEWER,
    "submitter": _SUBMITTER,
    "operator": _OPERATOR,
    "admin": _OPERATOR | {Permission.TOKENS_MANAGE, Permission.AUDIT_READ},
}
"""Role → what it may do. Each may do all that the one before may."""

ROLES: tuple[Role, ...] = tuple(PERMISSIONS)

_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}|oidc:[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request, as the bearer token proved."""

    user: str
    """Owner of runs and uploads; "oidc:…" for those whom an identity provider vouches for."""
    role: Role
    token: str = ""
    """Id of the API token, never its secret; empty for an identity provider's."""

    def may(self, permission: Permission) -> bool:
        """Whether the role has `permission`."""
        return permission in PERMISSIONS[self.role]

    def owns(self, user: str) -> bool:
        """Whether what belongs to `user` is visible to this one."""
        return user == self.user or self.may(Permission.RUNS_OF_ALL)


def check_role(name: str) -> Role:
    """Return `name` as a role.

    Raises:
        RequestError: there is no such role.
    """
    for role in ROLES:
        if role == name:
            return role
    raise RequestError(f"role must be one of {', '.join(ROLES)}, got {name!r}")


def check_user(name: str) -> str:
    """Return `name` when it can be a user's: it stands in logs and, made safe, in paths.

    Raises:
        RequestError: it can not.
    """
    if not _USER.fullmatch(name):
        raise RequestError(
            f"a user's name is 1 to 128 letters, digits and ._@+-, a letter or digit first, "
            f"got {name!r}"
        )
    return name
