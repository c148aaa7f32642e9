"""Can the A/B statistics be trusted? Simulated shops with known truth, read out by the product's functions.

    python -m benchmarks.experiment                      # everything: about 15 minutes on one core
    python -m benchmarks.experiment --runs 200           # a first impression
    python -m benchmarks.experiment --world "falling CTR"   # one world at both shares
    python -m benchmarks.experiment --json out.json

Three parts: equal versions in worlds that resemble real shops, looked at every hour (how often is something
decided?); bad challengers (how soon are they off?); and A/A runs beside a z-test that takes impressions for
independent trials, with plans, sample ratios and interleaving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from benchmarks.experiment import segments
from benchmarks.experiment.interleaving import sensitivity
from benchmarks.experiment.simulated_tests import BAD, EQUAL, World, at_share, looks, sessions
from benchmarks.experiment.stopping_rules import Rules, immr_rules, one_look_rules
from benchmarks.figures import JsonFile, write_figures
from immr.readout.comparison import CTR, Comparison, compare
from immr.readout.power import plan
from immr.readout.sample_ratio import ALPHA as SRM_ALPHA
from immr.readout.sample_ratio import mismatch_p_values
from immr.readout.user_moments import aggregates_of

POSITIONS = 10
QUERIES_PER_USER = 5.0
CLICK_SHAPE = (0.8, 7.2)  # Beta: a CTR of 10 %, very different from user to user
ALPHA = 0.05
Ints = npt.NDArray[np.int64]
T = TypeVar("T")
RULES: dict[str, Rules] = {"IMMR": immr_rules, "one look": one_look_rules}


@dataclass(frozen=True)
class Users:
    """Sums of users (U,) at each look (L,), and who is in the challenger."""

    challenged_U: npt.NDArray[np.bool_]
    impressions_LU: Ints
    clicks_LU: Ints

    def compared(self, look: int) -> Comparison | None:
        """The product's readout of the CTR at one look, over the users who were there by then."""
        seen_U = self.impressions_LU[look] > 0
        sides = [
            aggregates_of(
                {"impressions": self.impressions_LU[look][side], "clicks": self.clicks_LU[look][side]}
            )
            for side in (seen_U & ~self.challenged_U, seen_U & self.challenged_U)
        ]
        return compare(CTR, *sides)

    def naive_p_values(self) -> npt.NDArray[np.float64]:
        """Per look, what a test on impressions would say."""
        champion, challenger = (
            [sums[:, side].sum(axis=1) for sums in (self.clicks_LU, self.impressions_LU)]
            for side in (~self.challenged_U, self.challenged_U)
        )
        shown = champion[1] + challenger[1]
        pooled = (champion[0] + challenger[0]) / shown
        error = np.sqrt(pooled * (1 - pooled) * (1 / champion[1] + 1 / challenger[1]))
        difference = challenger[0] / challenger[1] - champion[0] / champion[1]
        return 2 * norm.sf(np.abs(difference) / error)


def users(rng: np.random.Generator, count: int, looks: int = 1, lift: float = 0.0) -> Users:
    """Users who arrive at any time, come back at a pace of their own, and click at a rate of their own."""
    challenged = rng.random(count) < 0.5
    pace = rng.gamma(1.5, 1 / 1.5, count) * QUERIES_PER_USER / looks
    arrival = rng.integers(0, looks, count) if looks > 1 else np.zeros(count, dtype=np.int64)
    there_LU = np.arange(looks)[:, None] >= arrival
    queries_LU = rng.poisson(pace * there_LU * (2 if looks > 1 else 1))
    rate = rng.beta(*CLICK_SHAPE, count) * np.where(challenged, 1 + lift, 1)
    clicks_LU = rng.binomial(queries_LU * POSITIONS, np.minimum(rate, 1))
    return Users(challenged, (queries_LU * POSITIONS).cumsum(axis=0), clicks_LU.cumsum(axis=0))


def same_versions(rng: np.random.Generator, runs: int, count: int, looks: int) -> dict[str, float]:
    """A/A: how often each way of reading says that there is a difference, at the end and at any look."""
    end = naive_end = peeked = fixed_peeked = naive_peeked = 0
    for _ in range(runs):
        shop = users(rng, count, looks)
        found = [each for each in map(shop.compared, range(looks)) if each is not None]
        naive = shop.naive_p_values() < ALPHA
        end += found[-1].p_value < ALPHA
        naive_end += naive[-1]
        peeked += any(not each.always_valid.low <= 0 <= each.always_valid.high for each in found)
        fixed_peeked += any(each.p_value < ALPHA for each in found)
        naive_peeked += naive.any()
    return {
        "aa_false_positive_rate": end / runs,
        "aa_false_positive_rate_naive": naive_end / runs,
        "peeking_false_positive_rate": peeked / runs,
        "peeking_false_positive_rate_one_look_interval": fixed_peeked / runs,
        "peeking_false_positive_rate_naive": naive_peeked / runs,
    }


def planned(rng: np.random.Generator, runs: int, lift: float) -> dict[str, float]:
    """Plan on a pilot of the champion's users, then run the planned number of users with the true lift."""
    pilot = users(rng, 20_000)
    seen = pilot.impressions_LU[0] > 0
    sums = aggregates_of({"impressions": pilot.impressions_LU[0][seen], "clicks": pilot.clicks_LU[0][seen]})
    wanted = plan(CTR, sums, lift, power=0.8)
    assert wanted is not None
    found = always = 0
    for _ in range(runs):
        one_look = users(rng, round(wanted.users_one_look / seen.mean()), lift=lift).compared(0)
        found += one_look is not None and one_look.p_value < ALPHA and one_look.difference > 0
        at_any = users(rng, round(wanted.users_always_valid / seen.mean()), lift=lift).compared(0)
        always += at_any is not None and at_any.always_valid.low > 0
    return {
        "planned_users": wanted.users_one_look,
        "power_at_plan": found / runs,
        "planned_users_always_valid": wanted.users_always_valid,
        "power_at_plan_always_valid": always / runs,
    }


def lost_events(rng: np.random.Generator, runs: int, count: int) -> dict[str, float]:
    """How often the sample-ratio test alarms with 2 % of the challenger's users lost, and with none lost."""

    def found(kept: float) -> float:
        challenger = rng.binomial(count, 0.5, runs)
        users_VR = np.stack([count - challenger, rng.binomial(challenger, kept)]).astype(np.float64)
        return float((mismatch_p_values(users_VR, np.array([0.5, 0.5])) < SRM_ALPHA).mean())

    return {"srm_users": count, "srm_found_rate": found(0.98), "srm_false_alarm_rate": found(1.0)}


def in_worlds(
    one: Callable[[World, int, int], T],
    worlds: Sequence[World],
    runs: int,
    seed: int,
    processes: int,
    only: Sequence[str] = (),
) -> dict[str, T]:
    """What `one` finds in each world, by its name. Each world has its own random numbers, whatever the others."""
    seeds = {world: seed + number for number, world in enumerate(worlds)}
    worlds = [world for world in worlds if not only or world.name.startswith(tuple(only))]
    with ProcessPoolExecutor(processes) as pool:
        found = pool.map(one, worlds, [runs] * len(worlds), [seeds[world] for world in worlds])
        return {world.name: each for world, each in zip(worlds, found, strict=True)}


def equal_world(world: World, runs: int, seed: int) -> dict[str, dict[str, float]]:
    """By rules: the share of tests of equal versions with each verdict at some look."""
    rng = np.random.default_rng(seed)
    given: dict[str, list[dict[str, bool]]] = {name: [] for name in RULES}
    for _ in range(runs):
        seen = looks(sessions(world, rng))
        for name, rules in RULES.items():
            given[name].append({verdict: bool(at.any()) for verdict, at in rules(seen, world).items()})
    return {name: _means(rows) for name, rows in given.items()}


def bad_challenger(world: World, runs: int, seed: int) -> dict[str, float]:
    """By rules: the median hours until a bad challenger is off."""
    rng = np.random.default_rng(seed)
    verdict = "CTR" if world.lift else "error rate"
    hours: dict[str, list[float]] = {name: [] for name in RULES}
    for _ in range(runs):
        seen = looks(sessions(world, rng))
        for name, rules in RULES.items():
            at = rules(seen, world)[verdict]
            hours[name].append(float(at.argmax() + 1) if at.any() else np.inf)
    return {name: float(np.median(each)) for name, each in hours.items()}


def _means(rows: list[dict[str, bool]]) -> dict[str, float]:
    return {verdict: float(np.mean([row[verdict] for row in rows])) for verdict in rows[0]}


def worst(worlds: dict[str, dict[str, dict[str, float]]], rules: str = "IMMR") -> dict[str, float]:
    """The largest share of wrong verdicts in any world."""

    def largest(*verdicts: str) -> float:
        return max(found[rules][verdict] for found in worlds.values() for verdict in verdicts)

    return {
        "false_promote_worst": largest("promote"),
        "false_rollback_ctr_worst": largest("CTR"),
        "false_rollback_guardrail_worst": largest("error rate", "zero results", "latency"),
        "withheld_worst": largest("withheld"),
    }


def main(
    runs: Annotated[int, typer.Option(help="Tests of equal versions, in each world and for the A/A.")] = 2000,
    bad_runs: Annotated[int, typer.Option(help="Tests with each bad challenger.")] = 400,
    count: Annotated[int, typer.Option("--users", help="Users of an A/A run.")] = 2000,
    aa_looks: Annotated[int, typer.Option("--looks", help="Looks of an A/A run.")] = 20,
    power_runs: Annotated[int, typer.Option(help="Runs with a true lift.")] = 1000,
    lift: Annotated[float, typer.Option(help="The true lift.")] = 0.05,
    srm_users: Annotated[
        int, typer.Option(help="Users of a test of which one variant loses some.")
    ] = 300_000,
    segment_runs: Annotated[int, typer.Option(help="Tests split into twenty segments.")] = 1000,
    worlds_only: Annotated[bool, typer.Option("--worlds-only", help="Only the first two parts.")] = False,
    world: Annotated[
        list[str] | None,
        typer.Option(help="Only worlds of equal versions whose name begins so, and nothing else."),
    ] = None,
    processes: Annotated[int, typer.Option(help="For the worlds.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of all users.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Simulate, read out, and count how often the readout is wrong."""
    rng = np.random.default_rng(seed)
    same = [at_share(world, share) for world in EQUAL for share in (0.5, 0.1)]
    worlds = in_worlds(equal_world, same, runs, seed, processes, world or ())
    _print_worlds(worlds, runs)
    if world:
        write_figures(json_file, {"worlds": worlds})
        return
    hours = in_worlds(bad_challenger, BAD, bad_runs, seed, processes)
    _print_hours(hours, bad_runs)
    figures = worst(worlds)
    if not worlds_only:
        figures |= {
            **same_versions(rng, runs, count, aa_looks),
            **planned(rng, power_runs, lift),
            **lost_events(rng, runs, srm_users),
            **sensitivity(np.random.default_rng(seed), power_runs),
            **segments.rates(np.random.default_rng(seed), segment_runs),
        }
    table = Table("figure", "value", title=f"{runs} A/A runs of {count} users, {aa_looks} looks each")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.1f}".removesuffix(".0") if value > 1 else f"{value:.2%}")
    Console().print(table)
    content = {**figures, "worlds": worlds, "hours_until_off": hours}
    write_figures(json_file, content)


def _print_worlds(worlds: dict[str, dict[str, dict[str, float]]], runs: int) -> None:
    verdicts = list(next(iter(worlds.values()))["IMMR"])
    table = Table(
        "world", "rules", *verdicts, title=f"Equal versions: verdicts in {runs} tests, 168 hourly looks"
    )
    for world, found in worlds.items():
        for name, shares in found.items():
            table.add_row(world, name, *(_percent(shares.get(verdict)) for verdict in verdicts))
    Console().print(table)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _print_hours(hours: dict[str, dict[str, float]], runs: int) -> None:
    table = Table("challenger", *RULES, "ratio", title=f"Median hours until it is off, {runs} tests")
    for world, found in hours.items():
        ratio = found["IMMR"] / found["one look"]
        table.add_row(world, *(f"{found[name]:.0f}" for name in RULES), f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
