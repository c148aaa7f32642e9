"""What changed between two catalogues of one shop."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.data.attributes import item_of
from immr.data.column_types import convert
from immr.data.contract import ITEMS
from immr.data.sources.shop import Shop
from immr.storage.database import database, quoted
from immr.types import Item

if TYPE_CHECKING:
    import duckdb

_ADDED = {"class_id", "unseen"}  # by governance; classes are numbered afresh in each training set
_SHA = "image_sha256"
_BATCH = 10_000  # rows as Python objects at a time


@dataclass(frozen=True)
class CatalogueChanges:
    """What has to be delivered, and the rows of the catalogue afterwards."""

    items: list[Item]  # new or different
    deleted: list[str]  # ids of items that are no longer listed
    after: pa.Table


def changes_between(before: Path, after: Path, listed: Set[str]) -> CatalogueChanges:
    """Compare the `items.parquet` of two training sets, pictures by their content.

    Args:
        before: the earlier file.
        after: the later file.
        listed: every item_id of the shop's table. An item whose row is listed but was rejected stays as it was.
    """
    names, earlier_names = (sorted(set(pq.read_schema(file).names) - _ADDED) for file in (after, before))
    columns = ", ".join(names)
    same = f"EXCEPT SELECT {columns} FROM read_parquet({quoted(before)})" if names == earlier_names else ""
    with database() as base:
        changed = _ids(
            base, f"SELECT item_id FROM (SELECT {columns} FROM read_parquet({quoted(after)}) {same})"
        )
        gone = _ids(
            base,
            f"SELECT item_id FROM read_parquet({quoted(before)}) AS earlier "
            f"ANTI JOIN read_parquet({quoted(after)}) USING (item_id)",
        )
    kept = [item_id for item_id in gone if item_id in listed]
    deleted = [item_id for item_id in gone if item_id not in listed]
    items = [
        item_of({name: row[name] for name in names if name != _SHA})
        for batch in _rows(after, changed).to_batches(_BATCH)
        for row in batch.to_pylist()
    ]
    rows = pa.concat_tables([pq.read_table(after), _rows(before, kept)], promote_options="default")
    return CatalogueChanges(items, deleted, rows)


def listed_ids(shop: Shop) -> set[str]:
    """Every item_id of a shop's items, whether its row is valid or not.

    Raises:
        ContractError: the table is missing or cannot be read.
    """
    table = shop.table(ITEMS)
    assert table is not None, "items are not optional"
    chunks = table.chunks(columns=["item_id"])
    return {
        id for chunk in chunks for id in convert(chunk.mapped["item_id"], pa.string())[0].to_pylist() if id
    }


def _ids(base: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return [item_id for (item_id,) in base.execute(f"{sql} ORDER BY item_id").fetchall()]


def _rows(file: Path, item_ids: Sequence[str]) -> pa.Table:
    """The rows of these items, in the order of the file."""
    return pq.read_table(file, filters=pc.field("item_id").isin(pa.array(item_ids, pa.string())))
