"""Compares a ranker with the hand-tuned weights on logged clicks, as if each had ordered what was shown.

A click is weighted by 1 / propensity of its position, so in expectation each relevant item counts once,
wherever it was shown (Joachims, Swaminathan and Schnabel, WSDM 2017). A click's ndcg is 1 / log2(1 + its new
rank), since its list has one relevant item. Weights are clipped and normalized by their sum. Items that were
not shown cannot be judged.

Shapes: R impressions, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from immr.evaluation.bootstrap import Estimate, mean_estimate
from immr.ranking.examples import Examples, Values
from immr.ranking.propensity import Propensities
from immr.ranking.ranker_recipe import RankerRecipe


@dataclass(frozen=True)
class RankerVerdict:
    """Whether a ranker may replace the hand-tuned weights: `sentence` for people, `numbers` for programs."""

    passed: bool
    sentence: str
    difference: Estimate  # ranker − hand-tuned weights
    numbers: dict[str, float] = field(default_factory=dict)


def weights(propensities: Propensities, examples: Examples, max_weight: float) -> Values:
    """(R,) inverse propensities, clipped; 0 at positions whose propensity is unknown."""
    propensity_R = propensities.of(examples.log.position_R)
    inverse_R = 1 / np.maximum(propensity_R, 1 / max_weight)
    return np.where(np.isnan(propensity_R), 0.0, inverse_R)


def gains(score_R: Values, examples: Examples, judged_Q: npt.NDArray[np.bool_]) -> Values:
    """(R,) 1 / log2(1 + rank) of each impression within its query, ties pessimistic; 0 if it is not judged."""
    starts_Q = examples.log.starts_Q
    gain_R = np.zeros(len(score_R))
    for query in np.flatnonzero(judged_Q):
        rows = slice(starts_Q[query], starts_Q[query + 1])
        score_K = score_R[rows]
        gain_R[rows] = 1 / np.log2(1 + (score_K[None, :] >= score_K[:, None]).sum(axis=1))
    return gain_R


def difference(gained_R: Values, examples: Examples, weight_R: Values, recipe: RankerRecipe) -> Estimate:
    """Weighted mean gain of the clicks, with an interval that resamples users.

    Args:
        gained_R: of each impression.
        examples: of the log.
        weight_R: of clicks, 0 for those that do not count.
        recipe: of the interval.
    """
    log = examples.log
    counted_R = log.clicked_R * weight_R
    gained_Q = np.bincount(log.query_R, counted_R * gained_R, len(log.user_Q))
    weight_Q = np.bincount(log.query_R, counted_R, len(log.user_Q))
    clicked_Q = weight_Q > 0
    # the normalization is taken as known: it does not change the sign
    normalized_Q = gained_Q[clicked_Q] / weight_Q[clicked_Q].mean()
    return mean_estimate(
        normalized_Q, log.user_Q[clicked_Q].tolist(), recipe.rounds, recipe.confidence, recipe.seed
    )


def judge(
    ranker_R: Values,
    examples: Examples,
    whole: Propensities,
    parts: Mapping[str, Propensities],
    judged_Q: npt.NDArray[np.bool_],
    recipe: RankerRecipe,
) -> RankerVerdict:
    """The gate: the difference must be above zero with the log's position bias and with that of each part."""
    found = compare(ranker_R, examples.hand_R, examples, {"all": whole, **parts}, judged_Q, recipe)
    sentence = (
        f"The gate {'passes' if found.passed else 'does not pass'}: on {found.clicks:,} later clicks of other users "
        f"the ranker's ndcg is {found.by_curve['all'].mean:+.4f} against the hand-tuned weights ({found.interval})."
    )
    return RankerVerdict(found.passed, sentence, found.by_curve["all"], found.numbers)


@dataclass(frozen=True)
class OrderComparison:
    """How one order compares with another, with each curve of the position bias."""

    clicks: int
    by_curve: Mapping[str, Estimate]  # `all` is that of the whole log
    confidence: float

    @property
    def worst(self) -> str:
        """The curve with the smallest lower bound."""
        return min(self.by_curve, key=lambda name: self.by_curve[name].low)

    @property
    def passed(self) -> bool:
        """Whether the difference is above zero with every curve."""
        return self.by_curve[self.worst].low > 0

    @property
    def interval(self) -> str:
        """The interval of the difference, for a sentence."""
        of_all, worst = self.by_curve["all"], self.worst
        low = self.by_curve[worst].low
        at_worst = "" if worst == "all" else f"; with the position bias of {worst} at least {low:+.4f}"
        return f"{self.confidence:.0%} interval {of_all.low:+.4f} to {of_all.high:+.4f}{at_worst}"

    @property
    def numbers(self) -> dict[str, float]:
        """For programs."""
        numbers = {"gate_clicks": float(self.clicks)}
        for name, estimate in self.by_curve.items():
            numbers |= {f"difference.{name}": estimate.mean, f"difference_low.{name}": estimate.low}
        return numbers


def compare(
    new_R: Values,
    former_R: Values,
    examples: Examples,
    curves: Mapping[str, Propensities],
    judged_Q: npt.NDArray[np.bool_],
    recipe: RankerRecipe,
) -> OrderComparison:
    """Compare two orders by the clicks of some queries.

    Args:
        new_R: scores of one.
        former_R: scores of the other.
        examples: of the log.
        curves: the position bias; `all` is that of the whole log.
        judged_Q: the queries.
        recipe: of the interval.
    """
    judged_R = examples.of_queries(judged_Q)
    gained_R = gains(new_R, examples, judged_Q) - gains(former_R, examples, judged_Q)
    by_curve = {
        name: difference(gained_R, examples, judged_R * weights(curve, examples, recipe.max_weight), recipe)
        for name, curve in curves.items()
    }
    return OrderComparison(int((examples.log.clicked_R & judged_R).sum()), by_curve, recipe.confidence)
