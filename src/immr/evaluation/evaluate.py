"""One model judged on held-out photos: exact search over the documents, metrics with intervals, slices.

Shapes: Q queries, N documents, D embedding size, K shown answers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from immr.data.training_set import LabelledPhoto
from immr.errors import DataError
from immr.evaluation import metrics, slices
from immr.evaluation.bootstrap import Interval, Values
from immr.evaluation.calibration import Calibration, calibration
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.metrics import BoolArray, IntArray
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically
from immr.types import FloatArray, Item

FORMAT = 2  # of a stored evaluation
SHOWN = 5  # answers that are kept for each query
_CELLS_AT_ONCE = 4_000_000  # queries × documents scored at a time


@dataclass(frozen=True)
class Slice:
    """The metrics on some of the queries."""

    members: tuple[int, ...]  # positions of the queries
    intervals: Mapping[str, Interval]

    @property
    def queries(self) -> int:
        """How many."""
        return len(self.members)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model did with each query, and what that amounts to."""

    queries: tuple[LabelledPhoto, ...]
    documents: int
    documents_hash: str  # of the item ids: two evaluations can be compared where it is the same
    confidence: float
    per_query: Mapping[str, Values]  # by metric, (Q,)
    ranks: IntArray  # (Q,) of the first item of the right class, 1-based
    exact_ranks: IntArray  # (Q,) of the judgement's own item, 1-based; 0 where the judgement names none
    top_items: tuple[tuple[str, ...], ...]  # per query, best first
    top_scores: FloatArray  # (Q, K) cosines
    top_right: BoolArray  # (Q, K) the item is of the right class
    right_items: tuple[str, ...]  # per query: the judgement's own item, else the first of its class
    intervals: Mapping[str, Interval]
    macro: Mapping[str, Interval]  # every class weighs the same
    slices: Mapping[str, Slice] = field(default_factory=dict)

    @property
    def query_ids(self) -> list[str]:
        """In the order of every per-query value."""
        return [query.query_id for query in self.queries]

    def means(self) -> dict[str, float]:
        """Metric means by name, as a tracker wants them."""
        return {name: interval.mean for name, interval in self.intervals.items()}

    @property
    def calibration(self) -> Calibration:
        """How far the first answer's score can be trusted."""
        scores_Q = self.top_scores[:, 0].astype(np.float64)
        return calibration(scores_Q, self.top_right[:, 0], self.confidence)

    def to_json(self) -> str:
        """All of it as JSON; `from_json` gives it back."""
        return json.dumps(dataclasses.asdict(self), default=lambda array: array.tolist(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The evaluation that `to_json` wrote.

        Raises:
            DataError: the text is no evaluation.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, **_typed(fields)})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is no stored evaluation ({error}): run `immr evaluate` again") from error

    def write(self, path: Path) -> Path:
        """Store as JSON; returns the path."""
        write_atomically(path, self.to_json())
        return path

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read what `write` stored.

        Raises:
            DataError: no such file, or no evaluation in it.
        """
        if not path.is_file():
            raise DataError(f"there is no evaluation at {path}: run `immr evaluate` first")
        return cls.from_json(path.read_text())


def evaluate(
    query_embeddings_QD: FloatArray,
    queries: Sequence[LabelledPhoto],
    document_embeddings_ND: FloatArray,
    items: Sequence[Item],
    item_classes: Sequence[int],
    recipe: GateRecipe,
    *,
    training_counts: Mapping[int, int] | None = None,
) -> Evaluation:
    """Search every document for every query, exactly; right is any item of the query's class.

    Args:
        query_embeddings_QD: one row per query.
        queries: the judgements.
        document_embeddings_ND: one row per item.
        items: the documents.
        item_classes: class_id of each item.
        recipe: gives confidence, rounds and seed of the intervals.
        training_counts: training photos by class; where given, adds the slices "head", "middle", "tail" and
            "unseen" (`slices.by_frequency`).

    Raises:
        DataError: no query, sizes that do not fit, embeddings that are zero or not finite, a repeated
            query_id, or a query whose class has no item.
    """
    _check(query_embeddings_QD, queries, "query", "photos")
    _check(document_embeddings_ND, items, "document", "items")
    classes_Q = np.array([query.class_id for query in queries], dtype=np.int64)
    classes_N = np.array(item_classes, dtype=np.int64)
    _check_labels(query_embeddings_QD, document_embeddings_ND, queries, items, classes_N)
    parts = _search(query_embeddings_QD, queries, document_embeddings_ND, items, classes_N)
    values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
    right_items = _right_items(queries, items, item_classes)
    masks = slices.by_category(right_items, items)
    if training_counts:
        masks |= slices.by_frequency(classes_Q, training_counts)
    top_QK = np.concatenate([part.top for part in parts])
    return Evaluation(
        queries=tuple(queries),
        documents=len(items),
        documents_hash=fingerprint.of_values(sorted(item.item_id for item in items)),
        confidence=recipe.confidence,
        per_query=values,
        ranks=np.concatenate([part.ranks for part in parts]),
        exact_ranks=np.concatenate([part.exact_ranks for part in parts]),
        top_items=tuple(tuple(items[position].item_id for position in row) for row in top_QK),
        top_scores=np.concatenate([part.top_scores for part in parts]),
        top_right=classes_N[top_QK] == classes_Q[:, None],
        right_items=right_items,
        intervals=_summary(values, recipe),
        macro=_summary(metrics.class_means(values, classes_Q), recipe),
        slices={name: _slice(values, mask_Q, recipe) for name, mask_Q in masks.items()},
    )


@dataclass(frozen=True)
class _Part:
    values: dict[str, Values]
    ranks: IntArray
    exact_ranks: IntArray
    top: IntArray
    top_scores: FloatArray


def _search(
    queries_QD: FloatArray,
    queries: Sequence[LabelledPhoto],
    documents_ND: FloatArray,
    items: Sequence[Item],
    classes_N: IntArray,
) -> list[_Part]:
    """A block of queries at a time, so that memory does not grow with queries × documents."""
    position = {item.item_id: index for index, item in enumerate(items)}
    block = max(1, _CELLS_AT_ONCE // len(items))
    parts = []
    for start in range(0, len(queries), block):
        some = queries[start : start + block]
        scores_QN = metrics.cosine_scores(queries_QD[start : start + block], documents_ND)
        relevant_QN = metrics.relevance(np.array([query.class_id for query in some]), classes_N)
        exact_Q = np.array([position.get(query.item_id or "", -1) for query in some])
        exact_QN = np.arange(len(items))[None, :] == exact_Q[:, None]
        top_QK = metrics.best_first(scores_QN, relevant_QN, SHOWN)
        parts.append(
            _Part(
                values=metrics.per_query(scores_QN, relevant_QN),
                ranks=metrics.ranks(scores_QN, relevant_QN),
                exact_ranks=np.where(exact_Q >= 0, metrics.ranks(scores_QN, exact_QN), 0),
                top=top_QK,
                top_scores=np.take_along_axis(scores_QN, top_QK, axis=1),
            )
        )
    return parts


def _summary(values: Mapping[str, Values], recipe: GateRecipe) -> dict[str, Interval]:
    return metrics.summarize(values, recipe.bootstrap_rounds, recipe.confidence, recipe.seed)


def _slice(values: Mapping[str, Values], mask_Q: BoolArray, recipe: GateRecipe) -> Slice:
    chosen = {name: row_Q[mask_Q] for name, row_Q in values.items()}
    return Slice(tuple(np.flatnonzero(mask_Q).tolist()), _summary(chosen, recipe))


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


def _check(embeddings: FloatArray, rows: Sequence[Any], side: str, what: str) -> None:
    if not rows:
        raise DataError(f"there are no {what} to evaluate with: check what governance wrote")
    if embeddings.ndim != 2 or len(embeddings) != len(rows):
        raise DataError(
            f"{side} embeddings of shape {embeddings.shape} do not fit {len(rows)} {what}: "
            "encode each exactly once"
        )
    lengths = np.linalg.norm(embeddings, axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if bad.size:
        raise DataError(
            f"{bad.size} {side} embeddings are zero or not finite, the first in row {bad[0]}: "
            "look at the encoder"
        )


def _check_labels(
    queries_QD: FloatArray,
    documents_ND: FloatArray,
    queries: Sequence[LabelledPhoto],
    items: Sequence[Item],
    classes_N: IntArray,
) -> None:
    if queries_QD.shape[1] != documents_ND.shape[1]:
        raise DataError(
            f"a query embedding has {queries_QD.shape[1]} numbers, a document's {documents_ND.shape[1]}: "
            "both must come from the same model version"
        )
    if len(classes_N) != len(items):
        raise DataError(f"{len(classes_N)} classes do not fit {len(items)} items: give each its class_id")
    if len({query.query_id for query in queries}) != len(queries):
        raise DataError("a query_id stands for more than one photo: make the ids of the judgements unique")
    with_items = set(classes_N.tolist())
    missing = [query for query in queries if query.class_id not in with_items]
    if missing:
        raise DataError(
            f"{len(missing)} queries have a class without any item, the first {missing[0].query_id!r} "
            f"(class {missing[0].class_id}): drop them, or add the items"
        )


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists and dicts as the types of `Evaluation`'s fields."""
    return {
        "queries": tuple(LabelledPhoto(**query) for query in fields["queries"]),
        "per_query": {name: np.array(row, dtype=np.float64) for name, row in fields["per_query"].items()},
        "ranks": np.array(fields["ranks"], dtype=np.int64),
        "exact_ranks": np.array(fields["exact_ranks"], dtype=np.int64),
        "top_items": tuple(tuple(row) for row in fields["top_items"]),
        "top_scores": np.array(fields["top_scores"], dtype=np.float32),
        "top_right": np.array(fields["top_right"], dtype=np.bool_),
        "right_items": tuple(fields["right_items"]),
        "intervals": _intervals(fields["intervals"]),
        "macro": _intervals(fields["macro"]),
        "slices": {
            name: Slice(tuple(part["members"]), _intervals(part["intervals"]))
            for name, part in fields["slices"].items()
        },
    }


def _intervals(fields: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: Interval(**interval) for name, interval in fields.items()}
