from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from immr.errors import DataError, RecipeError
from immr.evaluation.evaluate import Evaluation
from immr.evaluation.gate import gate
from immr.evaluation.gate_recipe import GateRecipe

RECIPE = GateRecipe(bootstrap_rounds=200, margin=0.0, floor=0.5)
Model = Callable[[float], Evaluation]


def test_a_better_model_passes_and_says_so(model: Model) -> None:
    candidate, champion = model(0.0), model(1.5)
    verdict = gate(candidate, champion, RECIPE)
    assert verdict.passed
    assert verdict.difference is not None
    assert 0 < verdict.difference.low <= verdict.difference.mean <= verdict.difference.high
    measured = champion.means()["recall@1"]
    assert verdict.sentence.startswith(
        f"The gate passes: on the same 60 photos the candidate's recall@1 is 1.000 "
        f"and the champion's {measured:.3f}, a difference of {1 - measured:+.3f} (95% interval "
    )
    assert verdict.sentence.endswith("whose lower bound is above the margin of +0.000.")
    assert verdict.numbers["difference_low"] == verdict.difference.low
    assert verdict.numbers["champion_mean"] == measured


def test_a_worse_model_does_not_pass(model: Model) -> None:
    verdict = gate(model(1.5), model(0.0), RECIPE)
    assert not verdict.passed
    assert verdict.sentence.startswith("The gate does not pass: ")
    assert "is not above the margin" in verdict.sentence


def fallen_in(champion: Evaluation, members: tuple[int, ...]) -> Evaluation:
    """The same evaluation, with these photos answered wrongly."""
    worse_Q = champion.per_query["recall@1"].copy()
    worse_Q[list(members)] = 0.0
    return dataclasses.replace(champion, per_query={**champion.per_query, "recall@1": worse_Q})


def test_a_slice_that_falls_stops_what_is_better_overall(model: Model) -> None:
    champion = model(0.0)
    candidate = fallen_in(champion, champion.slices["Fruit"].members[:10])
    mild = dataclasses.replace(RECIPE, margin=-0.5, slice_queries=20)
    verdict = gate(candidate, champion, mild)
    assert not verdict.passed
    assert verdict.sentence.endswith(
        "lower bound is above the margin of -0.500, but these slices fall: "
        "Fruit by 0.500 on 20 photos (margin -0.100)."
    )
    assert verdict.slices["Fruit"].fell and not verdict.slices["Packages"].fell
    assert verdict.numbers["slices_fallen"] == 1
    assert verdict.numbers["difference_mean.Fruit"] == -0.5
    allowed = gate(candidate, champion, dataclasses.replace(mild, slice_margins={"Fruit": -0.6}))
    assert allowed.passed
    assert allowed.sentence.endswith(", and none of 3 slices falls by more than its own.")


def test_small_slices_have_no_say(model: Model) -> None:
    champion = model(0.0)
    candidate = fallen_in(champion, champion.slices["Fruit"].members)
    assert gate(candidate, champion, dataclasses.replace(RECIPE, margin=-0.9, slice_queries=21)).passed


def test_a_slice_whose_fall_may_be_chance_does_not_fall(model: Model) -> None:
    """Three of twenty go wrong and one goes right: the mean falls by 0.1, the interval reaches zero."""
    champion = fallen_in(model(0.0), model(0.0).slices["Fruit"].members[:1])
    first, *others = champion.slices["Fruit"].members
    better_Q = champion.per_query["recall@1"].copy()
    better_Q[first] = 1.0
    candidate = dataclasses.replace(champion, per_query={**champion.per_query, "recall@1": better_Q})
    candidate = fallen_in(candidate, tuple(others[:3]))
    recipe = dataclasses.replace(RECIPE, margin=-0.5, slice_margin=-0.05, slice_queries=20)
    fruit = gate(candidate, champion, recipe).slices["Fruit"]
    assert fruit.difference.mean == pytest.approx(-0.1)
    assert fruit.difference.high > 0
    assert not fruit.fell


def test_an_equal_model_passes_only_where_the_margin_allows(model: Model) -> None:
    candidate = model(0.5)
    assert not gate(candidate, candidate, RECIPE).passed
    assert gate(candidate, candidate, dataclasses.replace(RECIPE, margin=-0.01)).passed


@pytest.mark.parametrize(("floor", "passed"), [(1.0, True), (1.01, False)])
def test_with_no_champion_the_floor_counts(model: Model, floor: float, passed: bool) -> None:
    verdict = gate(model(0.0), None, dataclasses.replace(RECIPE, floor=floor))
    assert verdict.passed is passed
    assert verdict.difference is None
    assert "there is no champion yet" in verdict.sentence
    assert ("reaches" if passed else "is below") in verdict.sentence


def reordered(evaluation: Evaluation) -> Evaluation:
    return dataclasses.replace(
        evaluation,
        queries=evaluation.queries[::-1],
        per_query={name: row_Q[::-1] for name, row_Q in evaluation.per_query.items()},
    )


def test_queries_are_paired_by_id_not_by_place(model: Model) -> None:
    candidate, champion = model(0.5), model(1.5)
    assert gate(candidate, reordered(champion), RECIPE) == gate(candidate, champion, RECIPE)


def test_what_cannot_be_compared_is_refused(model: Model) -> None:
    candidate = model(0.5)
    renamed = dataclasses.replace(candidate.queries[0], query_id="another")
    with pytest.raises(DataError, match="on different queries: 2 are in one only, for example 'another'"):
        gate(candidate, dataclasses.replace(candidate, queries=(renamed, *candidate.queries[1:])), RECIPE)
    with pytest.raises(DataError, match="against other documents"):
        gate(candidate, dataclasses.replace(candidate, documents_hash="x"), RECIPE)
    with pytest.raises(RecipeError, match="'recall@7', which was not measured; take one of: recall@1, "):
        gate(candidate, None, dataclasses.replace(RECIPE, metric="recall@7"))


def test_the_verdict_is_the_same_each_time(model: Model) -> None:
    assert gate(model(0.5), model(1.0), RECIPE) == gate(model(0.5), model(1.0), RECIPE)
    assert np.isfinite(list(gate(model(0.5), model(1.0), RECIPE).numbers.values())).all()
