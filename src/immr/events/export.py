"""Exports the event log as the next click log: `queries` and `impressions` in the data contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.data.sources.catalogue_copy import CatalogueCopy
from immr.errors import EventLogError
from immr.storage.atomic import replace_folder_atomically

_REPLACEABLE = ("queries.parquet", "impressions.parquet", "items.parquet", "attributes.toml")


@dataclass(frozen=True)
class Exported:
    """What was exported and what was left out: queries_in = queries + without_photo + of_bots."""

    folder: Path
    queries_in: int
    queries: int
    without_photo: int
    of_bots: int
    impressions: int


def export(
    joined: pa.Table,
    searches: pa.Table,
    photos: Mapping[str, Path],
    bots: Collection[str],
    out: Path,
    catalogue: CatalogueCopy | None = None,
) -> Exported:
    """Write the `queries` and `impressions` tables, and the `items` if a catalogue is given.

    Training needs the photo of a query, so only queries with a kept photo are exported, with all
    their impressions. Queries of bots are left out.

    Args:
        joined: Impressions, as returned by `EventLog.joined`.
        searches: Searches, as returned by `EventLog.searches`.
        photos: The photo of each query_id, as returned by `PhotoStore.by_query`.
        bots: User ids that are not shoppers.
        out: The folder to write; an earlier export in it is replaced as a whole.
        catalogue: The shop's items, which the event log does not have.

    Raises:
        EventLogError: No query is left.
        DataError: `out` holds something other than an earlier export.
    """
    is_bot = pc.is_in(searches["user_id"], value_set=pa.array(sorted(bots), pa.string()))
    human = searches.filter(pc.invert(is_bot))
    images = pa.array([_uri(photos, query_id) for query_id in human["query_id"].to_pylist()], pa.string())
    queries = human.append_column("image", images).filter(pc.is_valid(images))
    if not queries.num_rows:
        raise EventLogError(
            f"none of {searches.num_rows} queries ({human.num_rows} by shoppers) has a photo to train "
            "on: set IMMR_KEEP_PHOTOS=1 for the gateway"
        )
    shown = joined.filter(pc.is_in(joined["query_id"], value_set=queries["query_id"].combine_chunks()))
    with replace_folder_atomically(out, _REPLACEABLE) as folder:
        for contract, table in ((QUERIES, queries), (IMPRESSIONS, shown)):
            ordered = table.select(contract.columns.names).cast(contract.columns)
            pq.write_table(ordered, folder / f"{contract.name}.parquet")
        if catalogue is not None:
            catalogue.write(folder)
    return Exported(
        folder=out,
        queries_in=searches.num_rows,
        queries=queries.num_rows,
        without_photo=human.num_rows - queries.num_rows,
        of_bots=searches.num_rows - human.num_rows,
        impressions=shown.num_rows,
    )


def _uri(photos: Mapping[str, Path], query_id: str) -> str | None:
    return str(photos[query_id].absolute()) if query_id in photos else None
