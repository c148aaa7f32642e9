"""The gate: may a candidate serve shoppers? Yes or no, in a sentence for people and in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np

from immr.errors import DataError, RecipeError
from immr.evaluation.bootstrap import (
    CautiousEstimate,
    Estimate,
    Values,
    cautious_difference,
    difference_estimate,
    over_clusterings,
)
from immr.evaluation.clusters import Clusters, all_clusterings, in_words
from immr.evaluation.gate_recipe import EXACT, GateRecipe
from immr.evaluation.result import Evaluation
from immr.machine.wording import by_number, counted

_MOST_ROUNDS = 20_000


@dataclass(frozen=True)
class SliceVerdict:
    """The gate's view of one slice."""

    queries: int
    clusters: int
    difference: Estimate  # candidate − champion; where it counts, jointly with the other slices that do
    margin: float
    counts: bool  # large enough to fail the gate
    failed: bool


@dataclass(frozen=True)
class GateVerdict:
    """The gate's answer: `sentence` for people, `numbers` for programs."""

    passed: bool
    sentence: str
    metric: str
    difference: Estimate | None = None  # candidate − champion; None without a champion
    numbers: dict[str, float] = field(default_factory=dict)
    slices: dict[str, SliceVerdict] = field(default_factory=dict)


def gate(
    candidate: Evaluation, champion: Evaluation | None, recipe: GateRecipe, is_champion: bool = False
) -> GateVerdict:
    """Compare candidate and champion on the same queries, or the candidate with `recipe.floor`.

    With a champion the rule is that of `GateRecipe`; without one, the candidate's mean must reach
    `recipe.floor`. The metric counts exact items if the recipe asks for it and judgements name them.

    Args:
        candidate: What was measured of it.
        champion: The same of the champion; None if there is none, or if it is the candidate itself.
        recipe: The rule.
        is_champion: Whether the candidate is the champion; only for the sentence.

    Raises:
        RecipeError: the recipe's metric was not measured.
        DataError: the two were evaluated on different queries or documents.
    """
    metric = _metric(candidate, recipe)
    own = candidate.intervals[metric]
    numbers = _numbers(candidate, own, recipe)
    if champion is None:
        return _against_floor(candidate, metric, recipe, numbers, is_champion)
    theirs = _estimate(champion, metric)
    order = _order(candidate, champion)
    ours_Q = candidate.per_query[metric]
    theirs_Q = np.asarray(champion.per_query[metric][order], dtype=np.float64)
    difference = over_clusterings(
        partial(cautious_difference, ours_Q, theirs_Q, **_bootstrap_of(recipe)),
        [each.ids for each in candidate.clusterings],
    )
    if np.array_equal(ours_Q, theirs_Q) and _same_answers(candidate, champion, order):
        difference = CautiousEstimate(0.0, 0.0, 0.0)
    slices = _judge_slices(candidate, ours_Q, theirs_Q, recipe)
    fewest = min(each.count for each in candidate.clusterings)
    numbers |= {"clusters": float(fewest)} | _compared(theirs, difference, slices, recipe)
    above = difference.low > recipe.margin
    passed = above and not any(part.failed for part in slices.values())
    sentence = (
        f"{_verdict(passed)}: on the same {_photos(candidate)} the candidate's "
        f"{_named(candidate, metric)} is {own.mean:.3f} and the champion's {theirs.mean:.3f}, "
        f"a difference of {difference.mean:+.3f} "
        f"({recipe.confidence:.0%} interval {difference.low:+.3f} to {difference.high:+.3f}, resampling "
        f"{in_words(candidate.clusterings)}, widened for the small sample). "
        f"Its lower bound is {'above' if above else 'not above'} the margin of "
        f"{recipe.margin:+.3f}{_of_slices(slices, above)}."
    )
    chance = chance_if_equal(difference, recipe)
    if chance is not None:
        numbers["chance_if_equal"] = chance
        if not above and difference.mean > recipe.margin:
            sentence += (
                f" With so few photos, two equal versions would pass with a probability of {chance:.0%}."
            )
    return GateVerdict(passed, sentence, metric, difference, numbers, slices)


def _numbers(candidate: Evaluation, own: Estimate, recipe: GateRecipe) -> dict[str, float]:
    return {
        "queries": float(len(candidate.queries)),
        "exact_queries": float(candidate.exact_queries),
        "clusters": float(candidate.clusters.count),
        "confidence": recipe.confidence,
        "candidate_mean": own.mean,
        "candidate_low": own.low,
        "candidate_high": own.high,
    }


def _compared(
    theirs: Estimate, difference: Estimate, slices: Mapping[str, SliceVerdict], recipe: GateRecipe
) -> dict[str, float]:
    numbers = {
        "champion_mean": theirs.mean,
        "champion_low": theirs.low,
        "champion_high": theirs.high,
        "difference_mean": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "margin": recipe.margin,
        "slices_failed": float(sum(part.failed for part in slices.values())),
    }
    return numbers | {f"difference_mean.{name}": part.difference.mean for name, part in slices.items()}


def chance_if_equal(difference: Estimate, recipe: GateRecipe) -> float | None:
    """Probability that two equal versions, measured as precisely as this, come out above the margin.

    None if the interval is empty or infinite.
    """
    reach = difference.mean - difference.low
    if not 0 < reach < math.inf:
        return None
    unseen = difference.unseen if isinstance(difference, CautiousEstimate) else 0.0
    spread = math.sqrt(max(reach**2 - unseen**2, 0.0))  # only this part of the reach moves the mean
    if spread < 1e-9:
        return float(-recipe.margin > reach)
    errors = NormalDist().inv_cdf(
        (1 + recipe.confidence) / 2
    )  # standard errors from the mean to the lower bound
    return math.erfc(errors * (reach + recipe.margin) / spread / math.sqrt(2)) / 2


def _bootstrap_of(recipe: GateRecipe) -> dict[str, Any]:
    """Settings of a bootstrap interval."""
    return {"rounds": recipe.bootstrap_rounds, "confidence": recipe.confidence, "seed": recipe.seed}


def _judge_slices(
    candidate: Evaluation, ours_Q: Values, theirs_Q: Values, recipe: GateRecipe
) -> dict[str, SliceVerdict]:
    """Each slice's verdict. The intervals of those that can fail hold for all of them jointly (Bonferroni)."""
    parts, ids_Q = candidate.slices, np.array(candidate.clusters.ids)
    clusters = {name: len(np.unique(ids_Q[list(part.members)])) for name, part in parts.items()}
    counting = {
        name
        for name, part in parts.items()
        if part.queries >= recipe.slice_queries and clusters[name] >= recipe.slice_clusters
    }
    joint = _jointly(recipe, len(counting))
    verdicts = {}
    for name, part in parts.items():
        members, counts = list(part.members), name in counting
        how = joint if counts else recipe
        own = Clusters(candidate.clusters.unit, tuple(ids_Q[members].tolist()))
        difference = over_clusterings(
            partial(difference_estimate, ours_Q[members], theirs_Q[members], **_bootstrap_of(how)),
            [each.ids for each in all_clusterings(own, [candidate.queries[member] for member in members])],
        )
        margin = recipe.slice_margins.get(name, recipe.slice_margin)
        failed = counts and difference.mean < margin and difference.high < 0
        verdicts[name] = SliceVerdict(len(members), clusters[name], difference, margin, counts, failed)
    return verdicts


def _jointly(recipe: GateRecipe, intervals: int) -> GateRecipe:
    """The recipe of each of these intervals, with enough bootstrap rounds for its smaller tails."""
    several = max(intervals, 1)
    return replace(
        recipe,
        confidence=1 - (1 - recipe.confidence) / several,
        bootstrap_rounds=min(recipe.bootstrap_rounds * several, max(recipe.bootstrap_rounds, _MOST_ROUNDS)),
    )


def _of_slices(slices: dict[str, SliceVerdict], otherwise_passed: bool) -> str:
    failed = [(name, part) for name, part in slices.items() if part.failed]
    if not failed:
        counting = sum(part.counts for part in slices.values())
        return f", and none of {counted(counting, 'slice')} fails" if counting else ""
    drops = ", ".join(
        f"{name} drops by {-part.difference.mean:.3f} on {counted(part.queries, 'photo')} (margin {part.margin:+.3f})"
        for name, part in sorted(failed, key=lambda entry: entry[1].difference.mean)
    )
    fail = by_number(len(failed), "fails", "fail")
    return f", {'but' if otherwise_passed else 'and'} {len(failed)} of the slices {fail}: {drops}"


def _against_floor(
    candidate: Evaluation, metric: str, recipe: GateRecipe, numbers: dict[str, float], is_champion: bool
) -> GateVerdict:
    own = candidate.intervals[metric]
    passed = own.mean >= recipe.floor
    alone = "there is no champion yet, and"
    if is_champion:
        alone = "this version is the champion, so it is compared with the floor only:"
    whose = "its" if is_champion else "the candidate's"
    sentence = (
        f"{_verdict(passed)}: {alone} on {_photos(candidate)} {whose} "
        f"{_named(candidate, metric)} is {own.mean:.3f} "
        f"({candidate.confidence:.0%} interval {own.low:.3f} to {own.high:.3f}, by "
        f"{in_words(candidate.clusterings)}), "
        f"which {'reaches' if passed else 'is below'} the floor of {recipe.floor:.3f}."
    )
    return GateVerdict(passed, sentence, metric, None, {**numbers, "floor": recipe.floor})


def _order(candidate: Evaluation, champion: Evaluation) -> list[int]:
    """Where each of the candidate's queries is among the champion's."""
    position = {query_id: index for index, query_id in enumerate(champion.query_ids)}
    if position.keys() != set(candidate.query_ids):
        only_one = position.keys() ^ set(candidate.query_ids)
        raise DataError(
            f"candidate and champion were evaluated on different queries: {len(only_one)} occur in one only, "
            f"for example {min(only_one)!r}; evaluate both on the same training set"
        )
    if candidate.documents_hash != champion.documents_hash:
        raise DataError(
            f"candidate and champion were evaluated on different documents ({candidate.documents} and "
            f"{champion.documents} items): evaluate both on the same training set"
        )
    return [position[query_id] for query_id in candidate.query_ids]


def _same_answers(candidate: Evaluation, champion: Evaluation, order: list[int]) -> bool:
    """Whether both give each photo the same items with the same scores: then they are one model."""
    return np.array_equal(candidate.top_scores, champion.top_scores[order]) and candidate.top_items == tuple(
        champion.top_items[index] for index in order
    )


def _metric(candidate: Evaluation, recipe: GateRecipe) -> str:
    exact = EXACT + recipe.metric
    if recipe.right == "item" and exact in candidate.intervals:
        return exact
    _estimate(candidate, recipe.metric)
    return recipe.metric


def _estimate(evaluation: Evaluation, metric: str) -> Estimate:
    if metric not in evaluation.intervals:
        raise RecipeError(
            f"the gate's metric {metric!r} was not measured; choose one of: {', '.join(evaluation.intervals)}"
        )
    return evaluation.intervals[metric]


def _named(evaluation: Evaluation, metric: str) -> str:
    """The metric with what counts as right: "recall@1 of the exact item"."""
    if not metric.startswith(EXACT):
        return f"{metric} of the class"
    named, count = evaluation.exact_queries, len(evaluation.queries)
    where = "" if named == count else f" (named for {named:,} photos, else of the class)"
    return f"{metric.removeprefix(EXACT)} of the exact item{where}"


def _verdict(passed: bool) -> str:
    return "The gate passes" if passed else "The gate does not pass"


def _photos(evaluation: Evaluation) -> str:
    return counted(len(evaluation.queries), "photo")
