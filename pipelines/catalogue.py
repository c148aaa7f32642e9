"""The catalogue pipeline: changed and deleted items, stored once, then delivered to every collection."""

from kfp import dsl

import components
from pipelines.cluster import at_home, repeatable


@dsl.pipeline(
    name="immr-catalogue",
    description="Delivers changed and deleted items to every live version's collection.",
)
def catalogue(changed_uri: str = "", deleted_uri: str = ""):
    """Update the catalogue without training or restarting anything.

    Args:
        changed_uri: New or changed items, as Parquet or CSV (docs/data-contract.md); empty for none.
        deleted_uri: Deleted items: Parquet or CSV with a column item_id; empty for none.
    """
    written = components.record_changes(changed_uri=changed_uri, deleted_uri=deleted_uri)
    delivered = components.deliver(until=written.outputs["sequence"])
    at_home(written, delivered)
    repeatable(delivered)
