"""Catalogue: changes between two trainings go to the outbox, and from there to every version's collection.

A change is durable once it is in the outbox; `items/delivery.py` brings it to the collections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from immr.data.item_changes import read_ids, read_items
from immr.data.validation.tables import TableCounts
from immr.errors import ContractError
from immr.loop import govern
from immr.loop.experiment.running_test import live_versions
from immr.loop.items.delivery import deliver, outbox
from immr.loop.items.request import ItemsProgress

if TYPE_CHECKING:
    from pathlib import Path

    from immr.types import Item
    from immr.wiring import Parts


@dataclass(frozen=True)
class Written:
    """Durable changes: counts by kind, rejected rows by reason with examples, and the sequence of the last change."""

    changed: int
    deleted: int  # of items that some version may have
    unknown: Sequence[str]  # the others; recorded too, because a version that is being made may have them
    rejected: Mapping[str, int]
    examples: Mapping[str, Sequence[str]]
    sequence: int


def change(parts: Parts, items: Sequence[Item], deleted: Sequence[str] = ()) -> list[ItemsProgress]:
    """Append changes to the outbox, then deliver all waiting changes."""
    outbox(parts).append(items, deleted)
    return deliver(parts)


def upsert(
    parts: Parts, source: str | Path, map_file: Path | None = None
) -> tuple[TableCounts, list[ItemsProgress]]:
    """Add or replace the items of a file, then deliver all waiting changes.

    Args:
        parts: The process's adapters.
        source: A Parquet, CSV or JSON-lines file, a folder or glob of them, or a URL.
        map_file: From its columns to the contract's.

    Returns:
        Counts of accepted and rejected rows, and the progress of each version's collection.

    Raises:
        ContractError: The file holds no valid item.
    """
    admitted = read_items(source, map_file, parts.settings.pictures_dir)
    return admitted.counts, change(parts, admitted.items)


def unknown(parts: Parts, item_ids: Sequence[str]) -> list[str]:
    """Those of these items that no live version has, and no change added.

    Versions whose training set is not in this home count as having all items.
    """
    box = outbox(parts)
    last = {item_id: box.last_of(item_id) for item_id in item_ids}
    unchanged = {item_id for item_id, change in last.items() if change is None}
    live = live_versions(parts)
    for version in parts.registry.versions() if unchanged else []:
        if version.id in live and unchanged:
            try:
                unchanged -= govern.training_set_of(parts, version).item_ids
            except ContractError:
                unchanged = set()
    deleted = {item_id for item_id, change in last.items() if change is not None and change.item is None}
    return [item_id for item_id in item_ids if item_id in deleted | unchanged]


def record_changes(parts: Parts, changed: Path | None, deleted: Path | None) -> Written:
    """Append two files of changes to the outbox atomically, without delivering them.

    Args:
        parts: The process's adapters.
        changed: New or changed items, in the data contract.
        deleted: Deleted items: a file with a column `item_id`.

    Raises:
        ContractError: A file cannot be read or holds no valid item, or one item is in both.
    """
    admitted = read_items(changed, pictures_dir=parts.settings.pictures_dir) if changed else None
    items = admitted.items if admitted else []
    gone = read_ids(deleted) if deleted else []
    if both := sorted({item.item_id for item in items} & set(gone)):
        raise ContractError(
            f"{both[0]} is both changed and deleted ({len(both)} such items): remove it from one of the files"
        )
    nowhere = unknown(parts, gone)
    sequence = outbox(parts).append(items, gone)
    counts = admitted.counts if admitted else TableCounts(0, 0, {})
    found = len(gone) - len(nowhere)
    return Written(len(items), found, nowhere, counts.rejected, counts.examples, sequence)
