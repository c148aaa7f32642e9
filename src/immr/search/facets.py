"""Facets: counted under all filters except those on their own attribute, so that other values can be chosen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from immr.index.vector_index import Collection
from immr.types import Facet, Filters

KEPT_S = 5.0
_MOST = 512

_Key = tuple[str, Filters]


class RecentFacets:
    """A short-lived cache of facet counts, because most searches need the same ones. Thread-safe."""

    def __init__(self, collection: Collection, clock: Callable[[], float] = time.monotonic) -> None:
        """Counts are read from the collection and cached for `KEPT_S`."""
        self._collection = collection
        self._clock = clock
        self._kept: dict[_Key, tuple[float, Facet]] = {}
        self._lock = threading.Lock()

    def read(self, name: str, filters: Filters) -> Facet:
        """The facet of an attribute, at most `KEPT_S` old.

        Raises:
            KeyError: there is no such attribute.
            IndexUnavailableError: the vector database does not answer.
        """
        key, now = (name, without(filters, name)), self._clock()
        with self._lock:
            counted_at, facet = self._kept.get(key, (-KEPT_S, None))
        if facet is not None and now - counted_at < KEPT_S:
            return facet
        facet = self._collection.facet(*key)
        with self._lock:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[key] = (now, facet)
        return facet


def without(filters: Filters, name: str) -> Filters:
    """The filters on everything but this attribute, the category or the price."""
    kept = replace(filters, conditions=tuple(each for each in filters.conditions if each.name != name))
    if name == "category":
        return replace(kept, category=None)
    return replace(kept, price_min=None, price_max=None) if name == "price" else kept


def filtered(filters: Filters) -> list[str]:
    """The names of the attributes that the filters are on."""
    names = [each.name for each in filters.conditions]
    if filters.category is not None:
        names.append("category")
    if filters.price_min is not None or filters.price_max is not None:
        names.append("price")
    return list(dict.fromkeys(names))
