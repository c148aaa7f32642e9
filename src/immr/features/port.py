"""What the rest of IMMR asks of a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from immr.types import ItemFeatures


class FeatureStore(Protocol):
    """Entity features of items. A stats table has the columns of `immr.features.stats.COLUMNS`."""

    def materialize(self, stats: pa.Table) -> int:
        """Make these rows the offline source and load them online; returns the rows loaded."""

    def push(self, stats: pa.Table) -> int:
        """Bring fresher rows online (and append them offline), between two materializations."""

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Online features; items that the store does not know are left out.

        Raises:
            FeaturesUnavailableError: the store does not answer.
        """
