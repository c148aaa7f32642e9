"""How often do segments of equal versions "differ"? Twenty segments, looked at again and again.

    python -m benchmarks.experiment.segments --runs 1000 --json out.json

Users arrive over the test, come back, and click at rates of their own; segments are as unequal as countries are.
Beside the product's rule stand Holm's p-values for one look, and p < 0.05 without a correction.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from immr.readout.comparison import Look
from immr.readout.segments import Segment, SegmentSums, compare_segments

SEGMENTS = 20
CLICK_SHAPE = (0.8, 7.2)  # Beta: a CTR of 10 %, very different from user to user
QUERIES_PER_USER = 5.0
POSITIONS = 10


def looks(rng: np.random.Generator, users: int, count: int, lift: float = 0.0) -> list[tuple[Segment, ...]]:
    """The segments of one test at each look; `lift` is the challenger's, in the first segment only."""
    sizes = 1 / np.arange(1, SEGMENTS + 1)
    segment_U = rng.choice(SEGMENTS, users, p=sizes / sizes.sum())
    challenged_U = rng.integers(0, 2, users)
    rate_U = rng.beta(*CLICK_SHAPE, users) * np.where((challenged_U == 1) & (segment_U == 0), 1 + lift, 1.0)
    arrival_U = rng.integers(0, count, users)
    pace_U = rng.gamma(1.5, 1 / 1.5, users) * QUERIES_PER_USER * 2 / count
    impressions_U, clicks_U = np.zeros(users), np.zeros(users)
    found = []
    for look in range(count):
        shown_U = POSITIONS * rng.poisson(pace_U * (arrival_U <= look))
        impressions_U += shown_U
        clicks_U += rng.binomial(shown_U, np.minimum(rate_U, 1))
        found.append(
            compare_segments(
                _sums(challenged_U, segment_U, impressions_U, clicks_U), Look(planned_users=users)
            )
        )
    return found


def _sums(
    challenged_U: np.ndarray, segment_U: np.ndarray, impressions_U: np.ndarray, clicks_U: np.ndarray
) -> SegmentSums:
    seen_U = impressions_U > 0
    cell_U = challenged_U * SEGMENTS + segment_U

    def sums(values_U: np.ndarray) -> np.ndarray:
        return np.bincount(cell_U[seen_U], values_U[seen_U], 2 * SEGMENTS).reshape(2, SEGMENTS)

    return SegmentSums(
        dimensions=["country"] * SEGMENTS,
        values=[str(number) for number in range(SEGMENTS)],
        users=sums(np.ones(len(cell_U))),
        impressions=sums(impressions_U),
        clicks=sums(clicks_U),
        impressions_squares=sums(impressions_U**2),
        clicks_squares=sums(clicks_U**2),
        products=sums(impressions_U * clicks_U),
    )


def rates(
    rng: np.random.Generator, runs: int, users: int = 20_000, count: int = 20, lift: float = 0.3
) -> dict[str, float]:
    """Shares of tests of equal versions with a false finding, and of tests with a lift in which it is found."""
    any_look = holm = uncorrected = found = 0
    for _ in range(runs):
        at_looks = looks(rng, users, count)
        last = at_looks[-1]
        any_look += any(each.differs for at in at_looks for each in at)
        holm += any(each.adjusted_p_value is not None and each.adjusted_p_value < 0.05 for each in last)
        uncorrected += any(each.p_value is not None and each.p_value < 0.05 for each in last)
        found += bool(looks(rng, users, count, lift)[-1][0].differs)
    return {
        "segment_family_wise": any_look / runs,
        "segment_family_wise_holm_one_look": holm / runs,
        "segment_family_wise_uncorrected": uncorrected / runs,
        "segment_lift_found": found / runs,
    }


def main(
    runs: Annotated[int, typer.Option(help="Tests of equal versions, and as many with a lift.")] = 1000,
    users: Annotated[int, typer.Option(help="Users of a test.")] = 20_000,
    count: Annotated[int, typer.Option("--looks", help="Looks at each test.")] = 20,
    lift: Annotated[float, typer.Option(help="The challenger's lift in the largest segment.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of all users.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Simulate, split by segment, and count the false findings."""
    figures = rates(np.random.default_rng(seed), runs, users, count, lift)
    table = Table(
        "figure", "value", title=f"{runs} tests of {users} users in {SEGMENTS} segments, {count} looks"
    )
    for name, value in figures.items():
        table.add_row(name, f"{value:.2%}")
    Console().print(table)
    if json_file is not None:
        settings = {"runs": runs, "users": users, "looks": count, "lift": lift, "seed": seed}
        json_file.write_text(json.dumps({**figures, "settings": settings}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
