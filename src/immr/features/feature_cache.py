"""A short-lived cache of item features: popular items appear in search after search."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from immr.errors import FeaturesUnavailableError
from immr.features.feature_store import FeatureReader, UserReader
from immr.types import ItemFeatures, UserFeatures

T = TypeVar("T")

MAX_AGE_S = 2.0
AWAY_S = 2.0
_MAX_ITEMS = 200_000


class _Reader(FeatureReader, UserReader, Protocol):
    """The reading half of a feature store."""


class RecentFeatures:
    """Caches features for `max_age_s`, and reads all that are missing in one call. Thread-safe.

    A store that does not answer is not asked again for `away_s`, so that searches continue without features
    instead of queueing behind a store that hangs. An outage is noticed up to `max_age_s` late.
    """

    def __init__(self, reader: _Reader, max_age_s: float = MAX_AGE_S, away_s: float = AWAY_S) -> None:
        self._reader = reader
        self._max_age_s, self._away_s = max_age_s, away_s
        self._reading = threading.Lock()
        self._away: tuple[float, FeaturesUnavailableError] | None = None
        self._known: dict[str, tuple[float, ItemFeatures | None]] = {}  # None: the store does not have it

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Features of the items that the store has.

        Raises:
            FeaturesUnavailableError: the store has to be read and does not answer, or did not a moment ago.
        """
        found = self._kept(item_ids)
        if old := [item_id for item_id in item_ids if item_id not in found]:
            with self._reading:
                found |= self._kept(old)  # another thread may have read them meanwhile
                if old := [item_id for item_id in old if item_id not in found]:
                    found |= self._read_store(old)
        return {item_id: features for item_id, features in found.items() if features is not None}

    def read_user(self, user_id: str) -> UserFeatures | None:
        """A user's features, never cached, so that they are only in the store.

        Raises:
            FeaturesUnavailableError: the store does not answer, or did not a moment ago.
        """
        with self._reading:  # whoever waited for a store that hangs learns that it is away
            return self._unless_away(lambda: self._reader.read_user(user_id))

    def _kept(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures | None]:
        now, known, nothing = time.monotonic(), self._known, (0.0, None)
        kept = ((item_id, *known.get(item_id, nothing)) for item_id in item_ids)
        return {item_id: features for item_id, until, features in kept if until > now}

    def _read_store(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures | None]:
        until = time.monotonic() + self._max_age_s
        read = self._unless_away(lambda: self._reader.read(item_ids))
        if len(self._known) + len(item_ids) > _MAX_ITEMS:
            self._known = {}
        fresh = {item_id: read.get(item_id) for item_id in item_ids}
        self._known.update({item_id: (until, features) for item_id, features in fresh.items()})
        return fresh

    def _unless_away(self, read: Callable[[], T]) -> T:
        if self._away and time.monotonic() < self._away[0]:
            raise self._away[1]
        try:
            found = read()
        except FeaturesUnavailableError as error:
            self._away = (time.monotonic() + self._away_s, error)
            raise
        self._away = None
        return found
