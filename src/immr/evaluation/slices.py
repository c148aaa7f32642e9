"""Slices: groups of queries, by category and by how often training saw their class.

Shapes: Q queries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from immr.data.training_set import TrainingSet
from immr.errors import RecipeError
from immr.evaluation.metrics import BoolArray, IntArray
from immr.types import Item

FREQUENCIES = ("head", "middle", "tail", "unseen")
_NAMED = 20  # categories in an error


def check_names(names: Collection[str], training_set: TrainingSet) -> None:
    """Refuse names that are no slice of the catalogue; a slice may be without held-out photos.

    Raises:
        RecipeError: There is no such slice; the message names the known ones.
    """
    if not names:
        return
    categories = sorted({_top(category) for category in training_set.categories.values()})
    for name in names:
        if name in (*categories, *FREQUENCIES):
            continue
        close = get_close_matches(name, (*categories, *FREQUENCIES), n=1)
        perhaps = f" (perhaps you mean {close[0]!r})" if close else ""
        more = ", …" if len(categories) > _NAMED else ""
        raise RecipeError(
            f"the recipe's gate.slice_margins names {name!r}, but the catalogue has no such slice{perhaps}: use a "
            f"top category ({', '.join(categories[:_NAMED])}{more}), or {', '.join(FREQUENCIES)}"
        )


def by_category(right_items: Sequence[str], items: Sequence[Item]) -> dict[str, BoolArray]:
    """(Q,) masks by the top-level category of the right item."""
    category = {item.item_id: _top(item.category) for item in items}
    tops_Q = np.array([category[item_id] for item_id in right_items])
    return {str(name): tops_Q == name for name in np.unique(tops_Q)}


def _top(category: str) -> str:
    return category.split("/")[0]


def by_frequency(classes_Q: IntArray, training_counts: Mapping[int, int]) -> dict[str, BoolArray]:
    """(Q,) masks "head", "middle", "tail" and "unseen"; empty slices are left out.

    "head" are classes with more training photos than at least two thirds of all seen classes, "tail" those with
    fewer than at least two thirds; classes with equal counts stay together. "unseen" are classes without a training
    photo.

    Args:
        classes_Q: class of each query.
        training_counts: training photos by class.
    """
    seen_C = np.sort([count for count in training_counts.values() if count > 0])
    counts_Q = np.array([training_counts.get(int(class_id), 0) for class_id in classes_Q])
    fewer_Q = np.searchsorted(seen_C, counts_Q, side="left")
    more_Q = len(seen_C) - np.searchsorted(seen_C, counts_Q, side="right")
    head_Q, tail_Q = (counts_Q > 0) & (3 * np.stack([fewer_Q, more_Q]) >= 2 * len(seen_C))
    masks = (head_Q, (counts_Q > 0) & ~head_Q & ~tail_Q, tail_Q, counts_Q == 0)
    return {name: mask_Q for name, mask_Q in zip(FREQUENCIES, masks, strict=True) if mask_Q.any()}
