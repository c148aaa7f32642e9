"""Training examples: the signals and hand-tuned score of each impression, as of when it was shown.

Shapes: R impressions, Q queries, N items, F signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.data.attributes import CLASS, kind_of
from immr.ranking.click_log import EPOCH, ClickLog, features_on
from immr.ranking.first_stage import FirstStage
from immr.search.ranking import RankingRecipe, rank
from immr.search.signals import Signals, signals
from immr.types import AttributeKind, Candidate, Item, ItemFeatures

Values = npt.NDArray[np.float64]
_MICROSECOND = timedelta(microseconds=1)
_STATS = ("item_id", "price", "category", "stock", "updated_at")


@dataclass(frozen=True)
class Examples:
    """One row per impression, in the order of the log."""

    log: ClickLog
    first: FirstStage
    signals_RF: Signals
    hand_R: Values
    attributes: Mapping[str, AttributeKind]

    def of_queries(self, wanted_Q: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """(R,) the impressions of some queries."""
        chosen: npt.NDArray[np.bool_] = wanted_Q[self.log.query_R]
        return chosen


def examples(log: ClickLog, items: Sequence[Item], first: FirstStage, ranking: RankingRecipe) -> Examples:
    """Compute every signal with the function that search uses.

    Args:
        log: the impressions.
        items: the catalogue that the log was read with.
        first: of the same log.
        ranking: the hand-tuned weights.
    """
    attributes = attribute_kinds(items)
    catalogue = stats_columns(items)
    starts_Q, day_Q = log.starts_Q, log.day_Q
    signal_rows: list[Signals] = []
    hand_rows: list[Values] = []
    for day in np.unique(day_Q):
        queries = np.flatnonzero(day_Q == day)
        low, high = starts_Q[queries[0]], starts_Q[queries[-1] + 1]
        shown = [items[item].item_id for item in np.unique(log.item_R[low:high])]
        features = features_on(int(day), log, catalogue, shown)
        for query in queries:
            found = _of_query(int(query), log, items, first, features, ranking, attributes)
            signal_rows.append(found[0])
            hand_rows.append(found[1])
    return Examples(log, first, np.concatenate(signal_rows), np.concatenate(hand_rows), attributes)


def attribute_kinds(items: Sequence[Item]) -> dict[str, AttributeKind]:
    """The declared attributes of a catalogue, without lists and the one that governance derives from clicks."""
    kinds: dict[str, AttributeKind] = {}
    for item in items:
        for name, value in item.attributes.items():
            if name != CLASS and (kind := kind_of(value)) != "keywords":
                kinds[name] = kind
    return dict(sorted(kinds.items()))


def stats_columns(items: Sequence[Item]) -> pa.Table:
    """The catalogue columns from which item features are computed."""
    times = pa.array([item.updated_at for item in items], pa.timestamp("us", tz="UTC"))
    columns = {name: [getattr(item, name) for item in items] for name in _STATS if name != "updated_at"}
    stock = pa.array(columns.pop("stock"), pa.float64())
    return pa.table({**columns, "stock": stock, "updated_at": times})


def _of_query(
    query: int,
    log: ClickLog,
    items: Sequence[Item],
    first: FirstStage,
    features: Mapping[str, ItemFeatures],
    ranking: RankingRecipe,
    attributes: Mapping[str, AttributeKind],
) -> tuple[Signals, Values]:
    low, high = np.searchsorted(log.query_R, [query, query + 1])
    shown = [
        _candidate(items[item], cosine)
        for item, cosine in zip(log.item_R[low:high], first.cosine_R[low:high].tolist(), strict=True)
    ]
    head = [
        _candidate(items[item], cosine)
        for item, cosine in zip(first.head_QH[query], first.head_cosine_QH[query].tolist(), strict=True)
    ]
    now = EPOCH + log.time_Q[query].item() * _MICROSECOND
    ranks = first.rank_R[low:high].tolist()
    score_of = {hit.item_id: hit.score for hit in rank(shown, features, ranking, len(shown), now)}
    hand = np.array([score_of[candidate.item_id] for candidate in shown])
    return signals(shown, ranks, head, features, now, attributes), hand


def _candidate(item: Item, cosine: float) -> Candidate:
    return Candidate(item.item_id, cosine, "", item.category, "", item.attributes)
