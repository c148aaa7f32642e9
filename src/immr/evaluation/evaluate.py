"""Evaluate one model on held-out photos: exact search, metrics with intervals, slices.

Shapes: Q queries, N documents, P pictures of all documents, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from immr.data.training_set import LabelledPhoto
from immr.errors import DataError
from immr.evaluation import metrics, slices
from immr.evaluation.bootstrap import Estimate, Values
from immr.evaluation.clusters import Clusters, all_clusterings, default_clusters
from immr.evaluation.exact_search import SearchResult, exact_search
from immr.evaluation.gate_recipe import EXACT, GateRecipe
from immr.evaluation.metrics import BoolArray, IntArray
from immr.evaluation.result import Evaluation, Slice
from immr.storage import fingerprint
from immr.types import FloatArray, Item

SHOWN = 5  # answers kept for each query


def evaluate(
    query_embeddings_QD: FloatArray,
    queries: Sequence[LabelledPhoto],
    document_embeddings_PD: FloatArray,
    items: Sequence[Item],
    item_classes: Sequence[int],
    recipe: GateRecipe,
    *,
    pictures_N: Sequence[int] | None = None,
    training_counts: Mapping[int, int] | None = None,
    clusters: Clusters | None = None,
) -> Evaluation:
    """Search all documents for every query, exactly, and compute the metrics.

    `recall@1` and its like count any item of the query's class as right. Where judgements name an item, the
    same metrics with the prefix `exact_` count only that item; other photos keep their class value there.

    Args:
        query_embeddings_QD: one row per query.
        queries: the judgements.
        document_embeddings_PD: one row per item, or several one after the other, of which the best counts.
        items: the documents.
        item_classes: class_id of each item.
        recipe: confidence of the intervals.
        pictures_N: how many rows each item has; by default one.
        training_counts: training photos by class. If given, adds the slices of `slices.by_frequency`.
        clusters: which photos depend on each other; by default `default_clusters`. Classes count too.

    Raises:
        DataError: no queries, sizes that do not match, embeddings that are zero or not finite, a repeated
            query_id, or a query whose class has no item.
    """
    classes_Q = np.array([query.class_id for query in queries], dtype=np.int64)
    classes_N = np.array(item_classes, dtype=np.int64)
    _check_input(query_embeddings_QD, document_embeddings_PD, queries, items, classes_N, pictures_N)
    clusters = _checked(clusters or default_clusters(queries), queries)
    clusterings = all_clusterings(clusters, queries)
    own_Q = _own_documents(queries, items)
    given = (query_embeddings_QD, classes_Q, own_Q, document_embeddings_PD, classes_N)
    found = exact_search(*given, pictures_N=pictures_N)
    values = _values(found)
    right_items = _right_items(queries, items, item_classes)
    frequencies = slices.by_frequency(classes_Q, training_counts) if training_counts else {}
    return Evaluation(
        queries=tuple(queries),
        documents=len(items),
        documents_hash=fingerprint.of_values(sorted(item.item_id for item in items)),
        confidence=recipe.confidence,
        clusters=clusters,
        per_query=values,
        ranks=found.ranks,
        exact_ranks=found.exact_ranks,
        top_items=_top_items(found, items),
        top_scores=found.top_scores[:, :SHOWN],
        top_right=found.top_right[:, :SHOWN],
        right_items=right_items,
        intervals=_summary(values, [each.ids for each in clusterings], recipe),
        macro=_summary(metrics.class_means(values, classes_Q), [range(len(np.unique(classes_Q)))], recipe),
        slices=_slices(values, clusterings, slices.by_category(right_items, items) | frequencies, recipe),
    )


def _top_items(found: SearchResult, items: Sequence[Item]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(items[position].item_id for position in row) for row in found.top[:, :SHOWN])


def _values(found: SearchResult) -> dict[str, Values]:
    """All per-query metrics by name, each (Q,)."""
    values = metrics.rank_metrics(found.ranks)
    values |= metrics.list_metrics(found.top_right, found.relevant_counts)
    if found.exact_ranks.any():
        ranks_Q = np.where(found.exact_ranks > 0, found.exact_ranks, found.ranks)
        values |= metrics.rank_metrics(ranks_Q, prefix=EXACT)
    return values


def _summary(
    values: Mapping[str, Values], clusterings: Sequence[Sequence[str] | range], recipe: GateRecipe
) -> dict[str, Estimate]:
    return metrics.summarize(values, clusterings, recipe.confidence)


def _slices(
    values: Mapping[str, Values],
    clusterings: Sequence[Clusters],
    masks: Mapping[str, BoolArray],
    recipe: GateRecipe,
) -> dict[str, Slice]:
    found = {}
    for slice_name, mask_Q in masks.items():
        members = np.flatnonzero(mask_Q).tolist()
        chosen = {name: row_Q[members] for name, row_Q in values.items()}
        ids = [[each.ids[member] for member in members] for each in clusterings]
        found[slice_name] = Slice(tuple(members), _summary(chosen, ids, recipe))
    return found


def _checked(clusters: Clusters, queries: Sequence[LabelledPhoto]) -> Clusters:
    if len(clusters.ids) != len(queries):
        raise DataError(f"{len(clusters.ids)} cluster ids do not match {len(queries)} photos")
    return clusters


def _own_documents(queries: Sequence[LabelledPhoto], items: Sequence[Item]) -> IntArray:
    """(Q,) position of the item that the judgement names; −1 if it names none of these items."""
    position = {item.item_id: index for index, item in enumerate(items)}
    return np.array([position.get(query.item_id or "", -1) for query in queries], dtype=np.int64)


def _right_items(
    queries: Iterable[LabelledPhoto], items: Sequence[Item], item_classes: Sequence[int]
) -> tuple[str, ...]:
    known = {item.item_id for item in items}
    first: dict[int, str] = {}
    for item, class_id in zip(items, item_classes, strict=True):
        first.setdefault(class_id, item.item_id)
    return tuple(
        query.item_id if query.item_id in known and query.item_id else first[query.class_id]
        for query in queries
    )


def _check(
    embeddings: FloatArray,
    rows: Sequence[Any],
    side: str,
    what: str,
    counts: Sequence[int] | None = None,
) -> None:
    if not rows:
        raise DataError(f"there are no {what} to evaluate: check the output of `immr govern`")
    counts = [1] * len(rows) if counts is None else counts
    if embeddings.ndim != 2 or len(counts) != len(rows) or len(embeddings) != sum(counts):
        raise DataError(
            f"{side} embeddings of shape {embeddings.shape} do not match {len(rows)} {what}: "
            "encode each exactly once"
        )
    lengths_N = metrics.lengths(embeddings)
    bad = np.flatnonzero(~np.isfinite(lengths_N) | (lengths_N == 0))
    if bad.size:
        raise DataError(
            f"{bad.size} {side} embeddings are zero or not finite, the first in row {bad[0]}: "
            "check the encoder"
        )


def _check_input(
    queries_QD: FloatArray,
    documents_PD: FloatArray,
    queries: Sequence[LabelledPhoto],
    items: Sequence[Item],
    classes_N: IntArray,
    pictures_N: Sequence[int] | None,
) -> None:
    _check(queries_QD, queries, "query", "photos")
    _check(documents_PD, items, "document", "items", pictures_N)
    if queries_QD.shape[1] != documents_PD.shape[1]:
        raise DataError(
            f"query embeddings have {queries_QD.shape[1]} dimensions and document embeddings "
            f"{documents_PD.shape[1]}: encode both with the same model version"
        )
    if len(classes_N) != len(items):
        raise DataError(f"{len(classes_N)} classes do not match {len(items)} items: give one class_id each")
    if len({query.query_id for query in queries}) != len(queries):
        raise DataError("a query_id appears more than once: make the ids of the judgements unique")
    with_items = set(classes_N.tolist())
    missing = [query for query in queries if query.class_id not in with_items]
    if missing:
        raise DataError(
            f"{len(missing)} queries have a class without items, the first {missing[0].query_id!r} "
            f"(class {missing[0].class_id}): drop them, or add the items"
        )
