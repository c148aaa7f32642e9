"""The gate: may a candidate face shoppers? One yes or no, with its sentence and its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from immr.errors import DataError, RecipeError
from immr.evaluation.bootstrap import Interval, Values, difference_interval
from immr.evaluation.evaluate import Evaluation
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.metrics import IntArray


@dataclass(frozen=True)
class SliceVerdict:
    """What became of one slice."""

    queries: int
    difference: Interval  # candidate − champion
    margin: float
    heard: bool  # it has photos enough
    fell: bool


@dataclass(frozen=True)
class GateVerdict:
    """The answer; `sentence` says it to people, `numbers` to programs."""

    passed: bool
    sentence: str
    metric: str
    difference: Interval | None = None  # candidate − champion; None where there is no champion
    numbers: dict[str, float] = field(default_factory=dict)
    slices: dict[str, SliceVerdict] = field(default_factory=dict)


def gate(candidate: Evaluation, champion: Evaluation | None, recipe: GateRecipe) -> GateVerdict:
    """Compare on the same queries; without a champion, ask for `recipe.floor`.

    Passes where the lower bound of the paired bootstrap interval of (candidate − champion) is above
    `recipe.margin` and no slice falls (`GateRecipe` has the rule), or, with no champion, where the
    candidate's mean reaches `recipe.floor`.

    Raises:
        RecipeError: the recipe's metric was not measured.
        DataError: the two were evaluated on other queries, labels or documents.
    """
    own = _interval(candidate, recipe.metric)
    numbers = {
        "queries": float(len(candidate.queries)),
        "confidence": recipe.confidence,
        "candidate_mean": own.mean,
        "candidate_low": own.low,
        "candidate_high": own.high,
    }
    if champion is None:
        return _against_floor(candidate, recipe, numbers)
    theirs = _interval(champion, recipe.metric)
    ours_Q = candidate.per_query[recipe.metric]
    theirs_Q = _aligned(candidate, champion, recipe.metric)
    difference = _difference(ours_Q, theirs_Q, recipe)
    slices = {
        name: _judge_slice(name, np.array(part.members), ours_Q, theirs_Q, recipe)
        for name, part in candidate.slices.items()
    }
    numbers |= {
        "champion_mean": theirs.mean,
        "champion_low": theirs.low,
        "champion_high": theirs.high,
        "difference_mean": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "margin": recipe.margin,
        "slices_fallen": float(sum(part.fell for part in slices.values())),
    }
    numbers |= {f"difference_mean.{name}": part.difference.mean for name, part in slices.items()}
    above = difference.low > recipe.margin
    fallen = {name: part for name, part in slices.items() if part.fell}
    passed = above and not fallen
    sentence = (
        f"{_verdict(passed)}: on the same {_photos(candidate)} the candidate's {recipe.metric} is "
        f"{own.mean:.3f} and the champion's {theirs.mean:.3f}, a difference of {difference.mean:+.3f} "
        f"({recipe.confidence:.0%} interval {difference.low:+.3f} to {difference.high:+.3f}), whose "
        f"lower bound is {'above' if above else 'not above'} the margin of {recipe.margin:+.3f}"
        f"{_of_slices(slices, fallen, above)}."
    )
    return GateVerdict(passed, sentence, recipe.metric, difference, numbers, slices)


def _judge_slice(
    name: str, members_S: IntArray, ours_Q: Values, theirs_Q: Values, recipe: GateRecipe
) -> SliceVerdict:
    difference = _difference(ours_Q[members_S], theirs_Q[members_S], recipe)
    margin = recipe.slice_margins.get(name, recipe.slice_margin)
    heard = len(members_S) >= recipe.slice_queries
    fell = heard and difference.mean < margin and difference.high < 0
    return SliceVerdict(len(members_S), difference, margin, heard, fell)


def _of_slices(
    slices: dict[str, SliceVerdict], fallen: dict[str, SliceVerdict], otherwise_passed: bool
) -> str:
    if not fallen:
        heard = sum(part.heard for part in slices.values())
        return f", and none of {heard} slices falls by more than its own" if heard else ""
    falls = ", ".join(
        f"{name} by {-part.difference.mean:.3f} on {part.queries} photos (margin {part.margin:+.3f})"
        for name, part in sorted(fallen.items(), key=lambda entry: entry[1].difference.mean)
    )
    return f", {'but' if otherwise_passed else 'and'} these slices fall: {falls}"


def _difference(ours_Q: Values, theirs_Q: Values, recipe: GateRecipe) -> Interval:
    return difference_interval(ours_Q, theirs_Q, recipe.bootstrap_rounds, recipe.confidence, recipe.seed)


def _against_floor(candidate: Evaluation, recipe: GateRecipe, numbers: dict[str, float]) -> GateVerdict:
    own = _interval(candidate, recipe.metric)
    passed = own.mean >= recipe.floor
    sentence = (
        f"{_verdict(passed)}: there is no champion yet, and on {_photos(candidate)} the candidate's "
        f"{recipe.metric} is {own.mean:.3f} "
        f"({candidate.confidence:.0%} interval {own.low:.3f} to {own.high:.3f}), "
        f"which {'reaches' if passed else 'is below'} the floor of {recipe.floor:.3f}."
    )
    return GateVerdict(passed, sentence, recipe.metric, None, {**numbers, "floor": recipe.floor})


def _aligned(candidate: Evaluation, champion: Evaluation, metric: str) -> Values:
    """The champion's (Q,) values in the candidate's query order."""
    position = {query_id: index for index, query_id in enumerate(champion.query_ids)}
    if position.keys() != set(candidate.query_ids):
        only_one = position.keys() ^ set(candidate.query_ids)
        raise DataError(
            f"candidate and champion were evaluated on different queries: {len(only_one)} are in one only, "
            f"for example {min(only_one)!r}; evaluate both on one training set's judgements"
        )
    if candidate.documents_hash != champion.documents_hash:
        raise DataError(
            f"candidate and champion were evaluated against other documents ({candidate.documents} and "
            f"{champion.documents} items): evaluate both on one training set"
        )
    order = [position[query_id] for query_id in candidate.query_ids]
    return np.asarray(champion.per_query[metric][order], dtype=np.float64)


def _interval(evaluation: Evaluation, metric: str) -> Interval:
    if metric not in evaluation.intervals:
        raise RecipeError(
            f"the gate asks for {metric!r}, which was not measured; "
            f"take one of: {', '.join(evaluation.intervals)}"
        )
    return evaluation.intervals[metric]


def _verdict(passed: bool) -> str:
    return "The gate passes" if passed else "The gate does not pass"


def _photos(evaluation: Evaluation) -> str:
    count = len(evaluation.queries)
    return "1 photo" if count == 1 else f"{count:,} photos"
