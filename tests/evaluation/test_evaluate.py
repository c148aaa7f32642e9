from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from immr.data.training_set import LabelledPhoto
from immr.errors import DataError
from immr.evaluation.clusters import Clusters
from immr.evaluation.evaluate import evaluate
from immr.evaluation.gate_recipe import GateRecipe, Metric
from immr.evaluation.result import Evaluation
from immr.types import Item

RECIPE = GateRecipe(bootstrap_rounds=100)
EYE = np.eye(13, dtype=np.float32)

Model = Callable[[float], Evaluation]


def test_a_perfect_model(model: Model) -> None:
    evaluation = model(0.0)
    of_class = [name for name in evaluation.per_query if not name.startswith("exact_")]
    assert [evaluation.means()[name] for name in of_class] == [1.0] * 6
    assert evaluation.means()["exact_recall@1"] == pytest.approx(55 / 60)  # five photos tie with a twin
    assert set(evaluation.ranks.tolist()) == {1}
    assert evaluation.top_right[:, 0].all()
    assert evaluation.top_scores.shape == (60, 5)
    assert evaluation.right_items[13] == "i01"


def test_a_recipe_may_name_every_metric_and_no_other(model: Model) -> None:
    assert set(get_args(Metric)) == set(model(0.0).per_query)


def test_any_item_of_the_class_is_right_and_exact_metrics_ask_for_the_named_one(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    toward_the_twin_QD = EYE[[12]] + 0.5 * EYE[[0]]
    evaluation = evaluate(toward_the_twin_QD, queries[:1], EYE, items, item_classes, RECIPE)
    assert evaluation.ranks.tolist() == [1]
    assert evaluation.exact_ranks.tolist() == [2]
    means = evaluation.means()
    assert (means["recall@1"], means["exact_recall@1"], means["exact_mrr@10"]) == (1.0, 0.0, 0.5)
    assert evaluation.top_items[0][:2] == ("i12", "i00")
    assert evaluation.top_right[0].tolist() == [True, True, False, False, False]


def test_without_named_items_there_are_no_exact_metrics(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    unknown = [dataclasses.replace(query, item_id=None) for query in queries[:2]]
    evaluation = evaluate(EYE[:2], unknown, EYE, items, item_classes, RECIPE)
    assert evaluation.exact_ranks.tolist() == [0, 0]
    assert not any(name.startswith("exact_") for name in evaluation.per_query)
    assert evaluation.right_items == ("i00", "i01")


def test_a_photo_without_a_named_item_keeps_its_class_value_in_exact_metrics(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    partly = [queries[0], dataclasses.replace(queries[0], query_id="other", item_id=None)]
    toward_the_twin_QD = np.repeat(EYE[[12]] + 0.5 * EYE[[0]], 2, axis=0)
    evaluation = evaluate(toward_the_twin_QD, partly, EYE, items, item_classes, RECIPE)
    assert evaluation.per_query["exact_recall@1"].tolist() == [0.0, 1.0]
    assert evaluation.exact_queries == 1


def test_intervals_resample_the_clusters_of_the_caller(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    queries_QD = EYE[[query.class_id if number % 10 < 5 else 12 for number, query in enumerate(queries)]]

    def width(clusters: Clusters | None) -> float:
        found = evaluate(queries_QD, queries, EYE, items, item_classes, RECIPE, clusters=clusters)
        return found.intervals["recall@1"].high - found.intervals["recall@1"].low

    sessions = Clusters("session", tuple(str(number // 5) for number in range(60)))
    photos = Clusters("photo", tuple(map(str, range(60))))
    assert width(sessions) > 1.5 * width(photos)
    with pytest.raises(DataError, match="2 cluster ids do not match 60 photos"):
        width(Clusters("session", ("a", "b")))


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


def test_inconsistent_input_is_refused(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> None:
    def refused(match: str, **changes: object) -> None:
        given = {
            "query_embeddings_QD": EYE[:2],
            "queries": queries[:2],
            "document_embeddings_PD": EYE,
            "items": items,
            "item_classes": item_classes,
            "recipe": RECIPE,
        }
        with pytest.raises(DataError, match=match):
            evaluate(**{**given, **changes})  # type: ignore[arg-type]

    refused("there are no photos", queries=[], query_embeddings_QD=EYE[:0])
    refused("do not match 2 photos", query_embeddings_QD=EYE[:3])
    refused(
        "1 query embeddings are zero or not finite, the first in row 1",
        query_embeddings_QD=EYE[:2] * [[1], [0]],
    )
    refused("query embeddings are zero or not finite", query_embeddings_QD=EYE[:2] * np.float32("nan"))
    refused("encode both with the same model version", query_embeddings_QD=EYE[:2, :5])
    refused("3 classes do not match 13 items", item_classes=[0, 1, 2])
    refused("appears more than once", queries=[queries[0], queries[0]])
    refused("1 queries have a class without items, the first 'q001'", item_classes=[0] * 13)
