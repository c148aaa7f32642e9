"""The result of evaluating one model version, and its JSON form.

Shapes: Q queries, K top documents.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from immr.data.training_set import LabelledPhoto
from immr.errors import DataError
from immr.evaluation.bootstrap import Estimate, Values
from immr.evaluation.calibration import Calibration, calibration
from immr.evaluation.clusters import Clusters, all_clusterings
from immr.evaluation.metrics import BoolArray, IntArray
from immr.storage.atomic import write_atomically
from immr.types import FloatArray

FORMAT = 4  # of the JSON form; a stored evaluation of another format is recomputed


@dataclass(frozen=True)
class Slice:
    """The metrics on a subset of the queries."""

    members: tuple[int, ...]  # positions of its queries
    intervals: Mapping[str, Estimate]

    @property
    def queries(self) -> int:
        """Number of queries."""
        return len(self.members)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model answered to each query, and the metrics."""

    queries: tuple[LabelledPhoto, ...]
    documents: int
    documents_hash: str  # of the item ids; evaluations are comparable only if it is the same
    confidence: float
    clusters: Clusters  # photos that depend on each other; intervals count classes too
    per_query: Mapping[str, Values]  # by metric, (Q,)
    ranks: IntArray  # (Q,) of the first item of the query's class, 1-based
    exact_ranks: IntArray  # (Q,) of the item that the judgement names, 1-based; 0 if it names none
    top_items: tuple[tuple[str, ...], ...]  # item ids by query, best first
    top_scores: FloatArray  # (Q, K) cosines
    top_right: BoolArray  # (Q, K) whether the item belongs to the query's class
    right_items: tuple[str, ...]  # by query: the item that the judgement names, else the first of its class
    intervals: Mapping[str, Estimate]
    macro: Mapping[str, Estimate]  # every class weighs the same
    slices: Mapping[str, Slice] = field(default_factory=dict)

    @property
    def query_ids(self) -> list[str]:
        """In the order of all per-query values."""
        return [query.query_id for query in self.queries]

    @property
    def clusterings(self) -> tuple[Clusters, ...]:
        """What the intervals count as dependent: photos of a user, of a class, or of either."""
        return all_clusterings(self.clusters, self.queries)

    @property
    def exact_queries(self) -> int:
        """Number of queries whose judgement names an item."""
        return int((self.exact_ranks > 0).sum())

    @property
    def calibration(self) -> Calibration:
        """How far the score of the first answer can be trusted."""
        scores_Q = self.top_scores[:, 0].astype(np.float64)
        return calibration(scores_Q, self.top_right[:, 0], self.confidence, self.clusters.ids)

    def means(self) -> dict[str, float]:
        """Mean of each metric by name, as a tracker takes them."""
        return {name: estimate.mean for name, estimate in self.intervals.items()}

    def to_json(self) -> str:
        """JSON that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), default=lambda array: array.tolist(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is not an evaluation.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, **_typed(fields)})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"not a stored evaluation ({error}): run `immr evaluate` again") from error

    def write(self, path: Path) -> Path:
        """Store as JSON; returns the path."""
        write_atomically(path, self.to_json())
        return path

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read what `write` stored.

        Raises:
            DataError: the file is missing or is not an evaluation.
        """
        if not path.is_file():
            raise DataError(f"there is no evaluation at {path}: run `immr evaluate` first")
        return cls.from_json(path.read_text())


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON lists and dicts, converted to the field types of `Evaluation`."""
    return {
        "queries": tuple(LabelledPhoto(**query) for query in fields["queries"]),
        "clusters": Clusters(fields["clusters"]["unit"], tuple(fields["clusters"]["ids"])),
        "per_query": {name: np.array(row, dtype=np.float64) for name, row in fields["per_query"].items()},
        "ranks": np.array(fields["ranks"], dtype=np.int64),
        "exact_ranks": np.array(fields["exact_ranks"], dtype=np.int64),
        "top_items": tuple(tuple(row) for row in fields["top_items"]),
        "top_scores": np.array(fields["top_scores"], dtype=np.float32),
        "top_right": np.array(fields["top_right"], dtype=np.bool_),
        "right_items": tuple(fields["right_items"]),
        "intervals": _estimates(fields["intervals"]),
        "macro": _estimates(fields["macro"]),
        "slices": {
            name: Slice(tuple(part["members"]), _estimates(part["intervals"]))
            for name, part in fields["slices"].items()
        },
    }


def _estimates(fields: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**estimate) for name, estimate in fields.items()}
