"""Item features out of what shoppers did: in a click log, and since then in the event log."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from immr import wiring
from immr.data.admission import admit_table
from immr.data.contract import IMPRESSIONS
from immr.data.tables import files_of
from immr.data.training_set import TrainingSet
from immr.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


def of_click_log(training_set: TrainingSet, data: Path) -> pa.Table:
    """Features of a training set's items from the last seven days of a click log (`features.stats.SCHEMA`).

    Raises:
        ContractError: there are no impressions that keep the contract.
    """
    return _stats(training_set, _impressions(data))


def of_click_log_and_events(settings: Settings, training_set: TrainingSet, data: Path) -> pa.Table:
    """The same with what the event log has seen since; seven days back from the newest of both.

    Raises:
        ContractError: there are no impressions that keep the contract.
        EventLogError: the event log does not answer.
    """
    import pyarrow as pa

    with closing(wiring.event_log(settings)) as events:
        live = events.joined()
    before = _impressions(data)
    live = live.select(before.column_names).cast(before.schema)
    return _stats(training_set, pa.concat_tables([_without(before, live), live]))


def _without(before: pa.Table, live: pa.Table) -> pa.Table:
    """A click log that was exported from the event log has queries in common with it: they count once."""
    import pyarrow.compute as pc

    return before.filter(pc.invert(pc.is_in(before["query_id"], value_set=live["query_id"].unique())))


def _impressions(data: Path) -> pa.Table:
    """Those that keep the contract."""
    import pyarrow.parquet as pq

    with TemporaryDirectory(prefix="immr-impressions-") as folder:
        admit_table(IMPRESSIONS, files_of(data, IMPRESSIONS), data, Path(folder))
        return pq.read_table(Path(folder) / "impressions.parquet")


def _stats(training_set: TrainingSet, impressions: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    from immr.features.stats import item_stats

    return item_stats(training_set.items, impressions, now=pc.max(impressions["ts"]).as_py())
