"""Reads a catalogue, or changed or deleted items, by the data contract."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from immr.data.attributes import item_of
from immr.data.contract import ITEMS
from immr.data.mapping.integer_ids import IntegerIds
from immr.data.pictures.inspection import NOT_READ, SMALLEST_SIDE_PX, Inspection, inspect
from immr.data.pictures.remote.downloads import Downloads, Fetched, is_fetched
from immr.data.sources.shop import Shop
from immr.data.validation.tables import EXAMPLES, TableCounts, admit_table
from immr.errors import ContractError
from immr.machine import cores
from immr.machine.wording import by_number, counted
from immr.types import Item


@dataclass(frozen=True)
class ReadItems:
    """The valid items of a file, and the counts of rejected rows."""

    items: list[Item]
    counts: TableCounts


def read_items(
    source: str | Path, map_file: Path | None = None, pictures_dir: Path | None = None
) -> ReadItems:
    """The items of a catalogue, with the attributes that its folder declares; relative picture paths start there.

    Args:
        source: a Parquet, CSV or JSON-lines file, a folder or glob of them, or a URL.
        map_file: from the shop's columns to the contract's.
        pictures_dir: where pictures behind http(s) URLs are fetched to. An item whose picture is not usable is
            rejected. Without this folder, pictures are not checked and items keep their URLs.

    Raises:
        ContractError: no such file, another kind of file, a missing column, or no item is left.
    """
    shop = Shop.catalogue(source, map_file)
    table = shop.table(ITEMS)
    assert table is not None, "items are not optional"
    with tempfile.TemporaryDirectory(prefix="immr-items-") as folder:
        counts = admit_table(table, Path(folder))
        rows = pq.read_table(Path(folder) / "items.parquet").to_pylist()
    read = ReadItems([item_of(row) for row in rows], counts)
    if pictures_dir is None:
        return read
    checked = _with_pictures(read, Downloads(pictures_dir, shop.mapping.pictures))
    if not checked.items:
        reasons = "; ".join(
            f"{reason} ({counted(rows, 'row')})" for reason, rows in checked.counts.rejected.items()
        )
        none = by_number(counts.rows_in, "its only row cannot", f"none of its {counts.rows_in:,} rows can")
        raise ContractError(f"{table.place}: {none} be used. Correct this: {reasons}")
    return checked


def _with_pictures(read: ReadItems, downloads: Downloads) -> ReadItems:
    """The items whose main picture is here and usable, with its place; the others are rejected."""
    fetched = downloads.fetch(uri for item in read.items for uri in item.pictures if is_fetched(uri))
    uris = [item.image for item in read.items]
    items, rejected = list[Item](), Counter(read.counts.rejected)
    examples = {reason: list(names) for reason, names in read.counts.examples.items()}
    with ThreadPoolExecutor(cores.usable()) as pool:
        inspections = pool.map(inspect, uris, repeat(SMALLEST_SIDE_PX), map(fetched.get, uris))
        for item, found in zip(read.items, inspections, strict=True):
            if not found.reason:
                items.append(replace(item, image=found.place, images=_here(item.images, fetched)))
                continue
            reason, name = _refusal(item, found)
            rejected[reason] += 1
            if len(named := examples.setdefault(reason, [])) < EXAMPLES:
                named.append(name)
    # a plain mapping: `asdict` turns a Counter into counts of pairs
    return ReadItems(items, TableCounts(read.counts.rows_in, len(items), dict(rejected), examples))


def _refusal(item: Item, found: Inspection) -> tuple[str, str]:
    """Why an item is rejected, and its name in a list of those rejected for the same reason."""
    if found.reason == NOT_READ:  # the path differs in each, so it belongs to the item's name
        return found.reason, f"{item.item_id}: {found.place}"
    return f"{found.reason}: {found.detail}", item.item_id


def _here(uris: Sequence[str], fetched: Mapping[str, Fetched]) -> tuple[str, ...]:
    """The additional pictures without those that cannot be fetched; an item is not rejected for one of them."""
    places = [fetched[uri].path if uri in fetched else uri for uri in uris]
    return tuple(str(place) for place in places if place is not None)


def read_ids(file: Path) -> list[str]:
    """The `item_id` column of a Parquet or CSV file, each id once; other columns may be there.

    Raises:
        ContractError: no such file, another kind of file, no such column, or an id that is missing or empty.
    """
    if not file.is_file():
        raise ContractError(f"there is no file {file}: give a Parquet or CSV file with a column item_id")
    if file.suffix not in (".csv", ".parquet"):
        raise ContractError(f"{file} is neither .parquet nor .csv: write it as one of them")
    try:
        if file.suffix == ".csv":
            as_text = csv.ConvertOptions(include_columns=["item_id"], column_types={"item_id": pa.string()})
            read = csv.read_csv(file, convert_options=as_text)["item_id"].combine_chunks()
            ids = IntegerIds(lambda _: [read]).of_column("item_id", read).to_pylist()
        else:
            ids = pq.read_table(file, columns=["item_id"])["item_id"].cast(pa.string()).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise ContractError(f"{file} has no readable column item_id ({error}): write it again") from error
    if not all(ids):
        raise ContractError(f"{file} has rows without an item_id: remove them")
    return list(dict.fromkeys(ids))
