from pathlib import Path

import numpy as np
import pyarrow as pa

from immr.ranking.click_log import ClickLog
from immr.ranking.propensity_checks import bias_differences, by_part
from tests.ranking.test_propensity import EXAMINED_K, a_log

USERS = 1_500


def log_of(steep_of_user: bool = False, steep_of_item: bool = False) -> ClickLog:
    """Queries of one impression each; some users or items have a stronger position bias."""
    rng = np.random.default_rng(0)
    item_R, position_R, _ = a_log(rng, impressions=120_000)
    attractive_N = rng.beta(1, 3, item_R.max() + 1)
    user_R = rng.integers(0, USERS, len(item_R))
    steep_R = np.ones(len(item_R))
    if steep_of_user:
        steep_R[user_R % 2 == 0] = 3
    if steep_of_item:
        steep_R[item_R % 10 == 0] = 0
    clicked_R = rng.random(len(item_R)) < EXAMINED_K[position_R - 1] ** steep_R * attractive_N[item_R]
    rows = np.arange(len(item_R))
    users = np.array([f"u{user}" for user in user_R])
    return ClickLog(rows, item_R, position_R, clicked_R, users, rows, list(users), Path(), pa.table({}))


def found(log: ClickLog, cosine_R: np.ndarray) -> list[str]:
    return [str(doubt) for doubt in bias_differences(by_part(log, log.item_R, cosine_R))]


def test_one_curve_for_all_raises_no_doubt() -> None:
    log = log_of()
    assert found(log, np.random.default_rng(1).random(len(log.item_R))) == []


def test_a_bias_that_depends_on_the_query_is_found() -> None:
    log = log_of(steep_of_item=True)
    as_if_clear_R = (log.item_R % 10 != 0).astype(float) + np.random.default_rng(1).random(len(log.item_R))
    (sentence,) = [each for each in found(log, as_if_clear_R) if "photos" in each]
    assert "stronger for clear photos" in sentence


def test_a_bias_that_depends_on_the_user_is_found() -> None:
    log = log_of(steep_of_user=True)
    (sentence,) = found(log, np.random.default_rng(1).random(len(log.item_R)))
    assert "users who click far down and other users (stronger for other users)" in sentence


def test_a_bias_that_depends_on_the_item_is_found() -> None:
    log = log_of(steep_of_item=True)
    sentences = found(log, np.random.default_rng(1).random(len(log.item_R)))
    assert any("(stronger for items that are clicked high up)" in each for each in sentences)


def test_users_without_clicks_to_choose_by_are_not_compared() -> None:
    log = log_of()
    nobody = log.only(np.arange(len(log.user_Q)) < 0)
    assert len(nobody.item_R) == 0
    few = log.only(np.arange(len(log.user_Q)) < 50)
    assert {"popular items", "other items"} <= by_part(few, few.item_R, np.ones(50)).keys()
