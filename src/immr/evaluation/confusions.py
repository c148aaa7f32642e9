"""Confusions: which items are returned in place of which. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from immr.evaluation.result import Evaluation


@dataclass(frozen=True, slots=True)
class Confusion:
    """Photos of one item whose first hit is another item."""

    right: str  # item_id
    answered: str  # item_id
    photos: int
    of: int  # photos of the right item
    back: int  # photos of the other item answered with this one; high if the two look alike


def confusions(evaluation: Evaluation, limit: int) -> list[Confusion]:
    """The most frequent wrong first hits; ties in item_id order."""
    photos = Counter(evaluation.right_items)
    wrong = Counter(
        (right, answers[0])
        for right, answers, is_right in zip(
            evaluation.right_items, evaluation.top_items, evaluation.top_right[:, 0], strict=True
        )
        if not is_right
    )
    most = sorted(wrong.items(), key=lambda entry: (-entry[1], entry[0]))[:limit]
    return [
        Confusion(right, answered, count, photos[right], wrong[answered, right])
        for (right, answered), count in most
    ]
