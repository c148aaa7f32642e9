"""A small click log with known truth: shoppers want cheap items, which the embeddings do not show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.model.documents import PictureEmbeddings
from immr.ranking import click_log
from immr.ranking.click_log import ClickLog
from immr.ranking.examples import Examples, examples
from immr.ranking.first_stage import first_stage
from immr.search.ranking import RankingRecipe
from immr.types import FloatArray, Item

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN, DAYS = 6, 8
EXAMINED_K = np.array([1.0, 0.8, 0.5, 0.3, 0.2, 0.15])


def items(count: int = 60) -> list[Item]:
    """Items whose price is 1 or 9."""
    return [
        Item(
            f"i{number}",
            "",
            "",
            f"C/{number % 4}",
            "",
            9.0 if number % 3 else 1.0,
            BEGIN - timedelta(days=9),
            attributes={"brand": f"b{number % 5}"},
        )
        for number in range(count)
    ]


def embeddings(rows: int, seed: int) -> FloatArray:
    """Unit rows."""
    raw = np.random.default_rng(seed).standard_normal((rows, 8))
    unit: FloatArray = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return unit


def write(
    folder: Path,
    queries: int = 1500,
    users: int = 200,
    frozen: bool = False,
    photos: Mapping[str, FloatArray] | None = None,
) -> FloatArray:
    """`queries.parquet` and `impressions.parquet`; returns the embeddings of the queries.

    Each query sends one of the photos, by default one of its own, named by the row of its embedding.
    """
    rng = np.random.default_rng(0)
    catalogue = items()
    queries_QD, items_ND = embeddings(queries, 1), embeddings(len(catalogue), 2)
    images = [str(query) for query in range(queries)]
    if photos:
        images = [list(photos)[number] for number in rng.integers(0, len(photos), queries)]
        queries_QD = np.stack([photos[image] for image in images])
    score_QN = queries_QD @ items_ND.T + (0 if frozen else 0.15) * rng.standard_normal((queries, 60))
    shown_QK = np.argsort(-score_QN, axis=1)[:, :SHOWN]
    cheap_N = np.array([item.price < 5 for item in catalogue])
    wanted_QK = np.where(cheap_N[shown_QK], 0.7, 0.1)
    clicked_QK = rng.random(shown_QK.shape) < EXAMINED_K * wanted_QK
    times = [BEGIN + timedelta(days=float(day)) for day in np.sort(rng.random(queries)) * DAYS]
    user_Q = rng.integers(0, users, queries)
    asked = {
        "query_id": [f"q{query}" for query in range(queries)],
        "user_id": [f"u{user}" for user in user_Q],
        "ts": times,
        "image": images,
    }
    shown = [
        {
            "query_id": f"q{query}",
            "item_id": f"i{shown_QK[query, place]}",
            "position": place + 1,
            "clicked": bool(clicked_QK[query, place]),
            "ordered": False,
            "variant": "control",
            "model_version": "former",
            "ts": times[query],
        }
        for query in range(queries)
        for place in range(SHOWN)
    ]
    pq.write_table(pa.table(asked, QUERIES.columns), folder / "queries.parquet")
    pq.write_table(pa.Table.from_pylist(shown, IMPRESSIONS.columns), folder / "impressions.parquet")
    return queries_QD


def read(folder: Path, max_queries: int = 10**6) -> ClickLog:
    """The log in a folder."""
    return click_log.read(folder / "impressions.parquet", folder / "queries.parquet", items(), max_queries)


def of(folder: Path, **shape: int | bool) -> Examples:
    """The examples of a log written into a folder."""
    queries_QD = write(folder, **shape)  # type: ignore[arg-type]
    log = read(folder)
    asked = queries_QD[[int(photo) for photo in log.photo_Q]]
    first = first_stage(asked, PictureEmbeddings.one_each(embeddings(60, 2)), log.query_R, log.item_R)
    return examples(log, items(), first, RankingRecipe())
