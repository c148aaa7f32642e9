"""What changed between two catalogues of one shop."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.data.attributes import item_of
from immr.data.column_types import convert
from immr.data.contract import ITEMS
from immr.data.sources.shop import Shop
from immr.types import Item

_ADDED = ("class_id", "unseen")  # by governance; classes are numbered afresh in each training set
_SHA = "image_sha256"


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
    old_table, new_table = pq.read_table(before), pq.read_table(after)
    old, new = _rows(old_table), _rows(new_table)
    items = [
        item_of({name: value for name, value in row.items() if name != _SHA})
        for item_id, row in new.items()
        if row != old.get(item_id)
    ]
    gone = old.keys() - new.keys() - listed
    kept = pc.is_in(
        old_table["item_id"], value_set=pa.array(sorted((old.keys() & listed) - new.keys()), pa.string())
    )
    rows = pa.concat_tables([new_table, old_table.filter(kept)], promote_options="default")
    return CatalogueChanges(items, sorted(gone), rows)


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


def _rows(table: pa.Table) -> dict[str, dict[str, Any]]:
    names = [name for name in table.column_names if name not in _ADDED]
    return {row["item_id"]: row for row in table.select(names).to_pylist()}
