from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from immr.errors import DataError, RecipeError
from immr.evaluation.bootstrap import Estimate
from immr.evaluation.clusters import Clusters
from immr.evaluation.gate import chance_if_equal, gate
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.result import Evaluation

RECIPE = GateRecipe(right="class", bootstrap_rounds=200, margin=0.0, floor=0.5, slice_clusters=4)
Model = Callable[[float], Evaluation]


def test_a_better_model_passes_with_a_sentence_and_numbers(model: Model) -> None:
    candidate, champion = model(0.0), model(1.5)
    verdict = gate(candidate, champion, RECIPE)
    assert verdict.passed
    assert verdict.difference is not None
    assert 0 < verdict.difference.low <= verdict.difference.mean <= verdict.difference.high
    measured = champion.means()["recall@1"]
    assert verdict.sentence.startswith(
        f"The gate passes: on the same 60 photos the candidate's recall@1 of the class is 1.000 "
        f"and the champion's {measured:.3f}, a difference of {1 - measured:+.3f} (95% interval "
    )
    assert "resampling 12 classes, widened for the small sample). Its lower" in verdict.sentence
    assert "bound is above the margin of +0.000" in verdict.sentence
    assert verdict.numbers["clusters"] == 12
    assert verdict.numbers["difference_low"] == verdict.difference.low
    assert verdict.numbers["champion_mean"] == measured


def test_a_difference_that_varies_by_class_is_judged_by_classes(model: Model) -> None:
    """Of versions that are equal over all classes, the interval of users excluded zero in up to 21 % of simulated
    cases, because only some classes had been judged."""
    whole = model(0.0)
    users = Clusters("user", tuple(f"u{number}" for number in range(60)))
    of_classes = [[at for at, query in enumerate(whole.queries) if query.class_id == one] for one in range(4)]
    champion = wrong_on(whole, (*of_classes[0], *of_classes[1], *of_classes[2]))
    candidate = dataclasses.replace(wrong_on(whole, tuple(of_classes[3])), clusters=users)
    verdict = gate(candidate, champion, RECIPE)
    by_class = gate(dataclasses.replace(candidate, clusters=whole.clusters), champion, RECIPE)
    assert "resampling 60 users and 12 classes" in verdict.sentence and verdict.numbers["clusters"] == 12
    assert verdict.difference is not None and by_class.difference is not None
    assert verdict.difference.low <= by_class.difference.low < RECIPE.margin
    assert not verdict.passed


def test_a_worse_model_does_not_pass(model: Model) -> None:
    verdict = gate(model(1.5), model(0.0), RECIPE)
    assert not verdict.passed
    assert verdict.sentence.startswith("The gate does not pass: ")
    assert "is not above the margin" in verdict.sentence


def wrong_on(champion: Evaluation, members: tuple[int, ...]) -> Evaluation:
    """The same evaluation, with wrong answers to these photos."""
    worse_Q = champion.per_query["recall@1"].copy()
    worse_Q[list(members)] = 0.0
    return dataclasses.replace(champion, per_query={**champion.per_query, "recall@1": worse_Q})


def test_a_failing_slice_stops_a_candidate_that_is_better_overall(model: Model) -> None:
    champion = model(0.0)
    candidate = wrong_on(champion, champion.slices["Fruit"].members[:10])
    mild = dataclasses.replace(RECIPE, margin=-0.5, slice_queries=20)
    verdict = gate(candidate, champion, mild)
    assert not verdict.passed
    assert verdict.sentence.endswith(
        "lower bound is above the margin of -0.500, but 1 of the slices fails: "
        "Fruit drops by 0.500 on 20 photos (margin -0.100)."
    )
    assert verdict.slices["Fruit"].failed and not verdict.slices["Packages"].failed
    assert verdict.numbers["slices_failed"] == 1
    assert verdict.numbers["difference_mean.Fruit"] == -0.5
    allowed = gate(candidate, champion, dataclasses.replace(mild, slice_margins={"Fruit": -0.6}))
    assert allowed.passed
    assert allowed.sentence.endswith(", and none of 3 slices fails.")


@pytest.mark.parametrize("limits", [{"slice_queries": 21}, {"slice_queries": 20, "slice_clusters": 5}])
def test_slices_of_few_photos_or_few_clusters_cannot_fail(model: Model, limits: dict[str, int]) -> None:
    champion = model(0.0)
    candidate = wrong_on(champion, champion.slices["Fruit"].members)
    mild = dataclasses.replace(RECIPE, margin=-0.9)
    assert gate(candidate, champion, dataclasses.replace(mild, **limits)).passed
    assert not gate(candidate, champion, dataclasses.replace(mild, slice_queries=20)).passed
    without_minimum = gate(candidate, champion, dataclasses.replace(mild, slice_queries=0, slice_clusters=0))
    assert all(part.counts for part in without_minimum.slices.values())


def test_a_slice_does_not_fail_by_chance(model: Model) -> None:
    """Three of twenty go wrong and one goes right: the mean drops by 0.1, but the interval reaches zero."""
    champion = wrong_on(model(0.0), model(0.0).slices["Fruit"].members[:1])
    first, *others = champion.slices["Fruit"].members
    better_Q = champion.per_query["recall@1"].copy()
    better_Q[first] = 1.0
    candidate = dataclasses.replace(champion, per_query={**champion.per_query, "recall@1": better_Q})
    candidate = wrong_on(candidate, tuple(others[:3]))
    recipe = dataclasses.replace(RECIPE, margin=-0.5, slice_margin=-0.05, slice_queries=20)
    fruit = gate(candidate, champion, recipe).slices["Fruit"]
    assert fruit.difference.mean == pytest.approx(-0.1)
    assert fruit.difference.high > 0
    assert not fruit.failed


def test_equal_models_do_not_fail_for_having_many_slices(model: Model) -> None:
    """Eight slices of 40 photos, on a fifth of which the models differ: each interval misses in 2.5 % of worlds."""
    photos, parts, generator = 320, 8, np.random.default_rng(0)
    known = model(0.0)
    queries = tuple(dataclasses.replace(known.queries[0], query_id=str(number)) for number in range(photos))
    members = np.arange(photos).reshape(parts, -1)
    one = known.slices["Fruit"]
    slices = {
        str(part): dataclasses.replace(one, members=tuple(members[part].tolist())) for part in range(parts)
    }
    failed = 0
    for _ in range(60):
        models = [
            dataclasses.replace(
                known,
                queries=queries,
                clusters=Clusters("user", tuple(map(str, range(photos)))),
                per_query={"recall@1": values_Q},
                slices=slices,
            )
            for values_Q in generator.permuted(
                np.repeat([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [32, 32, 256], axis=0), axis=0
            ).T
        ]
        failed += gate(*models, RECIPE).numbers["slices_failed"] > 0
    assert failed <= 4
    assert gate(wrong_on(models[0], tuple(range(20))), models[0], RECIPE).slices["0"].failed


@pytest.mark.parametrize(
    ("low", "margin", "chance"),
    [(-0.05, -0.05, 0.5), (-0.1, -0.05, 0.164), (-0.01, -0.05, 1), (-0.1, 0, 0.025)],
)
def test_it_knows_how_often_equal_versions_would_pass(low: float, margin: float, chance: float) -> None:
    recipe = dataclasses.replace(RECIPE, margin=margin)
    assert chance_if_equal(Estimate(0.0, low, -low), recipe) == pytest.approx(chance, abs=0.001)


@pytest.mark.parametrize("low", [0.0, -np.inf])
def test_without_a_spread_it_knows_no_chance(low: float) -> None:
    assert chance_if_equal(Estimate(0.0, low, 0.0), RECIPE) is None


def test_a_version_that_fails_for_lack_of_photos_is_told_so(model: Model) -> None:
    champion = wrong_on(model(0.0), model(0.0).slices["Fruit"].members[:1])
    candidate = wrong_on(model(0.0), model(0.0).slices["Packages"].members[:1])
    verdict = gate(candidate, champion, dataclasses.replace(RECIPE, margin=-0.01))
    chance = verdict.numbers["chance_if_equal"]
    assert not verdict.passed and 0 < chance < 0.5
    assert verdict.sentence.endswith(
        f"With so few photos, two equal versions would pass with a probability of {chance:.0%}."
    )


def test_an_equal_model_passes_only_with_a_negative_margin(model: Model) -> None:
    candidate = model(0.5)
    assert not gate(candidate, candidate, RECIPE).passed
    assert gate(candidate, candidate, dataclasses.replace(RECIPE, margin=-0.01)).passed


def test_versions_that_differ_are_not_equal_for_being_right_on_the_same_few_photos(model: Model) -> None:
    champion = model(0.5)
    candidate = dataclasses.replace(champion, top_scores=champion.top_scores * 0.9)
    verdict = gate(candidate, champion, dataclasses.replace(RECIPE, margin=-0.05))
    assert verdict.difference is not None and verdict.difference.mean == 0
    assert verdict.difference.low < -0.05
    assert not verdict.passed and verdict.numbers["chance_if_equal"] == 0
    assert verdict.sentence.endswith(
        "With so few photos, two equal versions would pass with a probability of 0%."
    )


@pytest.mark.parametrize(("floor", "passed"), [(1.0, True), (1.01, False)])
def test_without_a_champion_the_floor_decides(model: Model, floor: float, passed: bool) -> None:
    verdict = gate(model(0.0), None, dataclasses.replace(RECIPE, floor=floor))
    assert verdict.passed is passed
    assert verdict.difference is None
    assert "there is no champion yet" in verdict.sentence
    assert ("reaches" if passed else "is below") in verdict.sentence


def test_the_champion_itself_is_compared_with_the_floor(model: Model) -> None:
    """The sentence once was that there is no champion yet."""
    verdict = gate(model(0.0), None, RECIPE, is_champion=True)
    assert verdict.passed and verdict.difference is None
    assert verdict.sentence.startswith(
        "The gate passes: this version is the champion, so it is compared with the floor only: on 60 photos its "
        "recall@1 of the class is 1.000"
    )


def reordered(evaluation: Evaluation) -> Evaluation:
    return dataclasses.replace(
        evaluation,
        queries=evaluation.queries[::-1],
        per_query={name: row_Q[::-1] for name, row_Q in evaluation.per_query.items()},
    )


def test_queries_are_paired_by_id_not_by_position(model: Model) -> None:
    candidate, champion = model(0.5), model(1.5)
    assert gate(candidate, reordered(champion), RECIPE) == gate(candidate, champion, RECIPE)


def test_evaluations_that_cannot_be_compared_are_refused(model: Model) -> None:
    candidate = model(0.5)
    renamed = dataclasses.replace(candidate.queries[0], query_id="another")
    with pytest.raises(DataError, match="on different queries: 2 occur in one only, for example 'another'"):
        gate(candidate, dataclasses.replace(candidate, queries=(renamed, *candidate.queries[1:])), RECIPE)
    with pytest.raises(DataError, match="on different documents"):
        gate(candidate, dataclasses.replace(candidate, documents_hash="x"), RECIPE)
    known = {name: value for name, value in candidate.intervals.items() if not name.startswith("exact_")}
    with pytest.raises(RecipeError, match="'exact_recall@1' was not measured; choose one of: recall@1, "):
        gate(
            dataclasses.replace(candidate, intervals=known),
            None,
            dataclasses.replace(RECIPE, metric="exact_recall@1"),
        )


def test_the_verdict_is_reproducible(model: Model) -> None:
    assert gate(model(0.5), model(1.0), RECIPE) == gate(model(0.5), model(1.0), RECIPE)
    assert np.isfinite(list(gate(model(0.5), model(1.0), RECIPE).numbers.values())).all()


def test_the_gate_counts_exact_items_where_judgements_name_them(model: Model) -> None:
    """On Packages the candidate finds twins of the right items: the class is right, the item is not."""
    champion = model(0.0)
    worse_Q = champion.per_query["exact_recall@1"].copy()
    worse_Q[list(champion.slices["Packages"].members)] = 0.0
    candidate = dataclasses.replace(champion, per_query={**champion.per_query, "exact_recall@1": worse_Q})
    by_class, by_item = (
        gate(candidate, champion, dataclasses.replace(RECIPE, margin=-0.1, right=right))
        for right in ("class", "item")
    )
    assert by_class.passed and by_class.metric == "recall@1"
    assert not by_item.passed and by_item.metric == "exact_recall@1"
    assert "recall@1 of the exact item is" in by_item.sentence
    assert by_item.numbers["exact_queries"] == 60


def test_the_sentence_states_how_many_judgements_name_an_item(model: Model) -> None:
    evaluation = model(0.5)
    some_Q = np.where(np.arange(60) < 45, evaluation.exact_ranks, 0)
    partly = dataclasses.replace(evaluation, exact_ranks=some_Q)
    sentence = gate(partly, None, dataclasses.replace(RECIPE, right="item")).sentence
    assert "of the exact item (named for 45 photos, else of the class)" in sentence


def test_resampling_users_widens_the_interval_of_correlated_photos(model: Model) -> None:
    """Each of twelve users is either always better off or always worse off."""
    champion = model(0.0)
    by_user = Clusters("user", tuple(f"u{number // 5}" for number in range(60)))
    by_photo = Clusters("photo", tuple(map(str, range(60))))
    unlucky = tuple(range(5)) + tuple(range(20, 25))

    def width(clusters: Clusters) -> float:
        candidate = dataclasses.replace(wrong_on(champion, unlucky), clusters=clusters)
        verdict = gate(candidate, champion, RECIPE)
        assert f"resampling {clusters}" in verdict.sentence
        assert verdict.difference is not None
        return verdict.difference.high - verdict.difference.low

    assert width(by_user) > 1.7 * width(by_photo)
