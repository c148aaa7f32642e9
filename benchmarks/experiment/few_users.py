"""Intervals of a test with few users, of whom a few make most of the searches: how often do they contain the truth?

    python -m benchmarks.experiment.few_users --runs 2000

Two equal versions; each user's clicks have a rate of their own. "Alone" is the delta method's interval, which takes
each variant's own variance: without a heavy clicker among a few users, both the CTR and its variance are low.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans

from benchmarks.figures import JsonFile, write_figures
from immr.readout.comparison import CTR, compare, rate, standard_error
from immr.readout.user_moments import aggregates_of

CLICK_RATE = 0.1
SIZES = ((5, 5), (20, 20), (180, 20), (20, 180), (1980, 20))
Z = 1.959964


def few_users(rng: np.random.Generator, users: int) -> Aggregates:
    """Users of whom a few search most (Pareto, exponent 1.3), with click rates of their own."""
    searches_U = 1 + np.minimum(rng.pareto(1.3, users), 500).astype(int)
    clicks_U = rng.binomial(10 * searches_U, rng.beta(8 * CLICK_RATE, 8 * (1 - CLICK_RATE), users))
    return aggregates_of({"clicks": clicks_U, "impressions": 10 * searches_U})


def covered(champions: int, challengers: int, runs: int, seed: int) -> dict[str, float]:
    """Share of tests whose 95 % interval for one look contains the truth, by interval."""
    alone = RatioOfMeans("clicks", "impressions", equal_var=False, use_t=False)
    rng, found, compared = np.random.default_rng(seed), np.zeros(4), 0
    while compared < runs:
        champion, challenger = few_users(rng, champions), few_users(rng, challengers)
        ours, own = compare(CTR, champion, challenger), rate(CTR, challenger, 0.95)
        if ours is None:  # nobody clicked
            continue
        theirs = alone.analyze_aggregates(champion, challenger)
        half = Z * standard_error(CTR, challenger)
        value = challenger.mean("clicks") / challenger.mean("impressions")
        found += (
            ours.interval.low <= 0 <= ours.interval.high,
            theirs.effect_size_ci_lower <= 0 <= theirs.effect_size_ci_upper,
            own is not None
            and own.interval is not None
            and own.interval.low <= CLICK_RATE <= own.interval.high,
            abs(value - CLICK_RATE) <= half,
        )
        compared += 1
    names = ("difference", "difference, alone", "challenger's CTR", "challenger's CTR, 1.96 standard errors")
    return dict(zip(names, (found / runs).tolist(), strict=True))


def main(
    runs: Annotated[int, typer.Option(help="Simulated tests of each size.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Count how often each interval contains the truth."""
    found = {f"{one:,} and {other:,}": covered(one, other, runs, seed) for one, other in SIZES}
    table = Table("users", *next(iter(found.values())), title=f"Covered in {runs:,} tests of equal versions")
    for name, shares in found.items():
        table.add_row(name, *(f"{100 * share:.1f} %" for share in shares.values()))
    Console().print(table)
    write_figures(json_file, found)


if __name__ == "__main__":
    typer.run(main)
