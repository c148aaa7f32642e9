"""Does a ranker learned from biased clicks serve shoppers better than the hand-tuned weights?

    python -m benchmarks.ranking --json ranking.json
    python -m benchmarks.ranking --only "frozen order" --queries 10000

Shoppers and true relevance are simulated (`simulated_shops.py`); everything else is the product's code: reading the
log, position bias, trees, the gate, and the ranking of a search. New queries are ranked by hand-tuned weights, by a
ranker, and by a ranker trained on unweighted clicks ("naive"). The metric is ndcg@10 by true relevance over 30
candidates, with 95 % intervals that resample users. `ltr_p95_ms` is the CPU time of ranking 100 candidates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from benchmarks.ranking import simulated_shops
from benchmarks.ranking.ranker_trial import (
    HAND,
    interval_of,
    latency_p95_ms,
    log_of,
    true_ndcg,
    with_interval,
)
from benchmarks.ranking.simulated_shops import World
from immr.errors import RankingError
from immr.ranking.learning import learn
from immr.ranking.ranker_recipe import RankerRecipe

WITH_NAIVE = (simulated_shops.BIASED, simulated_shops.UNBIASED)


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
        "bias_differences": len(learned.bias_differences),
        "examined": learned.propensities.relative_K[: simulated_shops.SHOWN].round(3).tolist(),
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
    if world is simulated_shops.BIASED:
        found["ltr_p95_ms"] = latency_p95_ms(shop, fresh, learned.ranker)
    return found


def main(
    queries: Annotated[int, typer.Option(help="Queries in the log.")] = 20_000,
    fresh: Annotated[int, typer.Option(help="New queries for the evaluation.")] = 2_000,
    only: Annotated[list[str] | None, typer.Option(help="Names of worlds; by default all.")] = None,
    seed: Annotated[int, typer.Option(help="Of the shop, the log and the queries.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Learn a ranker in each world, and evaluate it by true relevance."""
    chosen = [world for world in simulated_shops.WORLDS if not only or world.name in only]
    results = {}
    for world in chosen:
        results[world.name] = try_out(world, seed, queries, fresh)
        of_biased = results.get(simulated_shops.BIASED.name, {})
        figures = {name: value for name, value in of_biased.items() if isinstance(value, float)}
        write_figures(json_file, {**figures, "worlds": results})
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


if __name__ == "__main__":
    typer.run(main)
