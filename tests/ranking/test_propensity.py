"""The position bias of logs whose truth is known."""

import numpy as np
import pytest

from benchmarks.ranking.propensity_intervals import coverage
from immr.ranking.propensity import PLACES, estimate, places_of, strata

EXAMINED_K = np.array([1, 0.9, 0.85, 0.4, 0.3])


def a_log(
    rng: np.random.Generator, impressions: int = 60_000, items: int = 300
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, positions and clicks; the more attractive an item, the higher it is shown."""
    attractive_N = rng.beta(1, 3, items)
    item_R = rng.integers(0, items, impressions)
    place_R = np.clip(rng.binomial(4, 1 - attractive_N[item_R]), 0, 4)
    clicked_R = rng.random(impressions) < EXAMINED_K[place_R] * attractive_N[item_R]
    return item_R, place_R + 1, clicked_R


def test_it_is_told_from_attractive_items_that_are_shown_first() -> None:
    item_R, position_R, clicked_R = a_log(np.random.default_rng(0))
    by_ctr = np.array([clicked_R[position_R == position].mean() for position in range(1, 6)])
    assert by_ctr[1] / by_ctr[0] < 0.8  # what a naive reading would say
    found = estimate(item_R, position_R, clicked_R)
    assert found.relative_K[:5] == pytest.approx(EXAMINED_K, abs=0.06)
    assert (np.abs(found.log_K[1:5] - np.log(EXAMINED_K[1:])) < 4 * found.error_K[1:5]).all()
    assert np.isnan(found.relative_K[5:]).all()


def test_its_standard_errors_are_those_of_repeated_logs() -> None:
    found = [estimate(*a_log(np.random.default_rng(seed), impressions=6_000, items=50)) for seed in range(40)]
    spread = np.std([each.log_K[1:5] for each in found], axis=0)
    claimed = np.mean([each.error_K[1:5] for each in found], axis=0)
    assert (claimed / spread > 0.6).all()
    assert (claimed / spread < 1.7).all()


def test_strata_with_two_impressions_each_are_enough() -> None:
    rng = np.random.default_rng(1)
    pairs = 40_000
    attractive_S = rng.beta(1, 3, pairs)
    stratum_R = np.repeat(np.arange(pairs), 2)
    position_R = np.tile([1, 4], pairs)
    clicked_R = rng.random(2 * pairs) < EXAMINED_K[position_R - 1] * attractive_S[stratum_R]
    found = estimate(stratum_R, position_R, clicked_R)
    assert found.relative_K[3] == pytest.approx(0.4, abs=0.03)


def test_positions_that_no_item_shares_with_the_first_are_unknown() -> None:
    item_R = np.array([0, 0, 0, 0, 1, 1] * 50)
    position_R = np.array([1, 2, 1, 2, 3, 4] * 50)
    clicked_R = np.random.default_rng(0).random(300) < 0.5
    found = estimate(item_R, position_R, clicked_R)
    assert np.isfinite(found.relative_K[:2]).all()
    assert np.isnan(found.relative_K[2:]).all()
    assert np.isnan(found.of(np.array([4]))).all()


def test_a_position_is_connected_through_others() -> None:
    item_R = np.array([0, 0, 1, 1] * 50)
    position_R = np.array([1, 2, 2, 4] * 50)
    clicked_R = np.random.default_rng(0).random(200) < 0.5
    assert np.isfinite(estimate(item_R, position_R, clicked_R).relative_K[3])


def a_log_of(*cells: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strata, positions and clicks, from cells of (stratum, position, impressions, clicks)."""
    rows = np.array([cell[:2] for cell in cells]).repeat([cell[2] for cell in cells], axis=0)
    clicked_R = np.concatenate([np.arange(shown) < clicks for *_, shown, clicks in cells])
    return rows[:, 0], rows[:, 1], clicked_R


def test_a_position_that_took_all_clicks_of_its_strata_is_unknown() -> None:
    found = estimate(*a_log_of((0, 1, 100, 0), (0, 2, 100, 50), (1, 1, 100, 30), (1, 3, 100, 10)))
    assert np.isnan([found.log_K[1], found.error_K[1]]).all()
    assert found.relative_K[2] == pytest.approx(1 / 3)


def test_positions_that_only_a_position_without_clicks_connects_are_unknown() -> None:
    found = estimate(*a_log_of((0, 1, 100, 50), (0, 2, 100, 0), (1, 2, 100, 0), (1, 3, 100, 10)))
    assert np.isnan(found.log_K[1:]).all()
    down = estimate(*a_log_of((0, 1, 100, 30), (0, 2, 100, 0), (1, 2, 100, 10), (1, 3, 100, 5)))
    assert down.first == 1 and np.isnan(np.delete(down.log_K, [1, 2])).all()
    assert down.relative_K[1:3] == pytest.approx([1, 1 / 2]), (
        "these two can be compared, but not with position 1"
    )


def test_a_position_known_from_one_stratum_is_as_uncertain_as_its_clicks() -> None:
    found = estimate(*a_log_of((0, 1, 1000, 30), (0, 2, 1000, 10)))
    assert found.log_K[1] == pytest.approx(np.log(10 / 30))
    assert found.error_K[1] == pytest.approx(np.sqrt(1 / 30 + 1 / 10), rel=1e-3)


@pytest.mark.parametrize("strata_count", [3, 8, 15])
def test_intervals_of_few_strata_cover_the_truth(strata_count: int) -> None:
    """Clicks of a stratum come in clumps. Of 1.96 standard errors, 72 to 88 % of the intervals covered the truth."""
    ours, normal, _ = coverage(strata_count, clumped=0.5, spread=1.0, logs=120)
    assert normal < 0.9 < 0.92 <= ours


def test_a_place_that_one_stratum_compares_has_no_interval() -> None:
    found = estimate(*a_log_of((0, 1, 1000, 30), (0, 2, 1000, 10)))
    assert (found.degrees_K[1], found.reach_K()[1]) == (0, np.inf)


@pytest.mark.parametrize("lowest", [2, 3, 5])
def test_a_log_without_its_first_slots_is_relative_to_the_first_that_it_has(lowest: int) -> None:
    """All positions were unknown."""
    item_R, position_R, clicked_R = a_log(np.random.default_rng(0))
    found = estimate(item_R, position_R + lowest - 1, clicked_R)
    assert found.first == lowest - 1
    assert found.relative_K[lowest - 1 : lowest + 4] == pytest.approx(EXAMINED_K, abs=0.06)
    assert np.isnan(found.relative_K[: lowest - 1]).all()


def test_a_first_slot_that_is_hardly_logged_is_not_what_others_are_relative_to() -> None:
    item_R, position_R, clicked_R = a_log(np.random.default_rng(0))
    few_R = (position_R > 1) | (np.arange(len(position_R)) % 100 == 0)
    found = estimate(item_R[few_R], position_R[few_R], clicked_R[few_R])
    assert found.first == 1
    assert found.relative_K[1:5] == pytest.approx(EXAMINED_K[1:] / EXAMINED_K[1], abs=0.06)


def test_an_order_that_never_varies_says_nothing() -> None:
    item_R = np.tile(np.arange(4), 100)
    clicked_R = np.random.default_rng(0).random(400) < 0.5
    found = estimate(item_R, item_R + 1, clicked_R)
    assert np.isnan(found.relative_K[1:]).all()
    assert found.relative_K[0] == 1


def test_late_positions_share_a_place() -> None:
    positions = np.array([1, 10, 11, 12, 13, 500])
    assert PLACES[places_of(positions)].tolist() == [1, 10, 11, 11, 13, 31]


def test_a_stratum_is_an_item_at_similar_cosine_and_rank() -> None:
    item_R = np.array([0, 0, 0, 1])
    cosine_R = np.array([0.5, 0.5, 0.5, 0.5])
    found = strata(item_R, cosine_R, np.array([1, 1, 20, 1]))
    assert found[0] == found[1]
    assert len({*found[[0, 2, 3]].tolist()}) == 3
