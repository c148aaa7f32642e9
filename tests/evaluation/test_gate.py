from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from immr.errors import DataError, RecipeError
from immr.evaluation.evaluate import Evaluation
from immr.evaluation.gate import gate
from immr.evaluation.recipe import GateRecipe

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
