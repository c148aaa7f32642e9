"""Do intervals of the position bias cover the truth if few items are shown at several positions?

    python -m benchmarks.ranking.propensity_intervals

Strata (an item at a similar cosine and rank) are shown at five positions. Clicks come in clumps: each stratum has its
own bias, which differs from the common one by a gamma factor with mean 1 for each position; or they are independent.
How often a stratum is shown is log-normal. Beside the product's intervals stand those of 1.96 standard errors.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.ranking.propensity import estimate

EXAMINED_K = np.array([1, 0.9, 0.85, 0.4, 0.3])
RATE = (1.0, 3.0)  # Beta: of a stratum's clicks, where it is examined
SHOWN = 100  # median, at each position


def clicks_of(rng: np.random.Generator, strata: int, clumped: float, spread: float) -> tuple[np.ndarray, ...]:
    """Stratum, position and whether it was clicked, of each impression.

    Args:
        rng: of the log.
        strata: how many.
        clumped: variance of the factor; 0 for independent clicks.
        spread: standard deviation of the logarithm of how often a stratum is shown.
    """
    shown_S = np.maximum((SHOWN * np.exp(spread * rng.standard_normal(strata))).astype(np.int64), 2)
    factor_SK = rng.gamma(1 / clumped, clumped, (strata, 5)) if clumped else np.ones((strata, 5))
    rate_SK = rng.beta(*RATE, strata).clip(0.02)[:, None] / 2 * EXAMINED_K * factor_SK
    clicks_SK = rng.binomial(shown_S[:, None], np.minimum(rate_SK, 1))
    stratum_R = np.repeat(np.arange(strata), 5 * shown_S)
    position_R = np.concatenate([np.repeat(np.arange(1, 6), shown) for shown in shown_S])
    clicked_R = np.concatenate(
        [
            np.arange(shown) < clicks
            for shown, row_K in zip(shown_S, clicks_SK, strict=True)
            for clicks in row_K
        ]
    )
    return stratum_R, position_R, clicked_R


def coverage(
    strata: int, clumped: float, spread: float, logs: int, seed: int = 0
) -> tuple[float, float, float]:
    """Shares of intervals that cover the truth: the product's, 1.96 standard errors; and their median half-width."""
    rng = np.random.default_rng(seed)
    covered: list[np.ndarray] = []
    reaches: list[np.ndarray] = []
    for _ in range(logs):
        found = estimate(*clicks_of(rng, strata, clumped, spread), first=0)
        reach_K = found.reach_K()
        known = np.flatnonzero(np.isfinite(reach_K[:5]))[1:]
        off = np.abs(found.log_K[known] - np.log(EXAMINED_K[known]))
        covered.append(np.stack([off <= reach_K[known], off <= 1.96 * found.error_K[known]]))
        reaches.append(reach_K[known])
    shares = np.concatenate(covered, axis=1).mean(axis=1)
    return float(shares[0]), float(shares[1]), float(np.median(np.concatenate(reaches)))


def main(
    logs: Annotated[int, typer.Option(help="Simulated logs for each row.")] = 250,
    seed: Annotated[int, typer.Option(help="Seed of the logs.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Print the coverage of the intervals by the number of strata."""
    table = Table(
        "clicks", "strata", "Student's t", "1.96 errors", "half-width", title=f"95 % intervals, {logs} logs"
    )
    rows = []
    for (name, clumped), strata in product(
        (("independent", 0.0), ("in clumps", 0.5)), (3, 4, 8, 15, 30, 100)
    ):
        ours, normal, reach = coverage(strata, clumped, 1.0, logs, seed)
        rows.append(
            {"clicks": name, "strata": strata, "covered": ours, "covered_normal": normal, "half_width": reach}
        )
        table.add_row(name, str(strata), f"{ours:.1%}", f"{normal:.1%}", f"{reach:.2f}")
    Console().print(table)
    write_figures(json_file, {"rows": rows})


if __name__ == "__main__":
    typer.run(main)
