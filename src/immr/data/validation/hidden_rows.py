"""Columns that say which items are not for sale: drafts must not become searchable unnoticed."""

from __future__ import annotations

import re
from collections import Counter

import pyarrow as pa

from immr.data.mapping.object_fields import listed

_NAMES = re.compile(
    r"(is|product|item)?(active|aktiv|status|visible|visibility|sichtbar|sichtbarkeit|published|enabled|online|hidden|draft)"
)
_MOST_VALUES = 8
_SHOWN_CHARS = 30


def about_hidden_rows(sample: pa.RecordBatch) -> list[str]:
    """A note for each column that may mark items as drafts or hidden, with a query that leaves them out."""
    return [note for name in sample.schema.names if (note := _about(name, sample.column(name)))]


def _about(name: str, values: pa.Array) -> str:
    plain = re.sub(r"\(.*?\)|[\W_]", "", name).lower()
    if not _NAMES.fullmatch(plain):
        return ""
    counts = Counter(str(value)[:_SHOWN_CHARS] for value in listed(values) if value is not None)
    if not 1 < len(counts) <= _MOST_VALUES:
        return ""
    shown = ", ".join(repr(value) for value, _ in counts.most_common())
    most, quoted = counts.most_common(1)[0][0].replace("'", "''"), name.replace('"', '""')
    return (
        f"{name!r} has {shown}: if some of these items must not be found, leave them out with a query, such as "
        f"SELECT * FROM rows WHERE \"{quoted}\" = '{most}'"
    )
