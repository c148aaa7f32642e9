"""Three challengers against one champion: how often is any of them judged wrongly, and is the better one found?

    python -m benchmarks.experiment.several_challengers --runs 500 --json out.json

All variants are equal, and the product's rules read out each challenger at every hourly look. For comparison, the
rules for a single challenger are applied to each of the three. Shares are equal, or 5, 15 and 30 %.

Two scenarios could break the rules. In the first, one challenger is bad and loses its users mid-test, and they
keep clicking less: counting them for the champion would make the other challengers look better. In the second, very
few users make most of the searches, and asymptotic bounds may not hold yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.experiment.simulated_tests import EQUAL, Sessions, World, looks, sessions
from benchmarks.experiment.stopping_rules import Verdicts, immr_rules
from benchmarks.figures import JsonFile, write_figures

SHARES = ((0.25, 0.25, 0.25), (0.05, 0.15, 0.30))
WORLDS = (EQUAL[0], EQUAL[1], EQUAL[6])
HEAVY = World("Pareto users with exponent 1.01", tail=1.01)
Arms = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Test:
    """Sessions of all users, and the variant of each: 0 is the champion, (U,)."""

    sessions: Sessions
    arm_U: Arms

    def against_champion(self, arm: int) -> Sessions:
        """The sessions of one challenger's users and the champion's."""
        test = self.sessions
        ours_S = np.isin(self.arm_U[test.user_S], (0, arm))
        return replace(
            test,
            challenged_U=self.arm_U == arm,
            user_S=test.user_S[ours_S],
            hour_S=test.hour_S[ours_S],
            searches_S=test.searches_S[ours_S],
            counted_4S=test.counted_4S[:, ours_S],
        )


def draw(
    world: World, shares: Sequence[float], rng: np.random.Generator, lifts: Sequence[float] = (0, 0, 0)
) -> Test:
    """One test with these shares of the challengers, and their lifts in CTR."""
    test = sessions(replace(world, share=0.0), rng)
    of_arms = [1 - sum(shares), *shares]
    arm_U = rng.choice(len(of_arms), world.users, p=of_arms)
    lift_S = np.array([0.0, *lifts])[arm_U[test.user_S]]
    counted_4S = test.counted_4S.copy()
    counted_4S[0] = changed(rng, counted_4S[0], lift_S)
    return Test(replace(test, counted_4S=counted_4S), arm_U)


def changed(rng: np.random.Generator, clicks_S: Arms, lift_S: npt.NDArray[np.float64]) -> Arms:
    """Clicks of each session after a relative change: thinned at random, or with as many extra ones."""
    less_S = rng.binomial(clicks_S, np.clip(1 + lift_S, 0, 1))
    return np.asarray(less_S + rng.poisson(clicks_S * np.maximum(lift_S, 0)), dtype=np.int64)


def verdicts(test: Test, world: World, shares: Sequence[float], challengers: int) -> list[Verdicts]:
    """The verdicts on each challenger, by rules for that many challengers."""
    champion = 1 - sum(shares)
    found = []
    for arm, share in enumerate(shares, start=1):
        pair = replace(world, users=round(world.users * (share + champion)), share=share / (share + champion))
        found.append(immr_rules(looks(test.against_champion(arm)), pair, challengers))
    return found


def judged(found: Sequence[Verdicts], *names: str) -> bool:
    """Whether any challenger ever gets one of these verdicts."""
    return any(bool(each[name].any()) for each in found for name in names)


def equal_versions(
    rng: np.random.Generator, runs: int, worlds: Sequence[World]
) -> dict[str, dict[str, float]]:
    """By world and shares: how often any of three equal challengers is promoted, or rolled back."""
    found = {}
    for world in worlds:
        for shares in SHARES:
            counts = dict.fromkeys(("promote", "CTR", "either", "guardrail", "either, rules for one"), 0)
            for _ in range(runs):
                test = draw(world, shares, rng)
                three, one = (verdicts(test, world, shares, challengers) for challengers in (3, 1))
                counts["promote"] += judged(three, "promote")
                counts["CTR"] += judged(three, "CTR")
                counts["either"] += judged(three, "promote", "CTR")
                counts["guardrail"] += judged(three, "error rate", "zero results", "latency")
                counts["either, rules for one"] += judged(one, "promote", "CTR")
            name = f"{world.name}, {' / '.join(f'{share:.0%}' for share in shares)}"
            found[name] = {verdict: count / runs for verdict, count in counts.items()}
    return found


def one_better(rng: np.random.Generator, runs: int, lift: float, users: int) -> dict[str, float]:
    """How often the one better challenger of three is promoted first, and how often another one."""
    world = replace(EQUAL[0], users=users)
    right = wrong = 0
    for _ in range(runs):
        test = draw(world, SHARES[0], rng, (0, lift, 0))
        first = [
            float(each["promote"].argmax()) if each["promote"].any() else np.inf
            for each in verdicts(test, world, SHARES[0], 3)
        ]
        winner = int(np.argmin(first))
        right += first[winner] < np.inf and winner == 1
        wrong += first[winner] < np.inf and winner != 1
    return {"abn_power": right / runs, "abn_wrong_winner": wrong / runs}


def bad_one_leaves(rng: np.random.Generator, runs: int, fewer: float = 0.3) -> dict[str, float]:
    """One challenger has half the CTR and leaves; its users then click less. How often is an equal one promoted?"""
    world, shares = EQUAL[0], SHARES[0]
    apart = together = 0
    for _ in range(runs):
        test = draw(world, shares, rng, (-0.5, 0, 0))
        gone = verdicts(test, world, shares, 3)[0]["CTR"]
        hour = int(gone.argmax()) if gone.any() else world.hours
        here = test.sessions
        moved_S = (test.arm_U[here.user_S] == 1) & (here.hour_S > hour)
        counted_4S = here.counted_4S.copy()
        # twice, as they get the champion again, of which they click less
        counted_4S[0] = changed(rng, here.counted_4S[0], np.where(moved_S, 2 * (1 - fewer) - 1, 0.0))
        after = Test(replace(here, counted_4S=counted_4S), test.arm_U)
        apart += judged(verdicts(after, world, shares, 3)[1:], "promote")
        together += judged(verdicts(_merged(after, moved_S), world, shares, 3)[1:], "promote")
    return {"abn_after_a_bad_one": apart / runs, "abn_after_a_bad_one_counted_as_champion": together / runs}


def _merged(test: Test, moved_S: npt.NDArray[np.bool_]) -> Test:
    """The same test if users of the first challenger counted as new users of the champion once it has left."""
    here = test.sessions
    user_S = np.where(moved_S, here.user_S + len(test.arm_U), here.user_S)
    order = np.argsort(user_S, kind="stable")
    moved = replace(
        here,
        user_S=user_S[order],
        hour_S=here.hour_S[order],
        searches_S=here.searches_S[order],
        counted_4S=here.counted_4S[:, order],
    )
    return Test(moved, np.concatenate([test.arm_U, np.zeros_like(test.arm_U)]))


def main(
    runs: Annotated[int, typer.Option(help="Tests of equal versions, by world and shares.")] = 500,
    power_runs: Annotated[
        int, typer.Option(help="Tests with one better challenger, and of the other scenarios.")
    ] = 300,
    lift: Annotated[float, typer.Option(help="The better challenger's lift in CTR.")] = 0.15,
    users: Annotated[int, typer.Option(help="Users of the tests with a better challenger.")] = 13_000,
    seed: Annotated[int, typer.Option(help="Seed of all users.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Simulate tests of three challengers, read them out, and count the wrong verdicts."""
    rng = np.random.default_rng(seed)
    equal = equal_versions(rng, runs, WORLDS)
    heavy = equal_versions(rng, runs, (HEAVY,))
    table = Table(
        "world, shares", *next(iter(equal.values())), title=f"Any of three equal challengers, {runs} tests"
    )
    for name, counts in (equal | heavy).items():
        table.add_row(name, *(f"{count:.2%}" for count in counts.values()))
    Console().print(table)
    figures = {
        "abn_family_wise": max(counts["either"] for counts in equal.values()),
        "abn_family_wise_rules_for_one": max(counts["either, rules for one"] for counts in equal.values()),
        "abn_family_wise_heaviest_users": max(counts["either"] for counts in heavy.values()),
        **one_better(rng, power_runs, lift, users),
        **bad_one_leaves(rng, power_runs),
    }
    summary = Table("figure", "value")
    for name, value in figures.items():
        summary.add_row(name, f"{value:.2%}")
    Console().print(summary)
    content = {**figures, "worlds": equal | heavy}
    write_figures(json_file, content)


if __name__ == "__main__":
    typer.run(main)
