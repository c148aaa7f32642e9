"""The gate's recipe: when a candidate may serve shoppers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from immr.types import Confidence, Count, CountOrZero, Difference, Seed

Metric = Literal[
    "recall@1",
    "recall@5",
    "recall@10",
    "mrr@10",
    "map@10",
    "ndcg@10",
    "exact_recall@1",
    "exact_recall@5",
    "exact_recall@10",
    "exact_mrr@10",
]
"""What an evaluation measures; the exact metrics only if judgements name items."""

EXACT = "exact_"
"""Prefix of metrics that count only the judgement's own item as right."""


@dataclass(frozen=True)
class GateRecipe:
    """The gate passes if the lower bound of (candidate − champion) is above `margin` and no slice fails.

    A slice fails if its mean difference is below the slice's margin and its whole interval is below zero:
    the drop is large, and not due to chance. Slices with fewer than `slice_queries` photos or
    `slice_clusters` clusters cannot fail. Intervals resample users and classes, and the wider one counts.
    """

    metric: Metric = "recall@1"
    right: Literal["item", "class"] = "item"  # "item": only the item that a judgement names, where it does
    margin: Difference = -0.05  # lowest acceptable lower bound; 0 asks for a proven gain
    slice_margin: Difference = -0.1  # lowest acceptable mean difference of a slice
    slice_margins: Mapping[str, Difference] = field(default_factory=dict)  # by slice, overrides slice_margin
    slice_queries: CountOrZero = 30
    slice_clusters: CountOrZero = 5
    floor: Difference = 0.3  # what a first version, without a champion, must reach
    confidence: Confidence = 0.95
    bootstrap_rounds: Count = 2000
    seed: Seed = 0
