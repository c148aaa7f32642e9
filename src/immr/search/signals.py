"""The signals of a candidate that a learned ranker reads; the same in a Bento and in training.

Shapes: N candidates, F signals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from immr.types import AttributeKind, AttributeValue, Candidate, ItemFeatures

Signals = npt.NDArray[np.float64]

HEAD = 10
"""The number of most similar candidates that describe the query."""
_OWN = (
    "cosine",
    "cosine_behind",  # gap to the best candidate's
    "first_rank",  # by cosine, from 1
    "category_share",  # share of the head in this category
    "price",
    "ctr_7d",
    "impressions_7d",
    "clicks_7d",
    "age_days",  # since the item was updated
)
_DAY_S = 24 * 3600
_UNKNOWN = (math.nan,) * 5


def names(attributes: Mapping[str, AttributeKind]) -> list[str]:
    """Names of the F signals. A number attribute is a signal itself; a keyword gives the share of its value."""
    return [*_OWN, *(f"{name}_share" if kind == "keyword" else name for name, kind in attributes.items())]


def signals(
    candidates: Sequence[Candidate],
    first_ranks: Sequence[int],
    head: Sequence[Candidate],
    features: Mapping[str, ItemFeatures],
    now: datetime,
    attributes: Mapping[str, AttributeKind],
) -> Signals:
    """(N, F) signals in the order of `names`; NaN where a value is unknown.

    Stock is not a signal, because a log does not record what was in stock. `RankingRecipe.stock_weight`
    handles sold-out items.

    Args:
        candidates: whose signals are wanted.
        first_ranks: (N,) their ranks by cosine among everything that passes the filters, from 1.
        head: the first `HEAD` by cosine, or as many as there are.
        features: by item_id, as they were when the query was sent.
        now: when the query was sent.
        attributes: the declared attributes that are signals.
    """
    best = head[0].cosine if head else 0.0
    categories = _shares([each.category for each in head])
    of_keywords = {
        name: _shares([each.attributes.get(name) for each in head])
        for name, kind in attributes.items()
        if kind == "keyword"
    }
    rows = []
    for candidate, first_rank in zip(candidates, first_ranks, strict=True):
        cosine = candidate.cosine
        own = (cosine, best - cosine, first_rank, categories.get(candidate.category, 0.0))
        known = features.get(candidate.item_id)
        of_item = _UNKNOWN if known is None else _of_features(known, now)
        declared = [_declared(candidate.attributes.get(name), of_keywords.get(name)) for name in attributes]
        rows.append((*own, *of_item, *declared))
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(_OWN) + len(attributes))


def _of_features(known: ItemFeatures, now: datetime) -> tuple[float, ...]:
    age_s = math.nan if known.updated_at is None else (now - known.updated_at).total_seconds()
    age_days = age_s / _DAY_S if age_s >= 0 else math.nan  # updated since: the earlier time is unknown
    return known.price, known.ctr_7d, known.impressions_7d, known.clicks_7d, age_days


def _declared(value: AttributeValue | None, shares: Mapping[object, float] | None) -> float:
    if value is None or isinstance(value, list):
        return math.nan
    return float(value) if shares is None else shares.get(value, 0.0)


def _shares(values: Sequence[object]) -> dict[object, float]:
    keywords = (
        None if isinstance(value, list) else value for value in values
    )  # a catalogue may change its kind
    return {value: count / len(values) for value, count in Counter(keywords).items()}
