"""The signals of a candidate and a user that a personal ranker reads; the same in a Bento and in training.

Shapes: N candidates, P signals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from immr.search.signals import Signals
from immr.search.trees import Trees
from immr.types import AttributeKind, AttributeValue, Candidate, ItemFeatures, UserFeatures

_OWN = (
    "clicks",  # how many of the user's are known
    "clicked_before",  # how many of them on this item
    "category_affinity",  # share of them in the item's category
    "top_category_affinity",  # share of them below the same top of the category path
    "price_from_usual",  # logarithm of price / geometric mean of theirs
    "price_spread",  # standard deviation of the logarithms of theirs
)


@dataclass(frozen=True)
class Personal:
    """What trees over `personal_signals` add to a ranker's score, in multiples of `unit`."""

    unit: float
    trees: Trees


def personal_names(attributes: Mapping[str, AttributeKind]) -> list[str]:
    """Names of the P signals. A keyword gives the share of clicks on its value, a number its distance from usual."""
    of_attributes = (
        f"{name}_affinity" if kind == "keyword" else f"{name}_from_usual" for name, kind in attributes.items()
    )
    return [*_OWN, *of_attributes]


def personal_signals(
    candidates: Sequence[Candidate],
    features: Mapping[str, ItemFeatures],
    user: UserFeatures,
    attributes: Mapping[str, AttributeKind],
) -> Signals:
    """(N, P) signals in the order of `personal_names`; NaN where a value is unknown.

    Args:
        candidates: whose signals are wanted.
        features: by item_id; have the prices.
        user: with at least one click.
        attributes: the declared attributes that are signals.
    """
    known = [features.get(candidate.item_id) for candidate in candidates]
    prices = [each.price if each is not None and each.price > 0 else math.nan for each in known]
    on_item, affinities = Counter(user.items), _category_affinities(user, candidates)
    usual, spread = _price(user.prices)
    found_NP = np.empty((len(candidates), len(_OWN) + len(attributes)))
    found_NP[:, 0] = len(user.items)
    found_NP[:, 1] = [on_item.get(candidate.item_id, 0) for candidate in candidates]
    found_NP[:, 2:4] = [affinities[candidate.category] for candidate in candidates] or 0.0
    found_NP[:, 4] = np.log(prices) - usual
    found_NP[:, 5] = spread
    for column, (name, kind) in enumerate(attributes.items(), start=len(_OWN)):
        taste = _taste([each.get(name) for each in user.attributes], kind)
        found_NP[:, column] = [_affinity(each.attributes.get(name), taste) for each in candidates]
    return found_NP


def _category_affinities(
    user: UserFeatures, candidates: Sequence[Candidate]
) -> Mapping[str, tuple[float, float]]:
    """The shares of the user's clicks in each category of the candidates, and below its top."""
    count = len(user.items)
    inside, below = Counter(user.categories), Counter(map(_top, user.categories))
    return {
        category: (inside.get(category, 0) / count, below.get(_top(category), 0) / count)
        for category in {candidate.category for candidate in candidates}
    }


def _top(category: str) -> str:
    return category.partition("/")[0]


def _price(prices: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the logarithms of the positive prices."""
    logs = [math.log(price) for price in prices if price > 0]
    if not logs:
        return math.nan, math.nan
    mean = sum(logs) / len(logs)
    return mean, math.sqrt(sum((each - mean) ** 2 for each in logs) / len(logs))


def _taste(
    values: Sequence[AttributeValue | None], kind: AttributeKind
) -> Mapping[AttributeValue, float] | float | None:
    """Shares of a keyword's values, or the mean of numbers; None if no clicked item has the attribute."""
    known = [value for value in values if value is not None and not isinstance(value, list)]
    if not known:
        return None
    if kind == "number":
        return sum(map(float, known)) / len(known)
    return {value: times / len(known) for value, times in Counter(known).items()}


def _affinity(value: AttributeValue | None, taste: Mapping[AttributeValue, float] | float | None) -> float:
    if value is None or isinstance(value, list) or taste is None:
        return math.nan
    return float(value) - taste if isinstance(taste, float) else taste.get(value, 0.0)
