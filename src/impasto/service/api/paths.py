"""Whose a path of the media store is: uploads lie in a place of their user's own."""

import hashlib
import re

from starlette.exceptions import HTTPException

from impasto.errors import RequestError
from impasto.service.roles import Permission, Principal

UPLOADS = "uploads"
_PLAIN = re.compile(r"[a-z0-9][a-z0-9@._-]{0,63}")


def home_of(user: str) -> str:
    """The prefix of the media store under which a user's uploads lie, "/" at its end.

    A name that is no plain part of a path gets a digest instead, so that no two names meet, on
    disks that don't tell "A" from "a" either.
    """
    if _PLAIN.fullmatch(user):
        return f"{UPLOADS}/{user}/"
    return f"{UPLOADS}/~{hashlib.sha256(user.encode()).hexdigest()[:24]}/"


def check_reach(path: str, who: Principal) -> None:
    """See that `path` is none of another user's uploads.

    Raises:
        RequestError: it is; in the words for a path that is not there.
    """
    if who.may(Permission.RUNS_OF_ALL) or not path.casefold().startswith(f"{UPLOADS}/"):
        return
    if not path.startswith(home_of(who.user)):
        raise RequestError(f"there is no {path!r} in the media store")


def check_replace(target: str, who: Principal) -> None:
    """See that `who` may replace what is at `target`: all share what is no upload.

    Raises:
        HTTPException: 403; only an operator may.
    """
    if not who.may(Permission.RUNS_OF_ALL) and not target.startswith(home_of(who.user)):
        raise HTTPException(
            403,
            f"only an operator may replace {target!r}; without force, or within "
            f"{home_of(who.user)!r}, you may write",
        )
