"""Which filters a facet counts under: all but those on its own attribute, so that other values can be chosen."""

from __future__ import annotations

from dataclasses import replace

from immr.types import Filters


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
