"""Order rate and revenue per user: how often do equal versions differ, and how often is a lift found?

    python -m benchmarks.experiment.revenue --runs 300 --json out.json

Simulated shoppers: about a quarter of them order, and what an order is worth differs from customer to customer, and
from order to order (log-normal, with a heavy tail). The same customers ordered before the test, for CUPED. The
product's functions read out each test at every look. "As it is" is the mean without the cap on each user's revenue.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.readout.comparison import Comparison, Look, Ratio, compare
from immr.readout.revenue import ORDER_RATE, REVENUE_CUPED, REVENUE_PER_USER, cap_revenue
from immr.readout.user_moments import aggregate

AS_IT_IS = "revenue per user, as it is"
METRICS = (ORDER_RATE.name, AS_IT_IS, REVENUE_PER_USER.name, REVENUE_CUPED.name)
Found = list[dict[str, Comparison | None]]


def bought(
    rng: np.random.Generator, orders_U: np.ndarray, wealth_U: np.ndarray, spread: float = 1.0
) -> np.ndarray:
    """Revenue of each user, (U,), from so many orders each."""
    user_O = np.repeat(np.arange(len(orders_U)), orders_U)
    amount_O = wealth_U[user_O] * rng.lognormal(0, spread, len(user_O))
    return np.bincount(user_O, amount_O, len(orders_U))


def tested(rng: np.random.Generator, users: int, looks: int, lift: float) -> Found:
    """One test: the comparisons at each look. The challenger's users order more often by `lift`."""
    wealth_U = rng.lognormal(3, 1.2, users)
    pace_U = rng.gamma(0.3, 2.0, users)
    challenged_U = rng.random(users) < 0.5
    arrival_U = rng.integers(0, looks, users)
    before_U = bought(rng, rng.poisson(pace_U), wealth_U)
    orders_U, revenue_U = np.zeros(users, dtype=np.int64), np.zeros(users)
    found: Found = []
    for look in range(looks):
        there_U = arrival_U <= look
        new_U = rng.poisson(pace_U * there_U * (1 + lift * challenged_U) * 2 / looks)
        orders_U = orders_U + new_U
        revenue_U = revenue_U + bought(rng, new_U, wealth_U)
        columns = {
            "variant": np.where(challenged_U, "challenger", "champion"),
            "impressions": np.ones(users),
            "clicks": orders_U > 0,
            "orders": orders_U,
            "priced_orders": orders_U,
            "has_ordered": (orders_U > 0).astype(np.int64),
            "revenue": revenue_U,
            "revenue_before": before_U,
        }
        table = pa.table({name: values[there_U] for name, values in columns.items()})
        found.append(read(table, Look(planned_users=users)))
    return found


def read(users: pa.Table, look: Look) -> dict[str, Comparison | None]:
    """The product's comparisons, and that of the revenue as it is."""
    capped, _ = cap_revenue(users)
    raw_sides, sides = (
        [aggregate(table, name) for name in ("champion", "challenger")] for table in (users, capped)
    )

    def compared(ratio: Ratio, of: list) -> Comparison | None:  # type: ignore[type-arg]
        return compare(ratio, of[0], of[1], look)

    return {
        AS_IT_IS: compared(REVENUE_PER_USER, raw_sides),
        **{ratio.name: compared(ratio, sides) for ratio in (ORDER_RATE, REVENUE_PER_USER, REVENUE_CUPED)},
    }


def shares(rng: np.random.Generator, runs: int, users: int, looks: int, lift: float) -> dict[str, float]:
    """By metric: the share of tests that differ at the last look, for one look, and at any look."""
    last, ever = dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0)
    for _ in range(runs):
        found = tested(rng, users, looks, lift)
        for name in METRICS:
            seen = [each for at in found if (each := at[name]) is not None]
            last[name] += seen[-1].p_value < 0.05
            ever[name] += any(not each.always_valid.low <= 0 <= each.always_valid.high for each in seen)
    return {f"{name}, one look": count / runs for name, count in last.items()} | {
        f"{name}, any look": count / runs for name, count in ever.items()
    }


def main(
    runs: Annotated[int, typer.Option(help="Tests of equal versions, and as many with a lift.")] = 300,
    users: Annotated[int, typer.Option(help="Users of a test.")] = 4000,
    looks: Annotated[int, typer.Option(help="Looks at each test.")] = 10,
    lift: Annotated[float, typer.Option(help="How much more often the challenger's users order.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of all users.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Simulate, read out, and count the tests that differ."""
    rng = np.random.default_rng(seed)
    equal, better = (shares(rng, runs, users, looks, each) for each in (0.0, lift))
    title = f"{runs} tests of {users:,} users, {looks} looks"
    table = Table("metric", "equal: differs", f"{lift:.0%} more orders: differs", title=title)
    for name in equal:
        table.add_row(name, f"{equal[name]:.1%}", f"{better[name]:.1%}")
    Console().print(table)
    figures = {
        "revenue_false_positive_worst": max(
            equal[f"{name}, one look"] for name in METRICS if name != AS_IT_IS
        ),
        "revenue_false_positive_any_look_worst": max(
            equal[f"{name}, any look"] for name in METRICS if name != AS_IT_IS
        ),
    }
    content = {**figures, "equal": equal, "better": better}
    write_figures(json_file, content)


if __name__ == "__main__":
    typer.run(main)
