"""The feature store as the rest of IMMR uses it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from immr.types import ItemFeatures


class FeatureReader(Protocol):
    """Reads features of items. Every `FeatureStore` is one."""

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Online features, without items that the store does not have.

        Raises:
            FeaturesUnavailableError: the store does not answer.
        """


class FeatureStore(FeatureReader, Protocol):
    """Entity features of items. Tables passed to it have the schema `immr.features.stats.SCHEMA`."""

    @property
    def ready(self) -> bool:
        """Whether the library and the definitions are loaded, so that a read is fast."""

    def warm(self) -> None:
        """Load what makes the first read slow; meant for a background thread.

        Raises:
            FeaturesUnavailableError: the store does not answer, or was never materialized: try again later.
        """

    def materialize(self, stats: pa.Table) -> int:
        """Make these rows the offline source and load them online; returns the rows loaded."""

    def push(self, stats: pa.Table) -> int:
        """Write newer rows online, and append them offline, between two materializations."""

    def freshness(self) -> datetime | None:
        """The newest event_timestamp online; None if unknown."""
