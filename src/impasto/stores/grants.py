"""Credentials for workers: for named objects, to read or to write, and for some hours.

On Azure each object gets a shared access signature of its own, signed with the account's key or,
where the account is opened by Azure AD, with a user delegation key. One signature for a whole
prefix needs an account with a hierarchical namespace; those for single objects work on every one.
https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas

On S3 they are those of a role, taken on under a session policy that names the objects.
https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session

Whoever has no more than a signature, and whoever goes to Google or to S3 without a role, hands on
what it has.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore

from impasto.access import Access, find_access
from impasto.errors import RunFailed, Unavailable
from impasto.stores.backends import azure_backend, scheme_of, split
from impasto.stores.store import may_pass, plain_answer

_LIFETIME = timedelta(hours=6)
"""Of a signature: no chunk takes as long, and each has its own."""


def can_narrow(access: Access) -> bool:
    """Whether credentials for less can be made of these."""
    match scheme_of(access.url):
        case "az":
            return not (access.sas or access.grants)
        case "s3":
            return access.role is not None
        case _:
            return False


def narrow(
    access: Sequence[Access],
    *,
    reads: Iterable[str],
    writes: Iterable[str],
) -> tuple[Access, ...]:
    """Return credentials that open these objects and no others, where such can be made.

    Args:
        access: what the objects are opened with here.
        reads: URLs of objects that are only read.
        writes: URLs of objects that are only written.

    Raises:
        Unavailable: the account does not let these credentials make others.
        RunFailed: it does not answer.
    """
    read, written = _by_access(reads, access), _by_access(writes, access)
    narrowed = []
    for place, one in enumerate(access):
        if not can_narrow(one):
            narrowed.append(one)
        elif scheme_of(one.url) == "az":
            signed = [*_sign(one, "GET", read[place]), *_sign(one, "PUT", written[place])]
            narrowed.append(replace(one, key=None, token=None, grants=tuple(signed)))
        else:
            from impasto.stores.aws import assume

            narrowed.append(assume(one, read[place], written[place]))
    return tuple(narrowed)


def _by_access(urls: Iterable[str], access: Sequence[Access]) -> list[list[str]]:
    """Which of these URLs each access opens."""
    opened: list[list[str]] = [[] for _ in access]
    for url in urls:
        if (found := find_access(url, access)) is not None:
            opened[access.index(found)].append(url)
    return opened


def _sign(
    access: Access, method: Literal["GET", "PUT"], urls: Sequence[str]
) -> Generator[tuple[str, str]]:
    """Yield each URL with a signature for that method."""
    objects: dict[str, list[tuple[str, str]]] = {}
    for url in urls:
        _, container, key = split(url)
        objects.setdefault(container, []).append((url, key))
    for container, named in objects.items():
        try:
            signed = obstore.sign(
                _signer(container, access), method, [key for _, key in named], _LIFETIME
            )
        except BaseError as error:
            told = f"az://{container} gives no signatures for workers ({plain_answer(str(error))})"
            if may_pass(str(error)):
                raise RunFailed(told) from None
            raise Unavailable(
                f"{told}; an identity needs the role Storage Blob Delegator"
            ) from None
        for (url, _), by_it in zip(named, signed, strict=True):
            yield url, by_it.partition("?")[2]


@lru_cache(maxsize=16)
def _signer(container: str, access: Access) -> AzureStore:
    """What signs for a container: to open one takes longer than to sign a thousand times."""
    backend, _ = azure_backend(container, access, f"az://{container}")
    assert isinstance(backend, AzureStore)
    return backend
