"""How often a worse version passes the gate, and how often an equal one does, with few held-out photos.

    python -m benchmarks.evaluation.gate --runs 400 --json gate.json

The worse candidate answers 5 % fewer photos right: photos at random, or all photos of a cluster (a user, a
class). The equal one wins 5 % of the photos and loses as many, at random. The gate's interval stands beside the
bootstrap alone. Nothing is trained; the answers are drawn.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.evaluation.bootstrap import Values, cautious_difference, difference_estimate
from immr.evaluation.gate_recipe import GateRecipe

RECIPE = GateRecipe(bootstrap_rounds=200)
LOSS, DIFFERENT = 0.05, 0.1
# clusters, photos of each, whether whole clusters are lost
CASES = (
    (10, 1, False),
    (40, 1, False),
    (80, 1, False),
    (300, 1, False),
    (3, 20, True),
    (20, 5, True),
    (60, 5, True),
    (200, 5, True),
)


@dataclass(frozen=True)
class Passed:
    """Share of candidates whose lower bound is above the margin, by either interval."""

    clusters: int
    photos_each: int
    lost: str
    worse_by_bootstrap: float
    worse: float
    equal_by_bootstrap: float
    equal: float


def main(
    runs: Annotated[int, typer.Option(help="Simulated candidates of each kind.")] = 400,
    json_file: JsonFile = None,
) -> None:
    """Print the shares that pass."""
    found = [_passed(*case, runs) for case in CASES]
    table = Table(title=f"share of {runs} candidates that pass at a margin of {RECIPE.margin}")
    for column in ("clusters × photos", "lost", "worse: bootstrap", "gate", "equal: bootstrap", "gate"):
        table.add_column(column, justify="right")
    for one in found:
        shares = one.worse_by_bootstrap, one.worse, one.equal_by_bootstrap, one.equal
        table.add_row(
            f"{one.clusters} × {one.photos_each}", one.lost, *(f"{100 * share:.1f} %" for share in shares)
        )
    Console().print(table)
    keys = {"gate_false_pass_worst": max(one.worse for one in found)}
    write_figures(json_file, {"gate": [asdict(one) for one in found], **keys})


def _passed(clusters: int, photos: int, whole: bool, runs: int) -> Passed:
    generator = np.random.default_rng(RECIPE.seed)
    ids_Q = np.repeat(np.arange(clusters), photos)
    counts = np.zeros(4)
    for seed in range(runs):
        lost_Q = generator.random(clusters)[ids_Q] if whole else generator.random(len(ids_Q))
        worse_Q = -(lost_Q < LOSS).astype(np.float64)
        drawn_Q = generator.random(len(ids_Q))
        equal_Q = (drawn_Q < DIFFERENT / 2).astype(np.float64) - (drawn_Q > 1 - DIFFERENT / 2)
        counts += [*_above(worse_Q, ids_Q, seed), *_above(equal_Q, ids_Q, seed)]
    return Passed(clusters, photos, "clusters" if whole else "photos", *(counts / runs).tolist())


def _above(difference_Q: Values, ids_Q: np.ndarray, seed: int) -> tuple[bool, bool]:
    """Whether the lower bound of the bootstrap, and that of the gate, is above the margin."""
    rounds, confidence = RECIPE.bootstrap_rounds, RECIPE.confidence
    lows = (
        interval(difference_Q, np.zeros(len(ids_Q)), ids_Q, rounds, confidence, seed).low
        for interval in (difference_estimate, cautious_difference)
    )
    bootstrap, gate = (low > RECIPE.margin for low in lows)
    return bootstrap, gate


if __name__ == "__main__":
    typer.run(main)
