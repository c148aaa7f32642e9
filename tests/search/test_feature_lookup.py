from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from immr.errors import FeaturesUnavailableError
from immr.search.feature_lookup import FeatureLookup
from immr.types import Candidate, ItemFeatures, UserFeatures

CANDIDATES = [Candidate("apple", 0.5, "Apple", "Fruit", "apple.jpg")]
APPLE = ItemFeatures(price=1.0, category="Fruit", impressions_7d=10, clicks_7d=1, ctr_7d=0.1)
ANN = UserFeatures(("apple",), ("Fruit",), (1.0,), ({},))


class Store:
    """A feature store that can fail."""

    def __init__(self) -> None:
        self.down = False

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        if self.down:
            raise FeaturesUnavailableError("the store is down: start it")
        return dict.fromkeys(item_ids, APPLE)


def test_features_come_from_the_store() -> None:
    assert FeatureLookup(Store()).read(CANDIDATES) == ({"apple": APPLE}, False)
    assert FeatureLookup(Store()).read([]) == ({}, False)


def test_search_without_a_store_is_not_degraded() -> None:
    assert FeatureLookup(None).read(CANDIDATES) == ({}, False)


def test_a_failing_store_warns_once_per_outage(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    lookup = FeatureLookup(store)
    for down in (True, True, False, True):
        store.down = down
        features, failed = lookup.read(CANDIDATES)
        assert failed == down
        assert bool(features) != down
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2


class Users(Store):
    """A feature store that knows one user."""

    def read_user(self, user_id: str) -> UserFeatures | None:
        self.read([])
        return ANN if user_id == "ann" else None


def test_a_user_has_features_or_is_a_stranger() -> None:
    store = Users()
    lookup = FeatureLookup(store, store)
    assert [lookup.read_user(user) for user in ("ann", "ben", "")] == [
        (ANN, False),
        (None, False),
        (None, False),
    ]
    store.down = True
    assert lookup.read_user("ann") == (None, True)
    assert FeatureLookup(store).read_user("ann") == (None, False)


def test_an_outage_of_users_alone_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """The features of items may come from a cache meanwhile."""
    store, users = Store(), Users()
    lookup = FeatureLookup(store, users)
    users.down = True
    for _ in range(3):
        assert lookup.read(CANDIDATES) == ({"apple": APPLE}, False)
        assert lookup.read_user("ann") == (None, True)
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
