"""Features that were read a moment ago: popular items come up in search after search."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from immr.errors import FeaturesUnavailableError
from immr.features.feature_store import FeatureReader
from immr.types import ItemFeatures

MAX_AGE_S = 2.0
AWAY_S = 2.0
_MAX_ITEMS = 200_000


class RecentFeatures:
    """Asks the reader for what it has not told in the last `max_age_s`, in one call.

    May be used from many threads. Features are at most that much older than the store's, and a store that
    goes away is noticed as late.

    One that does not answer is left alone for `away_s`: searches go on without features, and do not queue up
    behind a store that hangs.
    """

    def __init__(self, reader: FeatureReader, max_age_s: float = MAX_AGE_S, away_s: float = AWAY_S) -> None:
        self._reader = reader
        self._max_age_s, self._away_s = max_age_s, away_s
        self._asking = threading.Lock()
        self._away: tuple[float, FeaturesUnavailableError] | None = None
        self._known: dict[str, tuple[float, ItemFeatures | None]] = {}  # None: the store does not know it

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Features of those items that are known.

        Raises:
            FeaturesUnavailableError: the reader has to be asked, and does not answer, or did not just now.
        """
        found = self._kept(item_ids)
        if old := [item_id for item_id in item_ids if item_id not in found]:
            with self._asking:
                found |= self._kept(old)  # others who waited here asked for the same
                if old := [item_id for item_id in old if item_id not in found]:
                    found |= self._ask(old)
        return {item_id: features for item_id, features in found.items() if features is not None}

    def _kept(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures | None]:
        now, known, nothing = time.monotonic(), self._known, (0.0, None)
        kept = ((item_id, *known.get(item_id, nothing)) for item_id in item_ids)
        return {item_id: features for item_id, until, features in kept if until > now}

    def _ask(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures | None]:
        if self._away and time.monotonic() < self._away[0]:
            raise self._away[1]
        until = time.monotonic() + self._max_age_s
        try:
            told = self._reader.read(item_ids)
        except FeaturesUnavailableError as error:
            self._away = (time.monotonic() + self._away_s, error)
            raise
        self._away = None
        if len(self._known) + len(item_ids) > _MAX_ITEMS:
            self._known = {}
        fresh = {item_id: told.get(item_id) for item_id in item_ids}
        self._known.update({item_id: (until, features) for item_id, features in fresh.items()})
        return fresh
