"""Simulated shops that do not follow the ranker's model, and click logs of their shoppers.

Relevance depends on category, style, price and an unrecorded quality. Embeddings show the first two, with noise. A
search engine with IMMR's hand-tuned weights orders the candidates, each day with the clicks of the seven days before.
Examination is flat over the first positions and then drops (not a power of the position); shoppers trust the first
results (they click some that are irrelevant); and clicks feed back into the order.

Shapes: Q queries, N items, D embedding size, C candidates, K shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.features.item_stats import PRIOR_IMPRESSIONS
from immr.types import FloatArray, Item

CATEGORIES, STYLES, BRANDS = 40, 16, 12
CANDIDATES, SHOWN = 30, 10
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CTR_WEIGHT = 0.05
EXAMINED_K = np.array([1, 0.93, 0.86, 0.8, 0.42, 0.37, 0.33, 0.2, 0.15, 0.11])  # the fold after four
TRUSTED_K = np.array([0.16, 0.11, 0.08, 0.06, 0.04, 0.04, 0.03, 0.03, 0.02, 0.02])


@dataclass(frozen=True)
class World:
    """How shoppers behave and how the log was ordered."""

    name: str
    examined_K: np.ndarray
    trusted_K: np.ndarray  # how often an examined but irrelevant item is clicked
    phone_share: float = 0.0  # of users, who see a smaller part of the page
    eye_catching: float = 0.0  # share of items that are examined at any position
    stops: bool = False  # a shopper stops at the first click (cascade)
    frozen: bool = False  # always ordered by one version's cosines
    engines: int = 2  # versions that ordered the log, the older ones with noisier embeddings


BIASED = World("biased", EXAMINED_K, TRUSTED_K)
UNBIASED = World("unbiased", np.ones(SHOWN), np.zeros(SHOWN))
POSITION_ONLY = World("position only", EXAMINED_K, np.zeros(SHOWN))
ONE_ENGINE = World("one version", EXAMINED_K, TRUSTED_K, engines=1)
FROZEN = World("frozen order", EXAMINED_K, TRUSTED_K, frozen=True, engines=1)
PHONES = World("phones", EXAMINED_K, TRUSTED_K, phone_share=0.5)
EYE_CATCHING = World("eye-catching items", EXAMINED_K, TRUSTED_K, eye_catching=0.3)
CASCADE = World("stops at a click", EXAMINED_K, TRUSTED_K, stops=True)
WORLDS = (BIASED, UNBIASED, FROZEN, PHONES, EYE_CATCHING, CASCADE, ONE_ENGINE, POSITION_ONLY)


@dataclass(frozen=True)
class Shop:
    """A catalogue with its truth."""

    items: list[Item]
    items_ND: FloatArray
    category_N: np.ndarray
    style_NS: np.ndarray
    price_N: np.ndarray  # logarithm
    quality_N: np.ndarray
    eye_N: np.ndarray  # draws in [0, 1)


@dataclass(frozen=True)
class Asked:
    """Queries with their truth."""

    user_Q: np.ndarray
    queries_QD: FloatArray
    category_Q: np.ndarray
    style_QS: np.ndarray
    price_Q: np.ndarray
    noise_QD: np.ndarray  # what an older engine adds
    # what users like in items, whatever they search for (`user_tastes.py`)
    taste_UN: np.ndarray | None = None


def shop(rng: np.random.Generator, count: int = 2000) -> Shop:
    """Items with embeddings, prices and brands; the brand says a little about quality."""
    category_N = rng.integers(0, CATEGORIES, count)
    style_NS = rng.standard_normal((count, STYLES))
    price_N = rng.normal(3, 0.8, count)
    brand_N = rng.integers(0, BRANDS, count)
    quality_N = 0.8 * rng.standard_normal(count) + 0.6 * rng.standard_normal(BRANDS)[brand_N]
    items = [
        Item(
            f"i{number:05d}",
            "",
            "",
            f"Things/{category_N[number]:02d}",
            "",
            float(np.exp(price_N[number])),
            BEGIN - timedelta(days=60),
            attributes={"brand": f"b{brand_N[number]}", "weight": float(rng.gamma(2.0))},
        )
        for number in range(count)
    ]
    items_ND = _embedded(category_N, style_NS, rng, 0.15)
    return Shop(items, items_ND, category_N, style_NS, price_N, quality_N, rng.random(count))


def ask(of: Shop, rng: np.random.Generator, count: int, users: int) -> Asked:
    """Queries for something like one of the items."""
    target_Q = rng.integers(0, len(of.items), count)
    category_Q = of.category_N[target_Q]
    style_QS = of.style_NS[target_Q] + 0.5 * rng.standard_normal((count, STYLES))
    user_Q = rng.integers(0, users, count)
    taste_U = rng.normal(3, 0.5, users)
    queries_QD = _embedded(category_Q, style_QS, rng, 0.25)
    noise_QD = 0.06 * rng.standard_normal(queries_QD.shape)
    return Asked(user_Q, queries_QD, category_Q, style_QS, taste_U[user_Q], noise_QD)


def relevance(of: Shop, asked: Asked, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Probability that the item is what the query wants, of pairs of equal shape."""
    style_E = (asked.style_QS[query] * of.style_NS[item]).mean(axis=-1)
    far_E = np.abs(asked.price_Q[query] - of.price_N[item])
    same_E = asked.category_Q[query] == of.category_N[item]
    affinity_E = 2.2 * same_E + 2.0 * style_E - 1.0 * far_E + 1.0 * of.quality_N[item] - 2.6
    if asked.taste_UN is not None:
        affinity_E = affinity_E + asked.taste_UN[asked.user_Q[query], item]
    return 1 / (1 + np.exp(-affinity_E))


def write_log(
    of: Shop, asked: Asked, world: World, rng: np.random.Generator, folder: Path, days: int = 28
) -> None:
    """`queries.parquet` and `impressions.parquet` in the data contract."""
    count = len(asked.user_Q)
    time_Q = np.sort(rng.random(count)) * days
    tables = []
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for day in range(days):
        query_B = np.flatnonzero((time_Q >= day) & (time_Q < day + 1))
        shown_BK = _ordered(of, asked, world, query_B, ctr(history))
        clicked_BK = _clicks(of, asked, world, query_B, shown_BK, rng)
        history.append(_counts(shown_BK, clicked_BK, len(of.items)))
        tables.append(_impressions(query_B, shown_BK, clicked_BK, time_Q, of))
    pq.write_table(pa.concat_tables(tables), folder / "impressions.parquet")
    queries = {
        "query_id": [f"q{query:07d}" for query in range(count)],
        "user_id": [f"u{user:05d}" for user in asked.user_Q],
        "ts": [BEGIN + timedelta(days=float(day)) for day in time_Q],
        "image": [str(query) for query in range(count)],
    }
    pq.write_table(pa.table(queries, QUERIES.columns), folder / "queries.parquet")


def ctr(history: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(N,) smoothed CTR of the last seven days, as in `immr.features.item_stats`; zeros without a history."""
    if not history:
        return np.zeros(1)
    shown_N = np.sum([shown for shown, _ in history[-7:]], axis=0)
    clicks_N = np.sum([clicks for _, clicks in history[-7:]], axis=0)
    overall = clicks_N.sum() / shown_N.sum()
    smoothed: np.ndarray = (clicks_N + PRIOR_IMPRESSIONS * overall) / (shown_N + PRIOR_IMPRESSIONS)
    return smoothed


def candidates(of: Shop, queries_BD: np.ndarray, count: int = CANDIDATES) -> tuple[np.ndarray, np.ndarray]:
    """(B, C) items by cosine, best first, and their cosines."""
    cosine_BN = queries_BD @ of.items_ND.T
    found_BC = np.argpartition(-cosine_BN, count, axis=1)[:, :count]
    cosine_BC = np.take_along_axis(cosine_BN, found_BC, axis=1)
    order = np.argsort(-cosine_BC, axis=1)
    return np.take_along_axis(found_BC, order, axis=1), np.take_along_axis(cosine_BC, order, axis=1)


def _embedded(
    category_B: np.ndarray, style_BS: np.ndarray, rng: np.random.Generator, noise: float
) -> FloatArray:
    """Unit rows of category and style, with noise."""
    axes_CD = np.random.default_rng(7).standard_normal((CATEGORIES, 32)) / np.sqrt(32)
    style_SD = np.random.default_rng(8).standard_normal((STYLES, 32)) / np.sqrt(32 * STYLES)
    raw_BD = axes_CD[category_B] + 0.9 * style_BS @ style_SD
    raw_BD = raw_BD + noise * rng.standard_normal(raw_BD.shape)
    unit: FloatArray = (raw_BD / np.linalg.norm(raw_BD, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _ordered(of: Shop, asked: Asked, world: World, query_B: np.ndarray, ctr_N: np.ndarray) -> np.ndarray:
    """(B, K) what was shown, best first; users of an odd number get the older engine."""
    queries_BD = asked.queries_QD[query_B].copy()
    if world.engines > 1:
        older = asked.user_Q[query_B] % 2 == 1
        queries_BD[older] += asked.noise_QD[query_B][older]
    found_BC, score_BC = candidates(of, queries_BD)
    if not world.frozen and len(ctr_N) > 1:
        score_BC = score_BC + CTR_WEIGHT * ctr_N[found_BC]
    order = np.argsort(-score_BC, axis=1, kind="stable")[:, :SHOWN]
    return np.take_along_axis(found_BC, order, axis=1)


def _clicks(
    of: Shop,
    asked: Asked,
    world: World,
    query_B: np.ndarray,
    shown_BK: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    examined_BK = np.broadcast_to(world.examined_K, shown_BK.shape).copy()
    if world.phone_share:
        phone_B = asked.user_Q[query_B] % 10 < 10 * world.phone_share
        examined_BK[phone_B] = examined_BK[phone_B] ** 3
    if world.eye_catching:
        examined_BK[of.eye_N[shown_BK] < world.eye_catching] = 1.0
    relevance_BK = relevance(of, asked, query_B[:, None], shown_BK)
    wanted_BK = relevance_BK + (1 - relevance_BK) * world.trusted_K
    clicked_BK = rng.random(shown_BK.shape) < examined_BK * wanted_BK
    if world.stops:
        clicked_BK &= np.cumsum(clicked_BK, axis=1) <= 1
    return clicked_BK


def _counts(shown_BK: np.ndarray, clicked_BK: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    shown_N = np.bincount(shown_BK.ravel(), minlength=count)
    return shown_N, np.bincount(shown_BK.ravel(), clicked_BK.ravel(), count)


def _impressions(
    query_B: np.ndarray, shown_BK: np.ndarray, clicked_BK: np.ndarray, time_Q: np.ndarray, of: Shop
) -> pa.Table:
    rows = shown_BK.size
    query_R = np.repeat(query_B, shown_BK.shape[1])
    return pa.table(
        {
            "query_id": [f"q{query:07d}" for query in query_R],
            "item_id": [f"i{item:05d}" for item in shown_BK.ravel()],
            "position": np.tile(np.arange(1, shown_BK.shape[1] + 1), len(query_B)),
            "clicked": clicked_BK.ravel(),
            "ordered": np.zeros(rows, dtype=bool),
            "variant": ["control"] * rows,
            "model_version": ["former"] * rows,
            "ts": [BEGIN + timedelta(days=float(day)) for day in time_Q[query_R]],
        },
        schema=IMPRESSIONS.columns,
    )
