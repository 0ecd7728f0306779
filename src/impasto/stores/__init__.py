"""Object storage by URL: whole puts, conditional puts, listing by prefix.

No reader ever sees a part of an object. Keys are relative, with "/" between their parts.
"""

from impasto.stores.store import Entry, Store, open_store

__all__ = ["Entry", "Store", "open_store"]
