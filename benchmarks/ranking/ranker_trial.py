"""A trial of rankers in a simulated shop: its log, new queries, and how well these are ranked by true relevance."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.ranking import simulated_shops
from benchmarks.ranking.simulated_shops import Asked, Shop, World
from immr.evaluation.bootstrap import mean_estimates
from immr.model.documents import PictureEmbeddings
from immr.ranking import click_log
from immr.ranking.examples import Examples, examples, stats_columns
from immr.ranking.first_stage import first_stage
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe, rank
from immr.search.signals import HEAD
from immr.types import Candidate, Hit, ItemFeatures, UserFeatures

HAND = RankingRecipe()
CUT = 10
TIMED_CANDIDATES, TIMED_ROUNDS = 100, 1000
ROUNDS, CONFIDENCE = 2000, 0.95


@dataclass(frozen=True)
class Fresh:
    """Queries after the log, and what a Bento knows then."""

    asked: Asked
    found_QC: np.ndarray
    cosine_QC: np.ndarray
    features: dict[str, ItemFeatures]
    now: datetime
    users: Mapping[int, UserFeatures] = field(default_factory=dict)


def log_of(world: World, seed: int, queries: int, fresh: int) -> tuple[Shop, Examples, Fresh]:
    """A shop, the examples of its log, and queries of the day after."""
    rng = np.random.default_rng(seed)
    shop = simulated_shops.shop(rng)
    asked = simulated_shops.ask(shop, rng, queries, queries // 8)
    with tempfile.TemporaryDirectory(prefix="immr-ranking-") as place:
        simulated_shops.write_log(shop, asked, world, rng, Path(place))
        made, features, now = read_log(shop, asked, Path(place))
    later = simulated_shops.ask(shop, rng, fresh, fresh // 2)
    return shop, made, fresh_of(shop, later, features, now)


def read_log(shop: Shop, asked: Asked, folder: Path) -> tuple[Examples, dict[str, ItemFeatures], datetime]:
    """The examples of a log, and the item features of the day after, with its time."""
    files = (folder / "impressions.parquet", folder / "queries.parquet")
    log = click_log.read(*files, shop.items, len(asked.user_Q))
    order = np.array([int(photo) for photo in log.photo_Q])
    items = PictureEmbeddings.one_each(shop.items_ND)
    first = first_stage(asked.queries_QD[order], items, log.query_R, log.item_R)
    made = examples(log, shop.items, first, HAND)
    day = int(log.day_Q[-1]) + 1
    everything = [item.item_id for item in shop.items]
    features = click_log.features_on(day, log, stats_columns(shop.items), everything)
    return made, features, click_log.EPOCH + day * click_log.DAY


def fresh_of(shop: Shop, later: Asked, features: dict[str, ItemFeatures], now: datetime) -> Fresh:
    """New queries with their candidates."""
    found_QC, cosine_QC = simulated_shops.candidates(shop, later.queries_QD)
    return Fresh(later, found_QC, cosine_QC, features, now)


def true_ndcg(shop: Shop, fresh: Fresh, ranker: Ranker | None) -> np.ndarray:
    """(Q,) by the true relevance; by hand-tuned weights without a ranker."""
    discount_K = 1 / np.log2(1 + np.arange(1, CUT + 1))
    ndcg = []
    for query in range(len(fresh.asked.user_Q)):
        found_C = fresh.found_QC[query]
        relevance_C = simulated_shops.relevance(shop, fresh.asked, np.full(len(found_C), query), found_C)
        of_item = {f"i{item:05d}": value for item, value in zip(found_C, relevance_C, strict=True)}
        gain_K = [of_item[hit.item_id] for hit in ranked(shop, fresh, query, ranker)[:CUT]]
        ideal_K = np.sort(relevance_C)[::-1][:CUT]
        ndcg.append(float(gain_K @ discount_K / (ideal_K @ discount_K)))
    return np.array(ndcg)


def ranked(shop: Shop, fresh: Fresh, query: int, ranker: Ranker | None) -> list[Hit]:
    """As a search ranks its candidates."""
    found = candidates(shop, fresh.found_QC[query], fresh.cosine_QC[query])
    return in_order(found, fresh, ranker, fresh.users.get(int(fresh.asked.user_Q[query])))


def candidates(shop: Shop, item_C: np.ndarray, cosine_C: np.ndarray) -> list[Candidate]:
    found = []
    for item_row, cosine in zip(item_C, cosine_C.tolist(), strict=True):
        item = shop.items[item_row]
        found.append(Candidate(item.item_id, cosine, "", item.category, "", item.attributes))
    return found


def in_order(
    found: list[Candidate], fresh: Fresh, ranker: Ranker | None, user: UserFeatures | None = None
) -> list[Hit]:
    learned = (
        ranker.added(found, range(1, 1 + len(found)), found[:HEAD], fresh.features, fresh.now, user)
        if ranker
        else None
    )
    return rank(found, fresh.features, HAND, len(found), fresh.now, learned=learned)


def latency_p95_ms(shop: Shop, fresh: Fresh, ranker: Ranker, user: UserFeatures | None = None) -> float:
    """Core time to rank 100 candidates: hand-tuned weights, signals, trees, sorting."""
    found_QC, cosine_QC = simulated_shops.candidates(
        shop, fresh.asked.queries_QD[:TIMED_ROUNDS], TIMED_CANDIDATES
    )
    took_ms = []
    for row in range(len(found_QC)):
        found = candidates(shop, found_QC[row], cosine_QC[row])
        start = time.thread_time()
        in_order(found, fresh, ranker, user)
        took_ms.append(1000 * (time.thread_time() - start))
    return float(np.quantile(took_ms[10:], 0.95))


def with_interval(name: str, values_Q: np.ndarray, users_Q: np.ndarray) -> dict[str, float]:
    [estimate] = mean_estimates(values_Q[:, None], users_Q.tolist(), ROUNDS, CONFIDENCE, seed=0)
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def interval_of(found: dict[str, object], name: str) -> str:
    key = f"{name}_ndcg"
    if key not in found:
        return ""
    return f"{found[key]:+.3f} ({found[f'{key}_low']:+.3f} – {found[f'{key}_high']:+.3f})"
