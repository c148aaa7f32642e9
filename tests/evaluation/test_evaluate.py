from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from immr.data.training_set import LabelledPhoto
from immr.errors import DataError
from immr.evaluation.evaluate import Evaluation, evaluate
from immr.evaluation.gate_recipe import GateRecipe
from immr.types import Item

RECIPE = GateRecipe(bootstrap_rounds=100)
EYE = np.eye(13, dtype=np.float32)

Model = Callable[[float], Evaluation]


def test_a_perfect_model(model: Model) -> None:
    evaluation = model(0.0)
    assert evaluation.means() == dict.fromkeys(evaluation.per_query, 1.0)
    assert set(evaluation.ranks.tolist()) == {1}
    assert evaluation.top_right[:, 0].all()
    assert evaluation.top_scores.shape == (60, 5)
    assert evaluation.right_items[13] == "i01"


def test_any_item_of_the_class_is_right_and_the_exact_one_is_recorded(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    toward_the_twin_QD = EYE[[12]] + 0.5 * EYE[[0]]
    evaluation = evaluate(toward_the_twin_QD, queries[:1], EYE, items, item_classes, RECIPE)
    assert evaluation.ranks.tolist() == [1]
    assert evaluation.exact_ranks.tolist() == [2]
    assert evaluation.top_items[0][:2] == ("i12", "i00")
    assert evaluation.top_right[0].tolist() == [True, True, False, False, False]
    unknown = dataclasses.replace(queries[0], item_id=None)
    evaluation = evaluate(toward_the_twin_QD, [unknown], EYE, items, item_classes, RECIPE)
    assert evaluation.exact_ranks.tolist() == [0]
    assert evaluation.right_items == ("i00",)


def test_slices_are_top_level_categories_and_add_up(model: Model) -> None:
    evaluation = model(1.0)
    assert list(evaluation.slices) == ["Fruit", "Packages", "Vegetables"]
    assert sum(part.queries for part in evaluation.slices.values()) == 60
    means = [part.intervals["recall@1"].mean * part.queries for part in evaluation.slices.values()]
    assert sum(means) / 60 == pytest.approx(evaluation.intervals["recall@1"].mean)


def test_head_middle_tail_and_unseen(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    evaluation = evaluate(
        EYE[[query.class_id for query in queries]],
        queries,
        EYE,
        items,
        item_classes,
        RECIPE,
        training_counts={class_id: class_id for class_id in range(12)},  # 0: unseen, 1 … 11 in thirds
    )
    counts = {name: evaluation.slices[name].queries for name in ("head", "middle", "tail", "unseen")}
    assert counts == {"head": 15, "middle": 25, "tail": 15, "unseen": 5}
    assert evaluation.slices["unseen"].members == (0, 12, 24, 36, 48)


def test_blocks_of_queries_change_nothing() -> None:
    """More queries × documents than are scored at a time."""
    generator = np.random.default_rng(0)
    when = datetime(2025, 1, 1, tzinfo=UTC)
    items = [Item(f"i{number:04}", "", "", "a", "", 1.0, when) for number in range(4000)]
    documents_ND = generator.normal(size=(4000, 4)).astype(np.float32)
    queries = [LabelledPhoto(f"q{number}", "", number) for number in range(1100)]
    evaluation = evaluate(documents_ND[:1100], queries, documents_ND, items, list(range(4000)), RECIPE)
    assert evaluation.means()["recall@1"] == 1.0
    assert evaluation.top_scores.shape == (1100, 5)


def test_json_brings_back_the_same(model: Model, tmp_path: Path) -> None:
    evaluation = model(1.0)
    again = Evaluation.read(evaluation.write(tmp_path / "evaluation.json"))
    assert again.to_json() == evaluation.to_json()
    for field in dataclasses.fields(Evaluation):
        ours, theirs = getattr(evaluation, field.name), getattr(again, field.name)
        assert type(ours) is type(theirs), field.name
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        elif field.name != "per_query":
            assert ours == theirs


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"queries": 3}'])
def test_what_is_no_evaluation_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no stored evaluation"):
        Evaluation.from_json(text)
    with pytest.raises(DataError, match="there is no evaluation at"):
        Evaluation.read(tmp_path / "none.json")


def test_input_that_does_not_fit_is_refused(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    def refused(match: str, **changes: object) -> None:
        given = {
            "query_embeddings_QD": EYE[:2],
            "queries": queries[:2],
            "document_embeddings_ND": EYE,
            "items": items,
            "item_classes": item_classes,
            "recipe": RECIPE,
        }
        with pytest.raises(DataError, match=match):
            evaluate(**{**given, **changes})  # type: ignore[arg-type]

    refused("there are no photos", queries=[], query_embeddings_QD=EYE[:0])
    refused("do not fit 2 photos", query_embeddings_QD=EYE[:3])
    refused(
        "1 query embeddings are zero or not finite, the first in row 1",
        query_embeddings_QD=EYE[:2] * [[1], [0]],
    )
    refused("query embeddings are zero or not finite", query_embeddings_QD=EYE[:2] * np.float32("nan"))
    refused("must come from the same model version", query_embeddings_QD=EYE[:2, :5])
    refused("3 classes do not fit 13 items", item_classes=[0, 1, 2])
    refused("more than one photo", queries=[queries[0], queries[0]])
    refused("1 queries have a class without any item, the first 'q001'", item_classes=[0] * 13)
