"""From examples to a ranker and its verdict: position bias, trees, the gate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from immr.errors import RankingError
from immr.machine.wording import counted
from immr.ranking.boosting import boost, click_lists, scores
from immr.ranking.counterfactual import RankerVerdict, judge, weights
from immr.ranking.examples import Examples
from immr.ranking.personal_ranker import Judged, personalize
from immr.ranking.propensity import PLACES, Propensities, estimate, places_of, strata
from immr.ranking.propensity_checks import BiasDifference, bias_differences, by_part
from immr.ranking.ranker_recipe import RankerRecipe
from immr.ranking.split import Split, by_user, split
from immr.ranking.user_histories import Histories
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.trees import Trees

_MOST_UNKNOWN = 0.2  # share of clicks at positions whose propensity is unknown


@dataclass(frozen=True)
class LearnedRanker:
    """A ranker, how it compares with the hand-tuned weights, and the position bias that was found."""

    ranker: Ranker
    verdict: RankerVerdict
    propensities: Propensities
    bias_differences: list[BiasDifference]
    personal: RankerVerdict | None = None  # against the same ranker without; None if it was not tried
    first_logged: int = 1  # the lowest position of the log

    @property
    def passed(self) -> bool:
        """Whether the ranker beats the hand-tuned weights, for everybody or for users with earlier clicks."""
        return self.verdict.passed or (self.personal is not None and self.personal.passed)

    @property
    def sentence(self) -> str:
        """The verdicts, with their warnings."""
        first, personal = self.verdict.sentence, self.personal
        sentences = [first, *([personal.sentence] if personal else [])]
        if personal and personal.passed and not self.verdict.passed:
            others = f"All other users keep the hand-tuned weights, because {first[0].lower()}{first[1:]}"
            sentences = [personal.sentence, others]
        return " ".join(
            [*sentences, *self._about_first, *(f"Beware: {doubt}." for doubt in self.bias_differences)]
        )

    @property
    def _about_first(self) -> list[str]:
        first = PLACES[self.propensities.first]
        if first == 1:
            return []
        starts = places_of(np.array([self.first_logged]))[0] == self.propensities.first
        why = "the log starts there" if starts else "the log has too few clicks before it"
        return [f"Position bias is relative to position {first}, because {why}."]


def learn(
    examples: Examples, ranking: RankingRecipe, recipe: RankerRecipe, histories: Histories | None = None
) -> LearnedRanker:
    """Estimate the position bias, fit a ranker, and compare it with the hand-tuned weights.

    Args:
        examples: of the log.
        ranking: the hand-tuned weights.
        recipe: of the ranker.
        histories: of the same log. Trees over users' earlier clicks are then added to the ranker if it passes,
            else to the hand-tuned weights, and kept if that is better.

    Raises:
        RankingError: the log has too few clicks, or its positions vary too little to tell position bias from
            relevance.
    """
    log, first = examples.log, examples.first
    parts = split(log, recipe)
    _check_clicks(examples, parts, recipe)
    stratum_R = strata(log.item_R, first.cosine_R, first.rank_R)
    whole = estimate(stratum_R, log.position_R, log.clicked_R)
    _check_propensities(whole, examples, recipe)
    best_cosine_R = first.head_cosine_QH[log.query_R, 0]
    curves = by_part(log, stratum_R, best_cosine_R, whole.first)
    weight_R = weights(whole, examples, recipe.max_weight)
    if not recipe.correct_position:
        weight_R = np.ones_like(weight_R)
    train, stop = (click_lists(examples, weight_R, rows) for rows in (parts.train_Q, parts.stop_Q))
    ranker = boost(examples, train, stop, ranking, recipe)
    known = {name: curve for name, curve in curves.items() if _is_known(curve, examples, recipe)}
    verdict = judge(scores(ranker, examples, parts.gate_Q), examples, whole, known, parts.gate_Q, recipe)
    personal = None
    if histories is not None:
        judged = Judged(by_user(log, recipe), weight_R, {"all": whole, **known})
        for_everybody = ranker if verdict.passed else replace(ranker, trees=Trees([]))
        ranker, personal = personalize(for_everybody, examples, histories, judged, recipe)
    return LearnedRanker(
        ranker, verdict, whole, bias_differences(curves), personal, int(log.position_R.min())
    )


def _check_clicks(examples: Examples, parts: Split, recipe: RankerRecipe) -> None:
    if lacking := parts.lacks(examples.log, recipe):
        raise RankingError(
            f"the log has {counted(int(examples.log.clicked_R.sum()), 'click')} on the catalogue, of which {lacking}"
            ": rank by hand-tuned weights until there are more"
        )


def _check_propensities(found: Propensities, examples: Examples, recipe: RankerRecipe) -> None:
    unknown, error = _unknown_share(found, examples), _mean_error(found, examples)
    if unknown > _MOST_UNKNOWN:
        raise RankingError(
            f"{unknown:.0%} of the clicks are at positions that cannot be compared with position "
            f"{PLACES[found.first]}, because too few items were clicked at both with a similar cosine. So position "
            "bias cannot be separated from relevance: let the order vary, for example by an A/B test of another "
            "version or by interleaving"
        )
    if error > recipe.max_propensity_error:
        raise RankingError(
            f"the position bias is too uncertain (standard error {error:.2f} in logarithms, at most "
            f"{recipe.max_propensity_error}): wait for more clicks, or let the order vary by an A/B test"
        )


def _is_known(found: Propensities, examples: Examples, recipe: RankerRecipe) -> bool:
    """Whether a part's curve is precise enough for the gate."""
    unknown, error = _unknown_share(found, examples), _mean_error(found, examples)
    return unknown <= _MOST_UNKNOWN and error <= recipe.max_propensity_error


def _unknown_share(found: Propensities, examples: Examples) -> float:
    log = examples.log
    known_K = np.isfinite(found.uncertainty_K)
    return float((~known_K[places_of(log.position_R[log.clicked_R])]).mean())


def _mean_error(found: Propensities, examples: Examples) -> float:
    """The standard error, mean over the clicks at known positions other than the reference."""
    log = examples.log
    place_R = places_of(log.position_R[log.clicked_R])
    error_R = found.uncertainty_K[place_R[place_R != found.first]]
    known_R = error_R[np.isfinite(error_R)]
    return float(known_R.mean()) if len(known_R) else np.inf
