"""Tests while the shop changes: ramps during a trend, a lift that fades, and one that is there on workdays only.

    python -m benchmarks.experiment.changing_times --json out.json

A ramp gives the challenger more users while the CTR falls, so pooled over the whole ramp, its events are from worse
days than the champion's (Simpson's paradox). IMMR's readout starts over at each step. All steps together are one test
of equal versions: how often is it decided? For comparison, the same rules are applied to the pooled events.

A novelty lifts the challenger's CTR at first, and half of the lift is gone after two days. How often is it promoted,
by the test's minimum duration, and what is left of the lift then?

A challenger that wins on workdays and loses as much at weekends is equal over a week, but not over twelve days. How
often is it promoted within a week after the minimum duration, and how often at the ends of whole weeks? A test that
starts on a Saturday begins with the loss: how often is it rolled back?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.experiment.simulated_tests import EQUAL, Sessions, World, looks, sessions
from benchmarks.experiment.stopping_rules import POLICY, Verdicts, immr_rules
from benchmarks.figures import JsonFile, write_figures
from immr.experiment.changes import replan
from immr.readout.comparison import Look
from immr.readout.sequential import always_valid_half_width, tuned_rho
from immr.readout.user_moments import rate_difference

SHARES = (0.05, 0.1, 0.25, 0.5)
STEP_H = 42
PLANNED_USERS = 20_000  # at the first share
MIN_DAYS = (0, 7, 14, 21)
RAMPED = (
    World("even"),
    World("falling CTR", falling=0.7),
    World("few users search most (Pareto), falling CTR", tail=1.3, falling=0.7),
    World("clicks come in clumps, falling CTR", clumped=True, falling=0.7),
)
Floats = npt.NDArray[np.float64]


def steps(test: Sessions, place_U: Floats) -> list[Sessions]:
    """The events of each step of a ramp, in which users whose place in [0, 1) is below its share are challenged."""
    found = []
    for number, share in enumerate(SHARES):
        during_S = test.hour_S // STEP_H == number
        part = _some(test, during_S)
        found.append(
            replace(part, hours=STEP_H, hour_S=part.hour_S - number * STEP_H, challenged_U=place_U < share)
        )
    return found


def pooled(test: Sessions, place_U: Floats) -> Sessions:
    """All events of a ramp at once; users who were in both variants count in each."""
    challenged_S = place_U[test.user_S] < np.array(SHARES)[test.hour_S // STEP_H]
    count = len(place_U)
    user_S = test.user_S + count * challenged_S
    moved = replace(test, user_S=user_S, challenged_U=np.repeat([False, True], count))
    return _some(moved, np.argsort(user_S, kind="stable"))


def _some(test: Sessions, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Sessions:
    return replace(
        test,
        user_S=test.user_S[chosen],
        hour_S=test.hour_S[chosen],
        searches_S=test.searches_S[chosen],
        counted_4S=test.counted_4S[:, chosen],
    )


def ramps(
    rng: np.random.Generator, runs: int, worlds: Sequence[World] = RAMPED
) -> dict[str, dict[str, float]]:
    """By world: how often a ramp of equal versions gets a verdict in any step, and on its pooled events."""
    found: dict[str, dict[str, float]] = {}
    for world in worlds:
        world = replace(world, hours=STEP_H * len(SHARES))
        given = []
        for _ in range(runs):
            test, place_U = sessions(world, rng), rng.random(world.users)
            of_steps = [
                _verdicts(part, world, share)
                for part, share in zip(steps(test, place_U), SHARES, strict=True)
            ]
            low_H, high_H = _interval(pooled(test, place_U))
            given.append(
                {
                    "promote": any(each["promote"].any() for each in of_steps),
                    "roll back by CTR": any(each["CTR"].any() for each in of_steps),
                    "withheld": any(each["withheld"].any() for each in of_steps),
                    "pooled: any difference": bool((low_H > 0).any() or (high_H < 0).any()),
                }
            )
        found[world.name] = {name: float(np.mean([each[name] for each in given])) for name in given[0]}
    return found


def _verdicts(test: Sessions, world: World, share: float) -> Verdicts:
    planned = replan(PLANNED_USERS, SHARES[0], share)
    return immr_rules(looks(test), replace(world, share=share, users=planned))


def _interval(test: Sessions) -> tuple[Floats, Floats]:
    """The always-valid interval of the difference at each look with enough users, (H,) each."""
    champion, challenger = looks(test).clicks
    users, look = champion.users + challenger.users, Look(planned_users=PLANNED_USERS)
    difference, error = rate_difference(champion, challenger)
    half = always_valid_half_width(
        error, np.maximum(users, 1), tuned_rho(look.planned_users, look.alpha), look.alpha
    )
    enough = np.minimum(champion.users, challenger.users) >= POLICY.min_users
    return np.where(enough, difference - half, -1.0), np.where(enough, difference + half, 1.0)


def novelties(
    rng: np.random.Generator, runs: int, lift: float, users_a_week: int
) -> dict[str, dict[str, float]]:
    """By minimum duration: how often a novelty is promoted, and its mean lift in the hour of the promotion."""
    hours = 24 * (MIN_DAYS[-1] + 7)
    world = replace(EQUAL[0], hours=hours, users=users_a_week * hours // 168, lift=lift, lift_halves_h=48)
    at: dict[int, list[int]] = {days: [] for days in MIN_DAYS}
    for _ in range(runs):
        better_H = immr_rules(looks(sessions(world, rng)), world)["promote"]
        for days in MIN_DAYS:
            allowed = np.flatnonzero(better_H[24 * days : 24 * days + 168])
            if len(allowed):
                at[days].append(24 * days + int(allowed[0]))
    return {
        f"{days} days": {
            "promoted": len(found) / runs,
            "lift then": float(np.mean(lift * 0.5 ** (np.array(found) / 48))) if found else 0.0,
        }
        for days, found in at.items()
    }


def workdays(
    rng: np.random.Generator, runs: int, lift: float, users_a_week: int
) -> dict[str, dict[str, float]]:
    """By first day: verdicts about a challenger with this lift on workdays, and none over a week."""
    found: dict[str, dict[str, float]] = {}
    hours = 24 * (MIN_DAYS[-1] + 7)
    for first, day in {"Monday": 0, "Saturday": 5}.items():
        users = users_a_week * hours // 168
        world = World(first, hours=hours, users=users, lift=lift, weekend_lift=-2.5 * lift, first_day=day)
        promoted, rolled_back = np.zeros((2, runs, hours), dtype=np.bool_)
        for run in range(runs):
            verdicts = immr_rules(looks(sessions(world, rng)), world)
            promoted[run], rolled_back[run] = verdicts["promote"], verdicts["CTR"]
        found[first] = {
            f"promoted, {days} days": float(promoted[:, 24 * days : 24 * days + 168].any(axis=1).mean())
            for days in MIN_DAYS[1:]
        }
        found[first]["promoted at whole weeks"] = float(promoted[:, 167::168].any(axis=1).mean())
        found[first]["rolled back by CTR"] = float(rolled_back.any(axis=1).mean())
    return found


def main(
    runs: Annotated[int, typer.Option(help="Ramps in each world.")] = 1000,
    novelty_runs: Annotated[int, typer.Option(help="Tests of a novelty.")] = 300,
    lift: Annotated[float, typer.Option(help="The novelty's lift in the first hour.")] = 0.2,
    workday_runs: Annotated[int, typer.Option(help="Tests of a lift on workdays.")] = 300,
    workday_lift: Annotated[float, typer.Option(help="The lift on workdays.")] = 0.1,
    users: Annotated[int, typer.Option(help="Users a week, except in ramps.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of all users.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Simulate, read out, and count the verdicts."""
    rng = np.random.default_rng(seed)
    tables = {
        f"Ramps of equal versions, {runs} tests": ramps(rng, runs),
        f"A lift of {lift:.0%} that halves every two days, {novelty_runs} tests": novelties(
            rng, novelty_runs, lift, users
        ),
        f"A lift of {workday_lift:.0%} on workdays that weekends take back, {workday_runs} tests": workdays(
            rng, workday_runs, workday_lift, users
        ),
    }
    for title, rows in tables.items():
        table = Table("", *next(iter(rows.values())), title=title)
        for name, row in rows.items():
            table.add_row(name, *(f"{value:.2%}" for value in row.values()))
        Console().print(table)
    write_figures(json_file, tables)


if __name__ == "__main__":
    typer.run(main)
