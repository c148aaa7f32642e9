"""Features are cached for a short time, then read again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from immr.errors import FeaturesUnavailableError
from immr.features import feature_cache as recent_module
from immr.features.feature_cache import RecentFeatures
from immr.types import ItemFeatures, UserFeatures
from tests.support.patience import until

ANN = UserFeatures(("apple",), ("Fruit",), (1.0,), ({},))


class Store:
    """A feature store in memory that records what is read."""

    def __init__(self) -> None:
        self.ctr = 0.1
        self.asked: list[list[str]] = []
        self.users_asked: list[str] = []
        self.is_away = False

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        self.asked.append(list(item_ids))
        if self.is_away:
            raise FeaturesUnavailableError("away")
        return {item: ItemFeatures(1.0, "Fruit", 10, 1, self.ctr) for item in item_ids if item != "unknown"}

    def read_user(self, user_id: str) -> UserFeatures | None:
        self.users_asked.append(user_id)
        if self.is_away:
            raise FeaturesUnavailableError("away")
        return ANN


class Clock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recent_module, "time", clock)
    return clock


def test_each_item_is_read_once_until_it_expires(clock: Clock) -> None:
    store = Store()
    recent = RecentFeatures(store, max_age_s=2.0)
    assert set(recent.read(["a", "b", "unknown"])) == {"a", "b"}
    store.ctr = 0.2
    assert {item: each.ctr_7d for item, each in recent.read(["b", "c", "unknown"]).items()} == {
        "b": 0.1,
        "c": 0.2,
    }
    assert store.asked == [["a", "b", "unknown"], ["c"]]
    clock.now_s += 2.1
    assert recent.read(["a"])["a"].ctr_7d == 0.2


def test_concurrent_reads_of_the_same_items_share_one_answer() -> None:
    reading: list[int] = []

    class Slow(Store):
        def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
            until(lambda: len(reading) == 4)
            return super().read(item_ids)

    store = Slow()
    recent = RecentFeatures(store, max_age_s=60)

    def read(number: int) -> dict[str, ItemFeatures]:
        reading.append(number)
        return recent.read(["a", "b"])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(read, range(4)))
    assert all(set(each) == {"a", "b"} for each in answers)
    assert store.asked == [["a", "b"]]


def test_an_outage_is_noticed_at_the_next_read_of_the_store() -> None:
    store = Store()
    recent = RecentFeatures(store, max_age_s=60)
    recent.read(["a"])
    store.is_away = True
    assert set(recent.read(["a"])) == {"a"}
    with pytest.raises(FeaturesUnavailableError):
        recent.read(["a", "b"])


def test_users_are_read_each_time_and_share_the_outage() -> None:
    store = Store()
    recent = RecentFeatures(store, max_age_s=60)
    assert [recent.read_user("ann") for _ in range(2)] == [ANN, ANN]
    assert store.users_asked == ["ann", "ann"]
    store.is_away = True
    for _ in range(2):
        with pytest.raises(FeaturesUnavailableError):
            recent.read_user("ann")
    assert len(store.users_asked) == 3


def test_concurrent_reads_of_users_wait_for_a_hanging_store_once() -> None:
    reading: list[str] = []

    class Hanging(Store):
        def read_user(self, user_id: str) -> UserFeatures | None:
            until(lambda: len(reading) == 4)
            return super().read_user(user_id)

    store = Hanging()
    store.is_away = True
    recent = RecentFeatures(store, away_s=60)

    def read(user_id: str) -> UserFeatures | None:
        reading.append(user_id)
        return recent.read_user(user_id)

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(read, user) for user in ("ann", "ben", "cy", "dee")]
    assert all(isinstance(each.exception(), FeaturesUnavailableError) for each in answers)
    assert len(store.users_asked) == 1


def test_a_store_that_does_not_answer_is_not_retried_for_a_while(clock: Clock) -> None:
    store = Store()
    recent = RecentFeatures(store, away_s=2.0)
    store.is_away = True
    for _ in range(3):
        with pytest.raises(FeaturesUnavailableError):
            recent.read(["a"])
    assert len(store.asked) == 1
    store.is_away = False
    clock.now_s += 2.1
    assert set(recent.read(["a"])) == {"a"}
