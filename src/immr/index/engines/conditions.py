"""Translates filters into conditions of Qdrant, which each engine has its own types for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from immr.index.documents import WHOLE_CATEGORY, category_prefixes, payload_key, point_id
from immr.index.vector_index import EVERYTHING
from immr.types import Condition, Filters


@dataclass(frozen=True)
class Dialect:
    """Constructors of one engine's types, which have the same names and meaning in each engine."""

    condition: Callable[..., Any]  # key, and match or range
    any_of: Callable[[list[str]], Any]
    between: Callable[[float | None, float | None], Any]
    has_id: Callable[[int], Any]
    all_of: Callable[[list[Any], list[Any]], Any]  # what must and what must not hold
    one_of: Callable[[list[Any]], Any]


def translate(filters: Filters, dialect: Dialect) -> Any | None:
    """The filters in an engine's types; None if everything may be found."""
    if filters == EVERYTHING:
        return None
    must: list[Any] = []
    must_not: list[Any] = []
    conditions = list(filters.conditions)
    if filters.category and category_prefixes(filters.category):
        conditions.append(Condition("category", (filters.category,)))
    if filters.price_min is not None or filters.price_max is not None:
        conditions.append(Condition("price", ranges=((filters.price_min, filters.price_max),)))
    for condition in conditions:
        one_of = _alternatives(condition, dialect)
        if condition.negated:
            must_not += one_of
        else:
            must.append(one_of[0] if len(one_of) == 1 else dialect.one_of(one_of))
    if filters.exclude is not None:
        must_not.append(dialect.has_id(point_id(filters.exclude)))
    return dialect.all_of(must, must_not) if must or must_not else None


def _alternatives(condition: Condition, dialect: Dialect) -> list[Any]:
    key = payload_key(condition.name)
    if condition.ranges:
        return [
            dialect.condition(key=key, range=dialect.between(low, high)) for low, high in condition.ranges
        ]
    values = list(condition.values)
    if condition.name == "category" and condition.exact:
        key = WHOLE_CATEGORY
    elif condition.name == "category":
        values = [path for value in values for path in category_prefixes(value)[-1:]]
    return [dialect.condition(key=key, match=dialect.any_of(values))]
