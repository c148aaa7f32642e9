"""What only two tables together show: ids that do not match, and times that are hours apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_SAME_TIME_H = 0.1
_SIMPLIFIED: dict[str, Callable[[str], str]] = {
    "without zeros at the start": lambda key: key.lstrip("0"),
    "without .0 at the end": lambda key: key.removesuffix(".0"),
    "without spaces": lambda key: "".join(key.split()),
    "without regard to case": str.casefold,
    "after Unicode normalization": lambda key: unicodedata.normalize("NFC", key),
}


def unknown_items(items: pd.DataFrame, impressions: pd.DataFrame) -> str:
    """A sentence about impressions of items that are not in the catalogue, and how their ids may have changed.

    Args:
        items: `item_id` of the whole catalogue.
        impressions: `item_id`.
    """
    known = {str(item_id) for item_id in items["item_id"].dropna()}
    named = [str(item_id) for item_id in impressions["item_id"].dropna()]
    if not (unknown := [item_id for item_id in named if item_id not in known]):
        return ""
    found = ", ".join(_would_match(unknown, known))
    hint = f"; would match: {found}. Export ids as text, alike in both tables" if found else ""
    rows_named = f"rows with an item that is not in the catalogue: {len(unknown):,} of {len(named):,}"
    return f"{rows_named}, such as {unknown[0]!r}{hint}"


def shifted_times(queries: pd.DataFrame, impressions: pd.DataFrame) -> str:
    """A sentence if most impressions are as far from their searches as time zones are from each other.

    Args:
        queries: `query_id` and `ts`.
        impressions: `query_id` and `ts`.
    """
    asked, shown = (
        table[["query_id", "ts"]].dropna().set_index("query_id")["ts"] for table in (queries, impressions)
    )
    apart = (shown - asked[~asked.index.duplicated()].reindex(shown.index)).dropna()
    apart_h = apart.dt.total_seconds() / 3600
    if apart_h.empty or abs(shift_h := round(float(apart_h.median()) * 4) / 4) < 1:
        return ""
    share = float(((apart_h - shift_h).abs() < _SAME_TIME_H).mean())
    if share < 0.5:
        return ""
    order = "before" if shift_h < 0 else "after"
    return (
        f"{share:.0%} of the rows are {abs(shift_h):g} hours {order} their searches: if one of the tables has local "
        'times, add its zone to the mapping, such as zone = "Europe/Berlin"'
    )


def _would_match(unknown: Sequence[str], known: Collection[str]) -> list[str]:
    """How unknown ids would match known ones, most first: `12 without zeros at the start`.

    Args:
        unknown: ids, one for each row.
        known: the ids that exist.
    """
    counts = {}
    for how, simplified in _SIMPLIFIED.items():
        there = {simplified(key) for key in known}
        counts[how] = sum(simplified(key) in there for key in unknown)
    most_first = sorted((-count, how) for how, count in counts.items() if count)
    return [f"{-count:,} {how}" for count, how in most_first]
