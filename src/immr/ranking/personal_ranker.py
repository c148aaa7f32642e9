"""A personal ranker: trees over a user's earlier clicks, on top of a ranker that is the same for everybody.

They are fitted and judged on the queries of users with earlier clicks. A stranger's order does not depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from immr.evaluation.bootstrap import Estimate
from immr.ranking.boosting import click_lists, fit, predicted, scores
from immr.ranking.counterfactual import RankerVerdict, compare
from immr.ranking.examples import Examples, Values
from immr.ranking.propensity import Propensities
from immr.ranking.ranker_recipe import RankerRecipe
from immr.ranking.split import Split
from immr.ranking.user_histories import Histories
from immr.search.personal_signals import Personal, personal_names
from immr.search.ranker import Ranker

_LEAVES = 4


@dataclass(frozen=True)
class Judged:
    """What the ranker for everybody was trained and judged with.

    Attributes:
        split: all queries of the same users. Signals of a user's own past cannot leak between users, so time need not
            divide them, and tastes need the clicks.
        weight_R: of clicks.
        curves: of the position bias; `all` is that of the whole log.
    """

    split: Split
    weight_R: Values
    curves: Mapping[str, Propensities]


def personalize(
    ranker: Ranker, examples: Examples, histories: Histories, judged: Judged, recipe: RankerRecipe
) -> tuple[Ranker, RankerVerdict]:
    """The ranker with trees over earlier clicks if these pass the gate, else the ranker as it is; and the verdict."""
    split = judged.split.within(histories.known_Q)
    if lacking := split.lacks(examples.log, recipe):
        sentence = f"It is not personal: of the clicks by users with earlier clicks, {lacking}."
        return ranker, RankerVerdict(False, sentence, Estimate(0.0, 0.0, 0.0))
    personal, base_R = fit_personal(ranker, examples, histories, judged, recipe)
    personal_R, gate_R = base_R.copy(), examples.of_queries(split.gate_Q)
    personal_R[gate_R] += personal.unit * predicted(personal.trees, histories.signals_RP[gate_R])
    found = compare(personal_R, base_R, examples, judged.curves, split.gate_Q, recipe)
    gained = found.by_curve["all"]
    sentence = (
        f"It is {'' if found.passed else 'not '}personal: on {found.clicks:,} clicks of other users with earlier "
        f"clicks, that adds {gained.mean:+.4f} ({found.interval})."
    )
    numbers = {f"personal.{name}": value for name, value in found.numbers.items()}
    verdict = RankerVerdict(found.passed, sentence, gained, numbers)
    return (replace(ranker, personal=personal) if found.passed else ranker), verdict


def fit_personal(
    ranker: Ranker, examples: Examples, histories: Histories, judged: Judged, recipe: RankerRecipe
) -> tuple[Personal, Values]:
    """Trees on top of the ranker's scores, without the gate; and (R,) those scores."""
    split = judged.split.within(histories.known_Q)
    base_R = scores(ranker, examples, histories.known_Q)
    train, stop = (click_lists(examples, judged.weight_R, rows_Q) for rows_Q in (split.train_Q, split.stop_Q))
    columns = personal_names(examples.attributes)
    # a few clicks say little about a taste: large trees would learn noise, and few of them too little
    cautious = replace(
        recipe,
        trees=max(1, recipe.trees // 2),
        leaves=min(recipe.leaves, _LEAVES),
        learning_rate=recipe.learning_rate / 2,
        min_leaf_clicks=2 * recipe.min_leaf_clicks,
        patience=3 * recipe.patience,
    )
    unit, trees = fit(histories.signals_RP, base_R, columns, train, stop, cautious)
    return Personal(unit, trees), base_R
