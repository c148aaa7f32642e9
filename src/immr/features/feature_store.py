"""What the rest of IMMR asks of a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from immr.types import ItemFeatures


class FeatureReader(Protocol):
    """Who knows features of items; every `FeatureStore` does."""

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Online features; items that are not known are left out.

        Raises:
            FeaturesUnavailableError: they cannot be told now.
        """


class FeatureStore(FeatureReader, Protocol):
    """Entity features of items. A stats table has the columns of `immr.features.stats.COLUMNS`."""

    @property
    def ready(self) -> bool:
        """Whether a read is fast now: the store's library is loaded and its definitions are known."""

    def warm(self) -> None:
        """Do what makes the first read slow, so that it can be done in a background thread.

        Raises:
            FeaturesUnavailableError: the store does not answer, or was never materialized: try again later.
        """

    def materialize(self, stats: pa.Table) -> int:
        """Make these rows the offline source and load them online; returns the rows loaded."""

    def push(self, stats: pa.Table) -> int:
        """Bring fresher rows online (and append them offline), between two materializations."""

    def freshness(self) -> datetime | None:
        """The newest event_timestamp that was brought online, None where none is known."""
