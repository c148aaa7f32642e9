from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from immr.errors import RankingError
from immr.ranking.examples import Examples
from immr.ranking.learning import learn
from immr.ranking.ranker_recipe import RankerRecipe
from immr.search.ranking import RankingRecipe
from tests.support import ranking_log

RECIPE = RankerRecipe(min_leaf_clicks=10, min_clicks=150, rounds=300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return ranking_log.of(tmp_path_factory.mktemp("log"), queries=4000, users=500)


def test_a_ranker_that_finds_what_shoppers_want_passes(made: Examples) -> None:
    learned = learn(made, RankingRecipe(), RECIPE)
    assert learned.verdict.passed, learned.sentence
    assert learned.ranker.trees.trees
    found = learned.propensities.relative_K[: ranking_log.SHOWN]
    assert found == pytest.approx(ranking_log.EXAMINED_K, abs=0.12)
    assert learned.sentence.startswith("The gate passes")


def test_a_log_without_its_first_slot_teaches_a_ranker_too(made: Examples) -> None:
    """All of its positions were unknown, so it was refused."""
    shifted = replace(made, log=replace(made.log, position_R=made.log.position_R + 1))
    learned = learn(shifted, RankingRecipe(), RECIPE)
    assert learned.verdict.passed, learned.sentence
    assert learned.sentence.endswith("Position bias is relative to position 2, because the log starts there.")
    few = replace(learned, first_logged=1)
    assert few.sentence.endswith("because the log has too few clicks before it.")


def test_clicks_without_any_preference_do_not_pass(made: Examples) -> None:
    rng = np.random.default_rng(0)
    clicked_R = rng.random(len(made.hand_R)) < 0.4 * ranking_log.EXAMINED_K[made.log.position_R - 1]
    random = replace(made, log=replace(made.log, clicked_R=clicked_R))
    assert not learn(random, RankingRecipe(), RECIPE).verdict.passed


def test_a_log_whose_order_never_varies_is_refused(tmp_path: Path) -> None:
    """A position then says nothing that the rank by cosine does not say."""
    frozen = ranking_log.of(tmp_path, queries=1500, frozen=True)
    with pytest.raises(RankingError, match=r"position bias cannot be separated from relevance|too uncertain"):
        learn(frozen, RankingRecipe(), RECIPE)


def test_too_few_clicks_are_refused(made: Examples) -> None:
    with pytest.raises(RankingError, match="needed: 1000000"):
        learn(made, RankingRecipe(), RankerRecipe(min_clicks=1_000_000))
