"""Checks every image of a shop's tables once; later steps use its content hash."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.pictures import additional_pictures
from immr.data.pictures.inspection import Inspection, inspect
from immr.data.pictures.remote.downloads import Downloads, is_fetched
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.workspace import Workspace
from immr.machine import cores
from immr.machine.progress_bar import ProgressBar
from immr.machine.wording import counted

SCHEMA = pa.schema(
    {
        "image": pa.string(),
        "image_sha256": pa.string(),
        "reason": pa.string(),
        "detail": pa.string(),
        "place": pa.string(),
    }
)
_REFUSED = pa.schema({name: pa.string() for name in ("table", "id", "image", "reason", "detail")})
_REFUSED_ADDITIONAL = pa.schema({"image": pa.string()})
_CHUNK = 4096
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def inspect_all(
    uris: Iterable[str],
    path: Path,
    recipe: GovernanceRecipe,
    downloads: Downloads | None = None,
    total: int = 0,
) -> None:
    """Check each image and write the results as a Parquet table, in the order given.

    Args:
        uris: distinct values of the image columns.
        path: where the table (SCHEMA) goes.
        recipe: without `check_images`, images are only hashed and none is refused.
        downloads: fetches the images behind http(s) URLs; without it they cannot be read.
        total: how many they are, for the time left; 0 if that is unknown.
    """
    with (
        pq.ParquetWriter(path, SCHEMA) as writer,
        ProgressBar("checking pictures", total, "pictures") as progress,
    ):
        for found in _in_chunks(_inspections(uris, recipe, downloads, progress)):
            columns = {name: [getattr(one, name) for one in found] for name in SCHEMA.names}
            writer.write_table(pa.table(columns, schema=SCHEMA))


def inspected(
    workspace: Workspace,
    tables: Mapping[str, Any],
    folder: Path,
    recipe: GovernanceRecipe,
    downloads: Downloads | None = None,
) -> dict[str, Any]:
    """The tables with `image_sha256`, `reason` and `detail` of their pictures; `image` is where a picture is now.

    Rows with a refused picture are also written to `rejected/images.parquet`; there is no file without any.

    Args:
        workspace: where the tables live.
        tables: of items, queries and judgements those that there are, each with a column `image`.
        folder: the training set's.
        recipe: see `inspect_all`.
        downloads: see `inspect_all`.
    """
    uris, *others = (table.select("image") for table in tables.values())
    for other in others:
        uris = uris.union(other)
    distinct = workspace.keep(uris.distinct())
    each = (uri for batch in workspace.batches(distinct, ["image"]) for uri in batch["image"].to_pylist())
    path = workspace.scratch / "images.parquet"
    inspect_all(each, path, recipe, downloads, workspace.rows(distinct))
    found = workspace.read(path)
    joined = {name: workspace.keep(table.join(found, "image")) for name, table in tables.items()}
    _write_refused(workspace, joined, folder)
    seen = {name: table.mutate(image=table.place).drop("place") for name, table in joined.items()}
    if additional_pictures.COLUMN in tables["items"].columns:
        seen["items"] = _with_additional(workspace, seen["items"], recipe, downloads)
    return seen


def _with_additional(
    workspace: Workspace, items: Any, recipe: GovernanceRecipe, downloads: Downloads | None
) -> Any:
    """The items with the additional pictures that are usable; an item is not refused for one of them."""
    some = items.filter(items.images.notnull()).select("item_id", "images")
    path = workspace.scratch / "additional.parquet"
    schema = pa.schema({"of": pa.string(), "usable": pa.string()})
    refused, example = workspace.scratch / "additional-refused.parquet", ""
    with (
        pq.ParquetWriter(path, schema) as writer,
        pq.ParquetWriter(refused, _REFUSED_ADDITIONAL) as refusals,
        ProgressBar("checking additional pictures", 0, "pictures") as progress,
    ):
        for batch in _slices(workspace.batches(some, ["item_id"])):
            uris = [additional_pictures.unpack(text) for text in batch["images"].to_pylist()]
            distinct = dict.fromkeys(uri for each in uris for uri in each)
            places: dict[str, str] = {}
            left_out: list[str] = []
            for found in _inspections(distinct, recipe, downloads, progress):
                if not found.reason:
                    places[found.image] = found.place
                    continue
                left_out.append(found.image)
                example = example or f"{found.image} ({found.reason})"
            usable = [
                additional_pictures.packed([places[uri] for uri in each if uri in places]) for each in uris
            ]
            writer.write_table(pa.table({"of": batch["item_id"], "usable": usable}, schema=schema))
            refusals.write_table(pa.table({"image": left_out}, schema=_REFUSED_ADDITIONAL))
    if example:
        number = workspace.rows(workspace.read(refused).distinct())  # slices may share pictures
        _log.warning("left out %s of items, such as %s", counted(number, "additional picture"), example)
    usable = workspace.read(path)
    joined = items.left_join(usable, items.item_id == usable.of)
    return workspace.keep(joined.mutate(images=joined.usable).drop("of", "usable"))


def _write_refused(workspace: Workspace, tables: Mapping[str, Any], folder: Path) -> None:
    keys = {"items": "item_id", "queries": "query_id", "judgements": "query_id"}
    path, rows = folder / "rejected" / "images.parquet", 0
    with pq.ParquetWriter(path, _REFUSED) as writer:
        for name, table in tables.items():
            refused = table.filter(table.reason != "").rename(id=keys[name])
            for batch in workspace.batches(refused.select(*_REFUSED.names[1:]), ["id"]):
                named = pa.Table.from_batches([batch]).add_column(0, "table", pa.repeat(name, len(batch)))
                writer.write_table(named.cast(_REFUSED))
                rows += len(batch)
    if not rows:
        path.unlink()


def _inspections(
    uris: Iterable[str], recipe: GovernanceRecipe, downloads: Downloads | None, progress: ProgressBar
) -> Iterator[Inspection]:
    min_side_px = recipe.min_image_side_px if recipe.check_images else None
    with ThreadPoolExecutor(cores.usable()) as pool:
        for chunk in _in_chunks(uris):
            fetched = downloads.fetch(filter(is_fetched, chunk)) if downloads else {}
            for inspection in pool.map(inspect, chunk, repeat(min_side_px), map(fetched.get, chunk)):
                progress.advance()
                yield inspection


def _slices(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, len(batch), _CHUNK):
            yield batch.slice(start, _CHUNK)


def _in_chunks(values: Iterable[_T]) -> Iterator[list[_T]]:
    chunk: list[_T] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
