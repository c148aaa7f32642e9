"""The online rows of the view `item_stats`."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from immr.features.definitions import FEATURES, PUSH_SOURCE, VIEW
from immr.features.online_view import OnlineView
from immr.machine.progress_bar import ProgressBar
from immr.types import ItemFeatures

if TYPE_CHECKING:
    from feast import FeatureStore

_log = logging.getLogger(__name__)
_MAY_LACK = FEATURES[-2:]  # stock, updated_at
_CHECKED_ITEMS = 1000
_ROWS_AT_ONCE = 10_000  # Feast makes 6 kB of objects of each
_CLOCK_TOLERANCE = timedelta(days=1)


class ItemView(OnlineView):
    """The view keyed by `item_id`."""

    def __init__(self, store: FeatureStore) -> None:
        super().__init__(store, VIEW, FEATURES, "item_id")

    def of(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Features of the items that the store has."""
        rows = self.read(item_ids)
        return {item_id: _features(values) for item_id, values in rows.items() if _is_known(values)}

    def delete_future_rows(self, rows: pa.Table) -> None:
        """Redis keeps the newer of two rows: one from the future would block all later writes."""
        if self._config.online_store.type != "redis":
            return
        step = max(1, len(rows) // _CHECKED_ITEMS)
        newest = self.newest(rows["item_id"].to_pylist()[::step])
        if newest is not None and is_future(newest):
            _log.warning("deleting all online features: their time, %s, is in the future", newest)
            self.clear()


def write_items(store: FeatureStore, rows: pa.Table) -> None:
    """Write rows of `SCHEMA` to the online store."""
    ItemView(store).delete_future_rows(rows)
    with ProgressBar("features", len(rows), "items") as progress:
        for part in rows.to_batches(_ROWS_AT_ONCE):
            store.push(PUSH_SOURCE, part.to_pandas())
            progress.advance(len(part))


def is_future(time: datetime) -> bool:
    """Whether a wrong clock must have written this time."""
    return time > datetime.now(UTC) + _CLOCK_TOLERANCE


def _is_known(values: list[Any]) -> bool:
    return None not in values[: len(FEATURES) - len(_MAY_LACK)]


def _features(values: list[Any]) -> ItemFeatures:
    features = ItemFeatures(*values)
    unknown = features.stock is None or math.isnan(features.stock)  # pandas and Feast store null as NaN
    return replace(features, stock=None) if unknown else features
