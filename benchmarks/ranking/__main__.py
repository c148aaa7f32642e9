"""Does a ranker learned from biased clicks serve shoppers better than the hand weights?

    python -m benchmarks.ranking --json ranking.json
    python -m benchmarks.ranking --only "frozen order" --queries 10000

Shoppers and true relevance are simulated (`worlds.py`); everything else is the product's code: reading the log,
position bias, trees, the gate, and the ranking of a search. New queries are ranked by hand weights, by a ranker, and
by a ranker trained on unweighted clicks ("naive"). The metric is ndcg@10 by true relevance over 30 candidates,
with 95 % intervals that resample users. `ltr_p95_ms` is the CPU time of ranking 100 candidates.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.ranking import worlds
from benchmarks.ranking.worlds import Asked, Shop, World
from immr.errors import RankingError
from immr.evaluation.bootstrap import mean_estimates
from immr.ranking import click_log
from immr.ranking.examples import Examples, examples, stats_columns
from immr.ranking.first_stage import first_stage
from immr.ranking.learning import learn
from immr.ranking.ranker_recipe import RankerRecipe
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe, rank
from immr.search.signals import HEAD
from immr.types import Candidate, Hit, ItemFeatures

HAND = RankingRecipe()
CUT = 10
TIMED_CANDIDATES, TIMED_ROUNDS = 100, 1000
ROUNDS, CONFIDENCE = 2000, 0.95
WITH_NAIVE = (worlds.BIASED, worlds.UNBIASED)


@dataclass(frozen=True)
class Fresh:
    """Queries after the log, and what a Bento knows then."""

    asked: Asked
    found_QC: np.ndarray
    cosine_QC: np.ndarray
    features: dict[str, ItemFeatures]
    now: datetime


def log_of(world: World, seed: int, queries: int, fresh: int) -> tuple[Shop, Examples, Fresh]:
    """A shop, the examples of its log, and queries of the day after."""
    rng = np.random.default_rng(seed)
    shop = worlds.shop(rng)
    asked = worlds.ask(shop, rng, queries, queries // 8)
    with tempfile.TemporaryDirectory(prefix="immr-ranking-") as place:
        folder = Path(place)
        worlds.write_log(shop, asked, world, rng, folder)
        log = click_log.read(folder / "impressions.parquet", folder / "queries.parquet", shop.items, queries)
        order = np.array([int(photo) for photo in log.photo_Q])
        first = first_stage(asked.queries_QD[order], shop.items_ND, log.query_R, log.item_R)
        made = examples(log, shop.items, first, HAND)
        day = int(log.day_Q[-1]) + 1
        everything = [item.item_id for item in shop.items]
        features = click_log.features_on(day, log, stats_columns(shop.items), everything)
    later = worlds.ask(shop, rng, fresh, fresh // 2)
    found_QC, cosine_QC = worlds.candidates(shop, later.queries_QD)
    return shop, made, Fresh(later, found_QC, cosine_QC, features, click_log.EPOCH + day * click_log.DAY)


def true_ndcg(shop: Shop, fresh: Fresh, ranker: Ranker | None) -> np.ndarray:
    """(Q,) by the true relevance; by hand weights without a ranker."""
    discount_K = 1 / np.log2(1 + np.arange(1, CUT + 1))
    ndcg = []
    for query in range(len(fresh.asked.user_Q)):
        found_C = fresh.found_QC[query]
        relevance_C = worlds.relevance(shop, fresh.asked, np.full(len(found_C), query), found_C)
        of_item = {f"i{item:05d}": value for item, value in zip(found_C, relevance_C, strict=True)}
        gain_K = [of_item[hit.item_id] for hit in ranked(shop, fresh, query, ranker)[:CUT]]
        ideal_K = np.sort(relevance_C)[::-1][:CUT]
        ndcg.append(float(gain_K @ discount_K / (ideal_K @ discount_K)))
    return np.array(ndcg)


def ranked(shop: Shop, fresh: Fresh, query: int, ranker: Ranker | None) -> list[Hit]:
    """As a search ranks its candidates."""
    found = candidates(shop, fresh.found_QC[query], fresh.cosine_QC[query])
    return in_order(found, fresh, ranker)


def candidates(shop: Shop, item_C: np.ndarray, cosine_C: np.ndarray) -> list[Candidate]:
    found = []
    for item_row, cosine in zip(item_C, cosine_C.tolist(), strict=True):
        item = shop.items[item_row]
        found.append(Candidate(item.item_id, cosine, "", item.category, "", item.attributes))
    return found


def in_order(found: list[Candidate], fresh: Fresh, ranker: Ranker | None) -> list[Hit]:
    learned = ranker.added(found, 0, found[:HEAD], fresh.features, fresh.now) if ranker else None
    return rank(found, fresh.features, HAND, len(found), fresh.now, learned=learned)


def latency_p95_ms(shop: Shop, fresh: Fresh, ranker: Ranker) -> float:
    """Core time to rank 100 candidates: hand weights, signals, trees, sorting."""
    found_QC, cosine_QC = worlds.candidates(shop, fresh.asked.queries_QD[:TIMED_ROUNDS], TIMED_CANDIDATES)
    took_ms = []
    for row in range(len(found_QC)):
        found = candidates(shop, found_QC[row], cosine_QC[row])
        start = time.thread_time()
        in_order(found, fresh, ranker)
        took_ms.append(1000 * (time.thread_time() - start))
    return float(np.quantile(took_ms[10:], 0.95))


def try_out(world: World, seed: int, queries: int, fresh_queries: int) -> dict[str, object]:
    """One world: the ranker's own verdict, and the true gain."""
    shop, made, fresh = log_of(world, seed, queries, fresh_queries)
    found: dict[str, object] = {"clicks": int(made.log.clicked_R.sum())}
    try:
        learned = learn(made, HAND, RankerRecipe())
    except RankingError as error:
        return {**found, "refused": str(error)}
    hand_Q, ltr_Q = (true_ndcg(shop, fresh, each) for each in (None, learned.ranker))
    found |= {
        "sentence": learned.sentence,
        "passed": learned.verdict.passed,
        "doubts": len(learned.doubts),
        "examined": learned.propensities.relative_K[: worlds.SHOWN].round(3).tolist(),
        "trees": len(learned.ranker.trees.trees),
        "hand_ndcg": float(hand_Q.mean()),
        "ltr_ndcg": float(ltr_Q.mean()),
        **with_interval("ltr_minus_hand_ndcg", ltr_Q - hand_Q, fresh.asked.user_Q),
    }
    if world in WITH_NAIVE:
        naive = learn(made, HAND, replace(RankerRecipe(), correct_position=False)).ranker
        naive_Q = true_ndcg(shop, fresh, naive)
        found |= with_interval("naive_minus_hand_ndcg", naive_Q - hand_Q, fresh.asked.user_Q)
        found |= with_interval("ltr_minus_naive_ndcg", ltr_Q - naive_Q, fresh.asked.user_Q)
    if world is worlds.BIASED:
        found["ltr_p95_ms"] = latency_p95_ms(shop, fresh, learned.ranker)
    return found


def with_interval(name: str, values_Q: np.ndarray, users_Q: np.ndarray) -> dict[str, float]:
    [estimate] = mean_estimates(values_Q[:, None], users_Q.tolist(), ROUNDS, CONFIDENCE, seed=0)
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def main(
    queries: Annotated[int, typer.Option(help="Queries in the log.")] = 20_000,
    fresh: Annotated[int, typer.Option(help="New queries for the evaluation.")] = 2_000,
    only: Annotated[list[str] | None, typer.Option(help="Names of worlds; by default all.")] = None,
    seed: Annotated[int, typer.Option(help="Of the shop, the log and the queries.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Learn a ranker in each world, and evaluate it by true relevance."""
    chosen = [world for world in worlds.WORLDS if not only or world.name in only]
    results = {}
    for world in chosen:
        results[world.name] = try_out(world, seed, queries, fresh)
        if json_file:
            of_biased = results.get(worlds.BIASED.name, {})
            figures = {name: value for name, value in of_biased.items() if isinstance(value, float)}
            settings = {"queries": queries, "fresh": fresh, "seed": seed}
            json_file.write_text(json.dumps({**figures, "worlds": results, "settings": settings}, indent=1))
    columns = (
        "world",
        "hand ndcg",
        "ranker − hand",
        "naive − hand",
        "ranker − naive",
        "gate",
        "what it says",
    )
    table = Table(*columns, title=f"{queries:,} queries in the log, {fresh:,} fresh ones")
    for name, found in results.items():
        table.add_row(name, *row_of(found))
    Console(width=200).print(table)


def row_of(found: dict[str, object]) -> list[str]:
    if "refused" in found:
        return ["", "", "", "", "refused", str(found["refused"])]
    differences = [
        interval_of(found, name) for name in ("ltr_minus_hand", "naive_minus_hand", "ltr_minus_naive")
    ]
    passed = "passes" if found["passed"] else "does not pass"
    return [f"{found['hand_ndcg']:.3f}", *differences, passed, str(found["sentence"])]


def interval_of(found: dict[str, object], name: str) -> str:
    key = f"{name}_ndcg"
    if key not in found:
        return ""
    return f"{found[key]:+.3f} ({found[f'{key}_low']:+.3f} – {found[f'{key}_high']:+.3f})"


if __name__ == "__main__":
    typer.run(main)
