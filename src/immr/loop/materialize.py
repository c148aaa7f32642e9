"""Materialize: item features from what shoppers did go into the online feature store."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from immr.data.admission import admit_table
from immr.data.contract import IMPRESSIONS
from immr.data.tables import files_of

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.data.training_set import TrainingSet
    from immr.wiring import Parts


def materialize(parts: Parts, training_set: TrainingSet, data: Path) -> int:
    """Write features of the click log's last seven days; returns the number of items.

    Raises:
        ContractError: No impression keeps the contract.
        FeaturesUnavailableError: The feature store does not answer.
    """
    return parts.features.materialize(_item_features(training_set, _impressions(data)))


def push(parts: Parts, training_set: TrainingSet, data: Path) -> int:
    """Write features of the click log and of the event log since then; returns the number of items.

    The seven days end at the newest impression of both.

    Raises:
        ContractError: No impression keeps the contract.
        EventLogError: The event log does not answer.
        FeaturesUnavailableError: The feature store does not answer.
    """
    import pyarrow as pa

    logged = _impressions(data)
    live = parts.events.joined().select(logged.column_names).cast(logged.schema)
    return parts.features.push(
        _item_features(training_set, pa.concat_tables([_without_queries_of(live, logged), live]))
    )


def _without_queries_of(live: pa.Table, logged: pa.Table) -> pa.Table:
    """A click log exported from the event log shares queries with it: count them once."""
    import pyarrow.compute as pc

    return logged.filter(pc.invert(pc.is_in(logged["query_id"], value_set=live["query_id"].unique())))


def _impressions(data: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with TemporaryDirectory(prefix="immr-impressions-") as folder:
        admit_table(IMPRESSIONS, files_of(data, IMPRESSIONS), data, Path(folder))
        return pq.read_table(Path(folder) / "impressions.parquet")


def _item_features(training_set: TrainingSet, impressions: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    from immr.features.stats import item_stats

    return item_stats(training_set.items, impressions, now=pc.max(impressions["ts"]).as_py())
