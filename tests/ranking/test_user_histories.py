"""Point in time: what a user clicks later, or on the same day, changes no earlier signal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from immr.features.user_clicks import CLICKS_BY_USER, USER_CLICKS, user_clicks
from immr.ranking.click_log import DAY, EPOCH, ClickLog
from immr.ranking.examples import attribute_kinds
from immr.ranking.user_histories import Histories, histories, known_on, user_features
from immr.search.personal_signals import personal_names
from tests.support import ranking_log

ITEMS = ranking_log.items()
KINDS = attribute_kinds(ITEMS)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> ClickLog:
    folder = tmp_path_factory.mktemp("log")
    ranking_log.write(folder, queries=400, users=20)
    return ranking_log.read(folder)


def rows_of(found: Histories, log: ClickLog, wanted_Q: np.ndarray) -> np.ndarray:
    return found.signals_RP[wanted_Q[log.query_R]]


def test_clicks_of_a_day_and_later_change_nothing_on_that_day(log: ClickLog) -> None:
    day = int(np.median(log.day_Q))
    before = histories(log, ITEMS, KINDS)
    rng = np.random.default_rng(0)
    later_R = log.day_Q[log.query_R] >= day
    other = replace(log, clicked_R=np.where(later_R, rng.random(len(later_R)) < 0.5, log.clicked_R))
    after = histories(other, ITEMS, KINDS)
    until_Q = log.day_Q <= day
    assert np.array_equal(rows_of(before, log, until_Q), rows_of(after, log, until_Q), equal_nan=True)
    assert before.known_Q[until_Q].tolist() == after.known_Q[until_Q].tolist()
    assert not np.array_equal(rows_of(before, log, ~until_Q), rows_of(after, log, ~until_Q), equal_nan=True)


def test_clicks_of_others_change_nothing(log: ClickLog) -> None:
    user = log.user_Q[0]
    own_Q = log.user_Q == user
    alone = replace(log, clicked_R=log.clicked_R & own_Q[log.query_R])
    found, without = histories(log, ITEMS, KINDS), histories(alone, ITEMS, KINDS)
    assert np.array_equal(rows_of(found, log, own_Q), rows_of(without, log, own_Q), equal_nan=True)
    assert not without.known_Q[~own_Q].any()


def test_a_user_is_a_stranger_until_the_day_after_the_first_click(log: ClickLog) -> None:
    found = histories(log, ITEMS, KINDS)
    assert not found.known_Q[log.day_Q == log.day_Q[0]].any()
    for user in np.unique(log.user_Q):
        own = log.user_Q == user
        clicked = log.day_Q[log.query_R[log.clicked_R & own[log.query_R]]]
        assert found.known_Q[own].tolist() == (log.day_Q[own] > clicked.min(initial=10**6)).tolist()
    known_R = found.known_Q[log.query_R]
    clicks = personal_names(KINDS).index("clicks")
    assert np.isnan(found.signals_RP[~known_R]).all()
    assert (found.signals_RP[known_R, clicks] >= 1).all()


def test_what_counts_is_bounded_in_time_and_number() -> None:
    days = np.repeat(np.arange(100), 2)
    assert known_on(0, days) == slice(0, 0)
    assert known_on(3, days) == slice(0, 6)
    assert known_on(60, days) == slice(120 - USER_CLICKS, 120)
    assert known_on(1000, days) == slice(200, 200)
    assert known_on(105, days[::10]) == slice(15, 20)  # from day 75


def test_training_knows_of_a_user_what_the_feature_store_would_hold(log: ClickLog) -> None:
    """The same clicks as rows of the store and as training sees them."""
    day = int(log.day_Q[-1])
    for user in np.unique(log.user_Q)[:5]:
        own_R = np.flatnonzero(log.clicked_R & (log.user_Q == user)[log.query_R])
        rows = [
            {
                "user_id": user,
                "query_id": f"{log.query_R[row]:05d}",
                "item_id": ITEMS[log.item_R[row]].item_id,
                "ts": EPOCH + timedelta(microseconds=int(log.time_Q[log.query_R[row]])),
            }
            for row in own_R
        ]
        midnight = EPOCH + day * DAY
        stored = user_clicks(ITEMS, pa.Table.from_pylist(rows, CLICKS_BY_USER), midnight).to_pylist()
        earlier = own_R[known_on(day, log.day_Q[log.query_R[own_R]])]
        trained = user_features([ITEMS[item] for item in log.item_R[earlier][::-1]])
        assert sorted(trained.items) == sorted(stored[0]["items"] if stored else [])
        assert sorted(trained.prices) == sorted(stored[0]["prices"] if stored else [])
