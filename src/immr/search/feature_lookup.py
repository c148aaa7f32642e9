"""Step 3, item features: read from the feature store, or done without if it fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from immr.features.feature_store import FeatureReader
from immr.types import Candidate, ItemFeatures

log = logging.getLogger(__name__)


class FeatureLookup:
    """Reads the features of candidates. A failing store degrades the answer instead of failing it."""

    def __init__(self, reader: FeatureReader | None) -> None:
        """`reader=None` means that search runs without features, which is not a degradation."""
        self._reader = reader
        self._failing = False

    def read(self, candidates: Sequence[Candidate]) -> tuple[dict[str, ItemFeatures], bool]:
        """Features by item_id, and whether the store failed."""
        if self._reader is None or not candidates:
            return {}, False
        try:
            features = self._reader.read([candidate.item_id for candidate in candidates])
        except Exception as error:  # a shopper gets an answer whatever breaks in the store
            level = logging.DEBUG if self._failing else logging.WARNING  # one warning per outage
            log.log(level, "ranking without features: %s", error)
            self._failing = True
            return {}, True
        self._failing = False
        return features, False
