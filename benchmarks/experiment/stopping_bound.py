"""How soon can any rule stop half the CTR where clicks are clumped? A lower bound, and what IMMR's brake needs.

    python -m benchmarks.experiment.stopping_bound

In the world "clumped clicks" a few sessions are for buying and have nearly all clicks. The challenger halves
the clicks of each. Two other challengers halve them too, but have the champion's CTR, so each may be stopped
with probability α at most:

more buying   so many more of its sessions are for buying, and so many fewer of the champion's. A rule has to
              count sessions for buying, whatever else it computes.
click all     so many of its users click everything that they see. A rule has to meet enough users to know
              that there are none.

The bound is Wald's (1945): a rule that surely stops the first challenger, and an equal one with probability α,
has seen log(1/α) nats of evidence on average. The evidence of a user is the Kullback-Leibler divergence of
what it does in the two shops, and their sum is the information by some hour. The larger bound counts.

Shapes: H hours, R rates of users, K numbers of sessions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import beta, binom, norm

from benchmarks.experiment.simulated_tests import (
    BROWSING_CTR,
    BUYING,
    BUYING_CTR,
    CLICK_SHAPE,
    EQUAL,
    Floats,
    Sessions,
    World,
    at_share,
    looks,
    sessions,
)
from benchmarks.experiment.stopping_rules import POLICY, immr_rules
from benchmarks.figures import JsonFile, write_figures

LOSS = 0.5
_MOST_SESSIONS = 40
_RATES_R: Floats = beta.ppf((np.arange(500) + 0.5) / 500, *CLICK_SHAPE)
_FEWER = np.linspace(0.4, 1.0, 21)  # how many times as often the champion's sessions are for buying


@dataclass(frozen=True)
class Bound:
    """Hours by when enough information has come."""

    shop: str  # the equal versions that are the hardest to tell apart
    information_H: Floats
    on_average_h: int  # for a rule that looks every hour
    half_at_one_look_h: int  # for half of the tests, if a rule looks at no other hour


def ctr(often: float) -> float:
    """A user's mean CTR if sessions are for buying `often` times as often as usual."""
    buys = float(np.minimum(often * BUYING * _RATES_R, 1).mean())
    return BROWSING_CTR + (BUYING_CTR - BROWSING_CTR) * buys


def more_often(fewer: float) -> float:
    """How much more often the challenger's sessions are for buying, so that its CTR is the champion's."""
    low, high = 1.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if ctr(middle) * (1 - LOSS) < ctr(fewer) else (low, middle)
    return high


def divergences(often: float) -> Floats:
    """(K + 1,) Kullback-Leibler divergence of the usual number of sessions for buying from that `often` as often."""
    found = [0.0]
    for count in range(1, _MOST_SESSIONS + 1):
        usual, other = (
            binom.pmf(np.arange(count + 1)[:, None], count, np.minimum(times * BUYING * _RATES_R, 1)).mean(1)
            for times in (1.0, often)
        )
        found.append(float(usual @ np.log(usual / other)))
    return np.array(found)


def users_by_sessions(test: Sessions) -> Floats:
    """(H, K + 1) users of both variants by hour and by their number of sessions so far."""
    first_S = np.searchsorted(test.user_S, test.user_S)
    count_S = np.minimum(np.arange(len(test.user_S)) - first_S + 1, _MOST_SESSIONS)
    changes_HK = np.zeros((test.hours, _MOST_SESSIONS + 1))
    np.add.at(changes_HK, (test.hour_S, count_S), 1)
    np.add.at(changes_HK, (test.hour_S, count_S - 1), -1)
    return changes_HK.cumsum(axis=0)


def bound(world: World, tests: list[Sessions], alpha: float) -> Bound:
    """The least information that distinguishes equal versions from a challenger with half the CTR."""
    users_HK = np.mean([users_by_sessions(test) for test in tests], axis=0)
    clicking = ctr(1.0) * LOSS / (1 - ctr(1.0) * (1 - LOSS))  # share of the challenger's users
    shops = {"click all": -world.share * np.log1p(-clicking) * users_HK[:, 1:].sum(axis=1)}
    for fewer in _FEWER:
        champion_K, challenger_K = divergences(fewer), divergences(more_often(fewer))
        shops[f"more buying, {fewer:.2f}"] = users_HK @ (
            (1 - world.share) * champion_K + world.share * challenger_K
        )
    needed = np.log(1 / alpha), norm.ppf(1 - alpha) ** 2 / 2
    bounds = [
        Bound(name, information_H, *(int((information_H < nats).sum()) + 1 for nats in needed))
        for name, information_H in shops.items()
    ]
    return max(bounds, key=lambda each: each.on_average_h)


def main(
    runs: Annotated[int, typer.Option(help="Simulated tests.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of all users.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Print the bound beside the brake."""
    clumped = next(world for world in EQUAL if world.clumped)
    table = Table(
        "challenger's share",
        "equal versions",
        "no rule: hours on average",
        "no rule with a single look: median",
        "IMMR: mean",
        "median",
        "information used / least",
        title=f"half the CTR, clumped clicks, {runs} tests",
    )
    figures = {}
    for share in (0.5, 0.1):
        world = replace(at_share(clumped, share), lift=-LOSS, hours=400, users=8000)
        rng = np.random.default_rng(seed)
        tests = [sessions(world, rng) for _ in range(runs)]
        least = bound(world, tests, POLICY.brake_alpha)
        stopped = [immr_rules(looks(test), world)["CTR"] for test in tests]
        hours = np.array([at.argmax() + 1 if at.any() else world.hours for at in stopped])
        used = least.information_H[hours - 1].mean() / np.log(1 / POLICY.brake_alpha)
        figures[f"{share:g}"] = {
            "bound_mean_h": least.on_average_h,
            "bound_median_one_look_h": least.half_at_one_look_h,
            "immr_mean_h": float(hours.mean()),
            "immr_median_h": float(np.median(hours)),
            "information_used": float(used),
        }
        table.add_row(
            f"{share:.0%}",
            least.shop,
            str(least.on_average_h),
            str(least.half_at_one_look_h),
            f"{hours.mean():.1f}",
            f"{np.median(hours):.1f}",
            f"{used:.2f}",
        )
    Console(width=150).print(table)
    write_figures(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
