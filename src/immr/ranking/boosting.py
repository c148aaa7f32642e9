"""LambdaMART on clicks that are weighted by the inverse of their propensity.

Each click forms one list: the clicked item is relevant, everything else shown with it is not,
and the list's weight is 1 / propensity of the click's position. Clicks of one query thus compete with
each other too, which keeps the expected gradient unbiased (Joachims, Swaminathan and Schnabel, WSDM 2017; Wang et
al., "Position Bias Estimation for Unbiased Learning to Rank in Personal Search", WSDM 2018). The trees start
from given scores, such as those of the hand-tuned weights. (ours)

Shapes: R impressions, P clicks, E rows of all lists, F signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from immr.ranking.examples import Examples, Values
from immr.ranking.ranker_recipe import RankerRecipe
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.signals import Signals, names
from immr.search.trees import Tree, Trees

if TYPE_CHECKING:
    import lightgbm

_CUT = 10  # of the ndcg used for early stopping
_ROWS_AT_ONCE = 2_000  # rows × conditions of all trees are in memory


@dataclass(frozen=True)
class Lists:
    """One list per click."""

    row_E: npt.NDArray[np.int64]  # the impression
    relevant_E: npt.NDArray[np.bool_]  # whether it is the click
    size_P: npt.NDArray[np.int64]
    weight_P: Values


def click_lists(examples: Examples, weight_R: Values, wanted_Q: npt.NDArray[np.bool_]) -> Lists:
    """The lists of clicks with a positive weight, from queries with at least two items shown."""
    starts_Q = examples.log.starts_Q
    size_Q = np.diff(starts_Q)
    query_R = examples.log.query_R
    counts_R = examples.log.clicked_R & (weight_R > 0) & wanted_Q[query_R] & (size_Q[query_R] > 1)
    clicks = np.flatnonzero(counts_R)
    size_P = size_Q[query_R[clicks]]
    first_P = starts_Q[query_R[clicks]]
    offset_E = np.arange(size_P.sum()) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    row_E = np.repeat(first_P, size_P) + offset_E
    return Lists(row_E, row_E == np.repeat(clicks, size_P), size_P, weight_R[clicks])


def boost(
    examples: Examples, train: Lists, stop: Lists, ranking: RankingRecipe, recipe: RankerRecipe
) -> Ranker:
    """Fit trees on top of the hand-tuned weights."""
    columns = names(examples.attributes)
    unit, trees = fit(examples.signals_RF, examples.hand_R, columns, train, stop, recipe)
    return Ranker(examples.attributes, ranking, unit, trees)


def fit(
    signals_RF: Signals,
    start_R: Values,
    columns: Sequence[str],
    train: Lists,
    stop: Lists,
    recipe: RankerRecipe,
) -> tuple[float, Trees]:
    """Fit trees on top of scores, and keep as many as rank the `stop` lists best; possibly none.

    Args:
        signals_RF: what the trees read.
        start_R: the scores that they add to.
        columns: names of the signals.
        train: the lists to learn from.
        stop: the lists for early stopping.
        recipe: of the trees.

    Returns:
        The unit of the trees' values, and the trees.
    """
    import lightgbm

    unit = _unit(start_R, train)
    training = _dataset(signals_RF, start_R / unit, columns, train)
    stopping = _dataset(signals_RF, start_R / unit, columns, stop, training)
    best: dict[str, Any] = {}
    booster = lightgbm.train(
        _parameters(recipe),
        training,
        num_boost_round=recipe.trees,
        valid_sets=[stopping],
        callbacks=[
            lightgbm.early_stopping(recipe.patience, verbose=False),
            lightgbm.record_evaluation(best),
        ],
    )
    reached = best["valid_0"][f"ndcg@{_CUT}"][booster.best_iteration - 1]
    count = booster.best_iteration if reached > _ndcg(start_R, stop) else 0
    dumped = booster.dump_model(num_iteration=count)["tree_info"] if count else []
    return unit, Trees([tree_of(each["tree_structure"]) for each in dumped])


def scores(ranker: Ranker, examples: Examples, wanted_Q: npt.NDArray[np.bool_]) -> Values:
    """(R,) the ranker's scores as a Bento computes them for strangers; hand-weight scores of unwanted queries."""
    total_R = examples.hand_R.copy()
    wanted_R = examples.of_queries(wanted_Q)
    total_R[wanted_R] += ranker.unit * predicted(ranker.trees, examples.signals_RF[wanted_R])
    return total_R


def predicted(trees: Trees, signals_RF: Signals) -> Values:
    """(R,) the sum of the trees, some rows at a time."""
    blocks = range(0, len(signals_RF), _ROWS_AT_ONCE)
    return np.concatenate(
        [np.zeros(0), *(trees.predict(signals_RF[start : start + _ROWS_AT_ONCE]) for start in blocks)]
    )


def tree_of(structure: Mapping[str, Any]) -> Tree:
    """A tree from LightGBM's `dump_model`."""
    nodes: list[tuple[int, float, bool, int]] = []
    values: list[float] = []

    def visit(node: Mapping[str, Any]) -> None:
        if "leaf_value" in node:
            values.append(float(node["leaf_value"]))
            return
        place = len(nodes)
        first_leaf = len(values)
        nodes.append((0, 0.0, False, 0))
        visit(node["left_child"])
        lefts = sum(1 << leaf for leaf in range(first_leaf, len(values)))
        threshold = float(node["threshold"])
        # without missing values in training, LightGBM reads NaN as 0
        unknown_left = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0
        nodes[place] = (int(node["split_feature"]), threshold, unknown_left, lefts)
        visit(node["right_child"])

    visit(structure)
    signals, thresholds, unknown_left, lefts = zip(*nodes, strict=True) if nodes else ((), (), (), ())
    return Tree(signals, thresholds, unknown_left, lefts, values)


def _parameters(recipe: RankerRecipe) -> dict[str, Any]:
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [_CUT],
        "label_gain": [0, 1],
        "lambdarank_norm": False,  # would weigh lists by how well they are ranked
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": recipe.min_leaf_clicks,
        "learning_rate": recipe.learning_rate,
        "lambda_l2": 1.0,
        "seed": recipe.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _unit(start_R: Values, lists: Lists) -> float:
    """The spread of the scores within a list."""
    start_E = start_R[lists.row_E]
    list_E = np.repeat(np.arange(len(lists.size_P)), lists.size_P)
    mean_P = np.bincount(list_E, start_E) / lists.size_P
    return float(np.sqrt(np.mean((start_E - mean_P[list_E]) ** 2))) or 1.0


def _dataset(
    signals_RF: Signals,
    start_R: Values,
    columns: Sequence[str],
    lists: Lists,
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    import lightgbm

    return lightgbm.Dataset(
        signals_RF[lists.row_E],
        label=lists.relevant_E.astype(np.int32),
        weight=np.repeat(lists.weight_P, lists.size_P),
        group=lists.size_P,
        init_score=start_R[lists.row_E],
        feature_name=list(columns),
        reference=reference,
        params={"verbosity": -1},
    )


def _ndcg(score_R: Values, lists: Lists) -> float:
    """What LightGBM reports: the weighted mean of the lists' ndcg, ties in the order of the rows."""
    list_E = np.repeat(np.arange(len(lists.size_P)), lists.size_P)
    score_E = score_R[lists.row_E]
    own_E = np.repeat(score_E[lists.relevant_E], lists.size_P)
    place_E = np.arange(len(list_E))
    before_E = place_E < np.repeat(place_E[lists.relevant_E], lists.size_P)
    rank_P = 1 + np.bincount(list_E, (score_E > own_E) | ((score_E == own_E) & before_E))
    gain_P = np.where(rank_P <= _CUT, 1 / np.log2(1 + rank_P), 0.0)
    return float(np.average(gain_P, weights=lists.weight_P))
