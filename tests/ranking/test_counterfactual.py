import numpy as np
import pytest

from immr.ranking.counterfactual import gains, judge, weights
from immr.ranking.examples import Examples
from immr.ranking.propensity import PLACES, Propensities
from immr.ranking.ranker_recipe import RankerRecipe
from tests.support import ranking_log
from tests.support.ranking_log import EXAMINED_K, SHOWN


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return ranking_log.of(tmp_path_factory.mktemp("log"))


def truth() -> Propensities:
    log_K = np.full(len(PLACES), np.nan)
    log_K[:SHOWN] = np.log(EXAMINED_K)
    return Propensities(log_K, np.zeros((len(PLACES), len(PLACES))), np.full(len(PLACES), np.inf))


def cheap(made: Examples) -> np.ndarray:
    return np.array([ranking_log.items()[item].price < 5 for item in made.log.item_R])


def test_weights_are_clipped_and_unknown_positions_do_not_count(made: Examples) -> None:
    found = weights(truth(), made, max_weight=4)
    assert found[:SHOWN] == pytest.approx([1, 1.25, 2, 1 / 0.3, 4, 4])
    unknown = truth()
    unknown.log_K[3] = np.nan
    assert weights(unknown, made, 4)[3] == 0


def test_a_gain_is_that_of_the_new_rank_and_ties_are_pessimistic(made: Examples) -> None:
    judged_Q = np.zeros(len(made.log.user_Q), dtype=bool)
    judged_Q[1] = True
    score_R = np.zeros(len(made.hand_R))
    score_R[6:12] = [0, 5, 5, 7, 1, 2]
    found = gains(score_R, made, judged_Q)
    assert found[6:12] == pytest.approx(1 / np.log2(1 + np.array([6, 3, 3, 1, 5, 4])))
    assert found[:6].tolist() == [0] * 6


def test_weighted_clicks_estimate_the_truth(made: Examples) -> None:
    """What shoppers would gain if all positions were examined."""
    everything = np.ones(len(made.log.user_Q), dtype=bool)
    ranker_R = made.hand_R + cheap(made)
    gained_R = gains(ranker_R, made, everything) - gains(made.hand_R, made, everything)
    wanted_R = np.where(cheap(made), 0.7, 0.1)
    expected = (wanted_R * gained_R).sum() / wanted_R.sum()
    verdict = judge(ranker_R, made, truth(), {}, everything, RankerRecipe())
    assert verdict.passed
    assert verdict.difference.low < expected < verdict.difference.high


def test_the_worst_curve_decides(made: Examples) -> None:
    everything = np.ones(len(made.log.user_Q), dtype=bool)
    ranker_R = -made.hand_R * made.log.position_R  # nonsense
    worse = Propensities(
        np.zeros(len(PLACES)), np.zeros((len(PLACES), len(PLACES))), np.full(len(PLACES), np.inf)
    )
    verdict = judge(ranker_R, made, truth(), {"other items": worse}, everything, RankerRecipe())
    assert not verdict.passed
    assert "does not pass" in verdict.sentence
    assert {"difference_low.all", "difference_low.other items"} <= verdict.numbers.keys()


def test_the_same_order_gains_nothing(made: Examples) -> None:
    everything = np.ones(len(made.log.user_Q), dtype=bool)
    verdict = judge(made.hand_R, made, truth(), {}, everything, RankerRecipe())
    assert (verdict.passed, verdict.difference.mean) == (False, 0.0)
