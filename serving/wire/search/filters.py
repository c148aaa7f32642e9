"""The fields `filter` and `facets`: `brand:Nike`, `-brand:Nike`, `size:40..44`."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from immr.types import AttributeKind, Condition, Facet
from serving.wire.problems import FieldProblem, ProblemError, invalid_fields
from serving.wire.schemas import FacetBody

MAX_VALUE_CHARS = 1000
FILTER_PATTERN = rf"^-?[A-Za-z_][A-Za-z0-9_]{{0,63}}:[^\x00]{{1,{MAX_VALUE_CHARS}}}$"
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
MAX_FILTERS = 20
_SPAN = ".."


def as_list(value: Any) -> Any:
    """A text where a list is expected; empty texts count as absent."""
    values = [value] if isinstance(value, str) else value
    return [each for each in values if each != ""] if isinstance(values, list) else values


def names_of(value: Any) -> Any:
    """`brand,category`, or a list of such texts, as a list of names without empty ones."""
    texts = as_list(value)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return value
    return [name for text in texts for name in map(str.strip, text.split(",")) if name]


def conditions(filters: Sequence[str], kinds: Mapping[str, AttributeKind]) -> tuple[Condition, ...]:
    """Filters as conditions that must all hold.

    Those on one attribute are alternatives; those that exclude something (`-brand:Nike`) each hold.

    Args:
        filters: `name:value`, and for numbers also `name:from..to`, with either end left out.
        kinds: what can be filtered by.

    Raises:
        ProblemError: 422 for an unknown attribute, a number that is not one, or a reversed range.
    """
    grouped: dict[tuple[str, bool], list[str]] = {}
    for text in filters:
        name, _, value = text.removeprefix("-").partition(":")
        value = unicodedata.normalize("NFC", value.strip())  # as attributes are read
        if not value:
            message = f"Send a value after {name}:"
            raise invalid_fields([FieldProblem(field="filter", message=message)])
        grouped.setdefault((known("filter", name, kinds), text.startswith("-")), []).append(value)
    return tuple(
        Condition(name, ranges=tuple(map(_range, values)), negated=negated)
        if kinds[name] == "number"
        else Condition(name, values=tuple(values), negated=negated)
        for (name, negated), values in grouped.items()
    )


def known(field: str, name: str, kinds: Mapping[str, AttributeKind]) -> str:
    """The name of an attribute.

    Raises:
        ProblemError: 422 with the known names if this is not one of them.
    """
    if name not in kinds:
        message = f"There is no attribute {name!r} in this catalogue. Use one of {', '.join(kinds)}"
        raise invalid_fields([FieldProblem(field=field, message=message)])
    return name


def facet_body(facet: Facet) -> FacetBody:
    """A facet as the API returns it."""
    return FacetBody(counts=dict(facet.counts), min=facet.smallest, max=facet.largest)


def _range(text: str) -> tuple[float | None, float | None]:
    low, is_span, high = text.partition(_SPAN)
    if not is_span:
        return _number(low), _number(low)
    if not low and not high:
        raise _not_a_number(text)
    smallest, largest = (_number(low) if low else None), (_number(high) if high else None)
    if smallest is not None and largest is not None and smallest > largest:
        message = f"The range {text} is reversed. Send {high}..{low}"
        raise invalid_fields([FieldProblem(field="filter", message=message)])
    return smallest, largest


def _number(text: str) -> float:
    try:
        number = float(text.replace("_", "?"))  # Python reads 1_0 as 10
    except ValueError as error:
        raise _not_a_number(text) from error
    if not math.isfinite(number):
        raise _not_a_number(text)
    return number


def _not_a_number(text: str) -> ProblemError:
    message = f"{text!r} is not a number or a range like 40..44, 40.. or ..44"
    return invalid_fields([FieldProblem(field="filter", message=message)])
