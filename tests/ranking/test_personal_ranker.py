from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from immr.ranking.counterfactual import weights
from immr.ranking.examples import Examples
from immr.ranking.learning import learn
from immr.ranking.personal_ranker import Judged, personalize
from immr.ranking.propensity import PLACES, Propensities
from immr.ranking.ranker_recipe import RankerRecipe
from immr.ranking.split import by_user
from immr.ranking.user_histories import histories
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.trees import Trees
from tests.support import ranking_log
from tests.support.ranking_log import EXAMINED_K, SHOWN

RECIPE = RankerRecipe(personal=True, min_leaf_clicks=10, min_clicks=150, rounds=300)
ITEMS = ranking_log.items()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return ranking_log.of(tmp_path_factory.mktemp("log"), queries=4000, users=400)


def liking_a_brand(made: Examples, often: float = 0.8, rarely: float = 0.1) -> Examples:
    """The same impressions, clicked by users of whom each likes one brand."""
    log = made.log
    brand_R = np.array([int(str(ITEMS[item].attributes["brand"])[1:]) for item in log.item_R])
    liked_R = np.array([int(user[1:]) % 5 for user in log.user_Q])[log.query_R]
    wanted_R = np.where(brand_R == liked_R, often, rarely) * EXAMINED_K[log.position_R - 1]
    clicked_R = np.random.default_rng(0).random(len(wanted_R)) < wanted_R
    return replace(made, log=replace(log, clicked_R=clicked_R))


def judged_by_truth(made: Examples) -> Judged:
    log_K = np.full(len(PLACES), np.nan)
    log_K[:SHOWN] = np.log(EXAMINED_K)
    truth = Propensities(log_K, np.zeros((len(PLACES), len(PLACES))), np.full(len(PLACES), np.inf))
    return Judged(by_user(made.log, RECIPE), weights(truth, made, RECIPE.max_weight), {"all": truth})


def for_everybody(made: Examples) -> Ranker:
    return Ranker(made.attributes, RankingRecipe(), 1.0, Trees([]))


def test_tastes_are_found(made: Examples) -> None:
    tasteful = liking_a_brand(made)
    earlier = histories(tasteful.log, ITEMS, tasteful.attributes)
    base = for_everybody(tasteful)
    ranker, verdict = personalize(base, tasteful, earlier, judged_by_truth(tasteful), RECIPE)
    assert verdict.passed, verdict.sentence
    assert verdict.sentence.startswith("It is personal")
    assert verdict.numbers["personal.difference.all"] == verdict.difference.mean > 0.05
    assert ranker.personal is not None and ranker.personal.trees.trees
    assert replace(ranker, personal=None) == base


def test_without_tastes_nothing_is_added(made: Examples) -> None:
    alike = liking_a_brand(made, often=0.4, rarely=0.4)
    earlier = histories(alike.log, ITEMS, alike.attributes)
    base = for_everybody(alike)
    ranker, verdict = personalize(base, alike, earlier, judged_by_truth(alike), RECIPE)
    assert ranker is base
    assert not verdict.passed
    assert verdict.sentence.startswith("It is not personal: on ")


def test_users_who_never_come_back_teach_nothing(made: Examples) -> None:
    users = np.array([f"once{number}" for number in range(len(made.log.user_Q))])
    strangers = replace(made, log=replace(made.log, user_Q=users))
    earlier = histories(strangers.log, ITEMS, strangers.attributes)
    base = for_everybody(strangers)
    ranker, verdict = personalize(base, strangers, earlier, judged_by_truth(strangers), RECIPE)
    assert ranker is base
    assert "of the clicks by users with earlier clicks, 0 remain to train (needed: 150)" in verdict.sentence


def test_what_everybody_gets_does_not_depend_on_it(made: Examples) -> None:
    """The ranker and its gate are the same; only the personal trees and their sentence are added."""
    off = learn(made, RankingRecipe(), RECIPE)
    on = learn(made, RankingRecipe(), RECIPE, histories(made.log, ITEMS, made.attributes))
    assert off.personal is None and off.ranker.personal is None
    assert on.personal is not None
    assert replace(on.ranker, personal=None) == off.ranker
    assert on.verdict == off.verdict
    assert on.sentence.startswith(off.verdict.sentence)


def test_where_everybody_wants_something_else_the_hand_weights_are_its_base(made: Examples) -> None:
    tasteful = liking_a_brand(made)
    learned = learn(tasteful, RankingRecipe(), RECIPE, histories(tasteful.log, ITEMS, tasteful.attributes))
    assert learned.personal is not None
    assert (learned.verdict.passed, learned.personal.passed, learned.passed) == (False, True, True)
    assert learned.ranker.trees.trees == [] and learned.ranker.personal is not None
    assert learned.sentence.startswith("It is personal: ")
    assert "All other users keep the hand-tuned weights, because the gate does not pass: " in learned.sentence
