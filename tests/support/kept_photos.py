"""What a photo store holds."""

from pathlib import Path

import pyarrow.parquet as pq

from immr.events.query_photos import PhotoStore


def by_query(store: PhotoStore) -> dict[str, Path]:
    """The photo of each query."""
    with store.on_disk() as file:
        rows = pq.read_table(file).to_pylist()
    return {row["query_id"]: Path(row["image"]) for row in rows}
