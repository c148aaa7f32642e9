from dataclasses import replace

import numpy as np
import pytest

from immr.ranking.boosting import boost, click_lists, tree_of
from immr.ranking.examples import Examples
from immr.ranking.ranker_recipe import RankerRecipe
from immr.search.ranking import RankingRecipe
from immr.search.trees import Trees
from tests.support import ranking_log


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return ranking_log.of(tmp_path_factory.mktemp("log"), queries=600)


def test_each_click_is_a_list_of_its_query(made: Examples) -> None:
    weight_R = made.log.position_R.astype(float)
    everything = np.ones(len(made.log.user_Q), dtype=bool)
    lists = click_lists(made, weight_R, everything)
    assert len(lists.size_P) == made.log.clicked_R.sum()
    assert lists.relevant_E.sum() == len(lists.size_P)
    clicked = lists.row_E[lists.relevant_E]
    assert made.log.clicked_R[clicked].all()
    assert lists.weight_P.tolist() == weight_R[clicked].tolist()
    list_E = np.repeat(np.arange(len(lists.size_P)), lists.size_P)
    assert (made.log.query_R[lists.row_E] == made.log.query_R[clicked][list_E]).all()


def test_clicks_without_a_weight_have_no_list(made: Examples) -> None:
    lists = click_lists(made, np.zeros(len(made.hand_R)), np.ones(len(made.log.user_Q), dtype=bool))
    assert len(lists.size_P) == len(lists.row_E) == 0


def test_trees_find_what_the_hand_weights_do_not_know(made: Examples) -> None:
    weight_R = np.ones(len(made.hand_R))
    early_Q = np.arange(len(made.log.user_Q)) < 400
    train, stop = click_lists(made, weight_R, early_Q), click_lists(made, weight_R, ~early_Q)
    ranker = boost(made, train, stop, RankingRecipe(), RankerRecipe(min_leaf_clicks=5))
    added_R = ranker.trees.predict(made.signals_RF)
    cheap_R = np.array([ranking_log.items()[item].price < 5 for item in made.log.item_R])
    assert added_R[cheap_R].mean() > added_R[~cheap_R].mean() + 1


def test_trees_are_kept_where_the_hand_weights_give_all_items_one_score(made: Examples) -> None:
    tied = replace(made, hand_R=np.zeros(len(made.hand_R)))
    weight_R = np.ones(len(made.hand_R))
    early_Q = np.arange(len(made.log.user_Q)) < 400
    train, stop = click_lists(tied, weight_R, early_Q), click_lists(tied, weight_R, ~early_Q)
    assert boost(tied, train, stop, RankingRecipe(), RankerRecipe(min_leaf_clicks=5)).trees.trees


def test_where_the_hand_weights_are_perfect_there_are_no_trees(made: Examples) -> None:
    rng = np.random.default_rng(0)
    hand_QK = made.hand_R.reshape(-1, ranking_log.SHOWN)
    best_R = (hand_QK == hand_QK.max(axis=1, keepdims=True)).ravel()
    noise_RF = rng.standard_normal(made.signals_RF.shape)
    perfect = replace(made, log=replace(made.log, clicked_R=best_R), signals_RF=noise_RF)
    early_Q = np.arange(len(made.log.user_Q)) < 400
    weight_R = np.ones(len(best_R))
    train, stop = click_lists(perfect, weight_R, early_Q), click_lists(perfect, weight_R, ~early_Q)
    assert boost(perfect, train, stop, RankingRecipe(), RankerRecipe()).trees.trees == []


def test_trees_predict_what_lightgbm_predicts() -> None:
    import lightgbm

    rng = np.random.default_rng(0)
    signals_NF = rng.standard_normal((3000, 6))
    signals_NF[rng.random(signals_NF.shape) < 0.1] = np.nan
    signals_NF[:, 3] = np.nan_to_num(signals_NF[:, 3])  # without missing values in training
    label_N = np.nan_to_num(signals_NF[:, 0]) + np.isnan(signals_NF[:, 1]) + np.abs(signals_NF[:, 3])
    booster = lightgbm.train(
        {"num_leaves": 31, "verbosity": -1, "seed": 0},
        lightgbm.Dataset(signals_NF, label_N, params={"verbosity": -1}),
        num_boost_round=25,
    )
    trees = Trees([tree_of(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]])
    unseen_NF = rng.standard_normal((500, 6)) * 2
    unseen_NF[rng.random(unseen_NF.shape) < 0.2] = np.nan
    assert trees.predict(unseen_NF) == pytest.approx(booster.predict(unseen_NF), abs=1e-10)
