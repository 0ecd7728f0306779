"""A store that is opened object by object, each with a credential of its own."""

from collections.abc import Callable, Mapping

from obstore.store import ObjectStore

from impasto.access import Access
from impasto.errors import RequestError
from impasto.stores.store import Store


class GrantedStore(Store):
    """Objects below one URL that were granted singly.

    Every method raises RequestError for any other object.

    Args:
        url: as in `Store`.
        prefix: likewise.
        access: holds the grants.
        open_with: opens the container with a signature.
    """

    def __init__(
        self, url: str, *, prefix: str, access: Access, open_with: Callable[[str], ObjectStore]
    ) -> None:
        self.url = url
        self.access = access
        self._prefix = prefix
        self._delete = None
        self._open_with = open_with
        self._grants: Mapping[str, str] = dict(access.grants)
        self._opened: dict[str, ObjectStore] = {}

    def _at(self, key: str) -> ObjectStore:
        signature = self._grants.get(f"{self.url}/{key}")
        if signature is None:
            raise RequestError(f"this worker was given no right to {key!r} in {self.url}")
        if signature not in self._opened:
            self._opened[signature] = self._open_with(signature)
        return self._opened[signature]
