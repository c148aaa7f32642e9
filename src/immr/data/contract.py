"""The data contract: columns, keys and references of a shop's four tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from immr.types import AttributeKind

TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class TableContract:
    """Columns, key and references of one table."""

    name: str
    columns: pa.Schema
    key: tuple[str, ...]
    refers_to: Mapping[str, str] = field(default_factory=dict)  # column → table that must contain its value
    apart_from: str | None = None  # a table that must not contain the key
    optional: bool = False
    may_lack: frozenset[str] = frozenset()  # columns that may be missing, as may their values
    merged: tuple[str, ...] = ()  # of rows with one key: true in the first if it is true in any
    attributes: Mapping[str, AttributeKind] = field(default_factory=dict)  # columns packed into one

    @property
    def needed(self) -> list[str]:
        """Columns that must exist."""
        return [name for name in self.columns.names if name not in self.may_lack]

    def with_attributes(self, kinds: Mapping[str, AttributeKind]) -> TableContract:
        """The same with a column `attributes`, which `immr.data.attributes` packs; unchanged if there are none."""
        if not kinds:
            return self
        columns = self.columns.append(pa.field("attributes", pa.string()))
        return replace(
            self, columns=columns, attributes=kinds, may_lack=self.may_lack | frozenset({"attributes"})
        )


ITEMS = TableContract(
    name="items",
    columns=pa.schema(
        {
            "item_id": pa.string(),
            "title": pa.string(),
            "description": pa.string(),
            "category": pa.string(),
            "image": pa.string(),
            "price": pa.float64(),
            "updated_at": TIMESTAMP,
            "stock": pa.float64(),
            "images": pa.string(),  # additional pictures, packed by `immr.data.pictures.additional_pictures`
        }
    ),
    key=("item_id",),
    may_lack=frozenset({"stock", "images"}),
)
QUERIES = TableContract(
    name="queries",
    columns=pa.schema(
        {"query_id": pa.string(), "user_id": pa.string(), "ts": TIMESTAMP, "image": pa.string()}
    ),
    key=("query_id",),
)
IMPRESSIONS = TableContract(
    name="impressions",
    columns=pa.schema(
        {
            "query_id": pa.string(),
            "item_id": pa.string(),
            "position": pa.int64(),
            "clicked": pa.bool_(),
            "ordered": pa.bool_(),
            "variant": pa.string(),
            "model_version": pa.string(),
            "ts": TIMESTAMP,
        }
    ),
    key=("query_id", "item_id"),
    refers_to={"query_id": "queries", "item_id": "items"},
    merged=("clicked", "ordered"),
)
JUDGEMENTS = TableContract(
    name="judgements",
    columns=pa.schema({"query_id": pa.string(), "image": pa.string(), "item_id": pa.string()}),
    key=("query_id",),
    refers_to={"item_id": "items"},
    apart_from="queries",
    optional=True,
)
CONTRACT = (ITEMS, QUERIES, IMPRESSIONS, JUDGEMENTS)
"""In the order of checking: a table follows those it refers to."""
