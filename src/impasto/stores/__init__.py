"""Object storage by URL: whole puts, conditional puts, reads by range, listing by prefix.

No reader ever sees a part of an object. Keys are relative, with "/" between their parts.

    store = open_store("az://system/runs", settings.access)
    store.put_new("plan.json", data)

    film = locate("az://media/in/a.mp4", settings.access)    # a StoredFile; a Path for a local one
"""

from impasto.stores.backends import open_store, overlap
from impasto.stores.file import Place, StoredFile, address, etag_of, handed, locate
from impasto.stores.folder import Item, is_folder, items, read_item
from impasto.stores.grants import can_narrow, narrow
from impasto.stores.store import Entry, Store

__all__ = [
    "Entry",
    "Item",
    "Place",
    "Store",
    "StoredFile",
    "address",
    "can_narrow",
    "etag_of",
    "handed",
    "is_folder",
    "items",
    "locate",
    "narrow",
    "open_store",
    "overlap",
    "read_item",
]
