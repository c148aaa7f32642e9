"""Slices: groups of queries, by category and by how often training saw their class. Pure.

Shapes: Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from immr.evaluation.metrics import BoolArray, IntArray
from immr.types import Item


def by_category(right_items: Sequence[str], items: Sequence[Item]) -> dict[str, BoolArray]:
    """(Q,) masks by the top-level category of the right item."""
    category = {item.item_id: item.category.split("/")[0] for item in items}
    tops_Q = np.array([category[item_id] for item_id in right_items])
    return {str(name): tops_Q == name for name in np.unique(tops_Q)}


def by_frequency(classes_Q: IntArray, training_counts: Mapping[int, int]) -> dict[str, BoolArray]:
    """(Q,) masks "head", "middle", "tail" and "unseen"; empty slices are left out.

    "head" are classes with more training photos than two thirds of all seen classes, "tail" those with fewer
    than two thirds; classes with equal counts stay together. "unseen" are classes without a training photo.

    Args:
        classes_Q: class of each query.
        training_counts: training photos by class.
    """
    seen = [count for count in training_counts.values() if count > 0]
    counts_Q = np.array([training_counts.get(int(class_id), 0) for class_id in classes_Q])
    low, high = np.quantile(seen, [1 / 3, 2 / 3], method="inverted_cdf") if seen else (0, 0)
    masks = {
        "head": counts_Q > high,
        "middle": (counts_Q >= low) & (counts_Q <= high) & (counts_Q > 0),
        "tail": (counts_Q < low) & (counts_Q > 0),
        "unseen": counts_Q == 0,
    }
    return {name: mask_Q for name, mask_Q in masks.items() if mask_Q.any()}
