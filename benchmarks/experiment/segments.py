"""How often do segments of equal versions "differ"? Twenty segments, looked at again and again.

    python -m benchmarks.experiment.segments --runs 1000 --json out.json
    python -m benchmarks.experiment.segments --runs 500 --ctr 0.01 --share 0.1 --heavy

Users arrive over the test, come back, and click at rates of their own; segments are as unequal as countries are.
The second shop has few clicks, an uneven split, and a few users who make most of the searches.
Beside the product's rule stand Holm's p-values for one look, and p < 0.05 without a correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.readout.comparison import Look
from immr.readout.segments import Segment, SegmentSums, compare_segments

SEGMENTS = 20
CLICK_CONCENTRATION = 8.0  # of a Beta distribution: click rates are very different from user to user
QUERIES_PER_USER = 5.0
POSITIONS = 10


@dataclass(frozen=True)
class Shop:
    """The mean CTR, the challenger's share of the users, and whether a few users make most of the searches."""

    ctr: float = 0.1
    share: float = 0.5
    heavy: bool = False

    def paces(self, rng: np.random.Generator, users: int) -> np.ndarray:
        """Searches of each user over the whole test, if they were there from its start, (users,)."""
        if self.heavy:
            return np.minimum(rng.pareto(1.3, users) + 0.2, 500) * QUERIES_PER_USER / 2
        return rng.gamma(1.5, 1 / 1.5, users) * QUERIES_PER_USER * 2


def looks(
    rng: np.random.Generator, shop: Shop, users: int, count: int, lift: float = 0.0
) -> list[tuple[Segment, ...]]:
    """The segments of one test at each look; `lift` is the challenger's, in the first segment only."""
    sizes = 1 / np.arange(1, SEGMENTS + 1)
    segment_U = rng.choice(SEGMENTS, users, p=sizes / sizes.sum())
    challenged_U = (rng.random(users) < shop.share).astype(int)
    shape = CLICK_CONCENTRATION * shop.ctr, CLICK_CONCENTRATION * (1 - shop.ctr)
    rate_U = rng.beta(*shape, users) * np.where((challenged_U == 1) & (segment_U == 0), 1 + lift, 1.0)
    arrival_U = rng.integers(0, count, users)
    pace_U = shop.paces(rng, users) / count
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
        variants=["challenger"] * SEGMENTS,
        users=sums(np.ones(len(cell_U))),
        impressions=sums(impressions_U),
        clicks=sums(clicks_U),
        impressions_squares=sums(impressions_U**2),
        clicks_squares=sums(clicks_U**2),
        products=sums(impressions_U * clicks_U),
    )


def rates(
    rng: np.random.Generator,
    runs: int,
    users: int = 20_000,
    count: int = 20,
    lift: float = 0.3,
    shop: Shop = Shop(),
) -> dict[str, float]:
    """Shares of tests of equal versions with a false finding, and of tests with a lift in which it is found."""
    any_look = holm = uncorrected = found = 0
    for _ in range(runs):
        at_looks = looks(rng, shop, users, count)
        last = at_looks[-1]
        any_look += any(each.differs for at in at_looks for each in at)
        holm += any(each.adjusted_p_value is not None and each.adjusted_p_value < 0.05 for each in last)
        uncorrected += any(each.p_value is not None and each.p_value < 0.05 for each in last)
        found += bool(looks(rng, shop, users, count, lift)[-1][0].differs)
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
    ctr: Annotated[float, typer.Option(help="Mean CTR of the shop.")] = Shop.ctr,
    share: Annotated[float, typer.Option(help="The challenger's share of the users.")] = Shop.share,
    heavy: Annotated[bool, typer.Option("--heavy", help="A few users make most of the searches.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of all users.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Simulate, split by segment, and count the false findings."""
    shop = Shop(ctr, share, heavy)
    figures = rates(np.random.default_rng(seed), runs, users, count, lift, shop)
    table = Table(
        "figure", "value", title=f"{runs} tests of {users} users in {SEGMENTS} segments, {count} looks"
    )
    for name, value in figures.items():
        table.add_row(name, f"{value:.2%}")
    Console().print(table)
    write_figures(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
