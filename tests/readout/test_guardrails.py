"""Guardrails: a proven difference rolls the challenger back, with the reason; chance does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from immr.errors import ExperimentError
from immr.events.sqlite.log import SqliteEventLog
from immr.experiment.assignment import assign
from immr.readout.decision import Decision, DecisionPolicy, decide
from immr.readout.guardrails import GuardrailPolicy, breaches, excess_lower_bound, slow_limit
from immr.readout.readout import readout
from immr.readout.user_moments import RatioMoments
from immr.readout.variant_health import SLOW_MS, Health
from immr.types import Click, Impression, SearchRecord
from tests.readout.even_experiment import EXPERIMENT, NOON

PER_USER = 5  # searches


def health_of(
    variant: str, users: int = 100, fails: float = 0.0, empty: float = 0.0, ms: float = 80.0
) -> Health:
    """Users with five searches each. Shares of them are spread evenly over the users; all take `ms`."""

    def per_user(share: float) -> RatioMoments:
        counted = np.diff(np.floor(np.linspace(0, share * users * PER_USER, users + 1) + 1e-9))
        return RatioMoments.of_users(counted, np.full(users, PER_USER))

    slow = tuple(per_user(float(ms > limit)) for limit in SLOW_MS)
    return Health(variant, users, users * PER_USER, fails, empty, ms, per_user(fails), per_user(empty), slow)


CHAMPION = health_of("champion", fails=0.01, empty=0.02)


@pytest.mark.parametrize(
    ("challenger", "broken"),
    [
        ({}, []),
        ({"fails": 0.3}, ["error rate"]),
        ({"fails": 0.05}, []),  # may be chance
        ({"fails": 1.0, "users": 10}, ["error rate"]),
        ({"fails": 1.0, "users": 9}, []),
        ({"empty": 0.4}, ["zero results"]),
        ({"empty": 0.08}, []),  # may be chance
        ({"ms": 900.0}, ["p99 latency"]),
        ({"ms": 450.0}, []),  # slower than the champion, but fast enough
        ({"fails": 1.0, "ms": 5000.0}, ["error rate", "p99 latency"]),
    ],
)
def test_a_proven_difference_breaks_the_guardrail(challenger: dict[str, Any], broken: list[str]) -> None:
    found = breaches(CHAMPION, health_of("challenger", **challenger), GuardrailPolicy())
    assert [breach.guardrail for breach in found] == broken


def test_a_slow_champion_allows_a_slow_challenger() -> None:
    slow = health_of("challenger", ms=900)
    assert breaches(health_of("champion", ms=460), slow, GuardrailPolicy()) == ()
    assert breaches(health_of("champion", ms=300), slow, GuardrailPolicy()) != ()


def test_the_latency_limit_is_rounded_up_to_a_grid() -> None:
    limits = [slow_limit(p99_ms, GuardrailPolicy()) for p99_ms in (20, 250, 251, 3000, 5000)]
    assert [at and SLOW_MS[at] for at in limits] == [500, 500, 700, 8000, None]


def test_failures_of_few_users_are_not_a_difference() -> None:
    """One user in twenty fails at every search, in both variants: chance alone makes their shares differ."""
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(200):
        sides = []
        for users in (180, 20):
            searches_U = rng.geometric(0.2, users)
            fails_U = searches_U * (rng.random(users) < 0.05)
            sides.append(RatioMoments.of_users(fails_U, searches_U))
        broken += bool(excess_lower_bound(*sides) > GuardrailPolicy().extra_fallback)
    assert broken == 0


@pytest.mark.parametrize("wrong", [{"min_users": 0}, {"extra_fallback": -1}, {"p99_factor": 0.5}])
def test_an_invalid_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExperimentError, match="guardrail policy"):
        GuardrailPolicy(**wrong)


# through a real event log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    log = SqliteEventLog(tmp_path / "events.db", synchronous="NORMAL")
    yield log
    log.close()


def shop(
    log: SqliteEventLog,
    users: int = 120,
    fails: bool = False,
    finds: int = 5,
    took_ms: float = 20.0,
    clicks: bool = True,
) -> Decision:
    """Two searches per user; the arguments describe the challenger. Returns the decision."""
    with log.batch():  # one commit
        for number in range(2 * users):
            user = f"user-{number // 2}"
            variant = assign(EXPERIMENT, user)
            bad = variant.name == "challenger"
            version = "immr-1" if bad and fails else variant.model_version
            results = finds if bad else 5
            ts = NOON + timedelta(seconds=number / 2)
            query = f"q-{number}"
            search = SearchRecord(
                query,
                user,
                ts,
                variant.name,
                version,
                took_ms if bad else 20.0,
                results,
                False,
                bad and fails,
            )
            shown = [
                Impression(query, f"item-{place}", place, user, variant.name, version, ts)
                for place in range(1, results + 1)
            ]
            log.record_search(search, shown)
            if number % 3 and results and (clicks or not bad):
                log.record_clicks([Click(f"c-{number}", "click", query, f"item-{number % 3}", ts)])
    found = readout(log.joined(NOON), EXPERIMENT, log.searches(NOON))
    return decide(found, DecisionPolicy())


def test_an_equal_challenger_is_left_alone(log: SqliteEventLog) -> None:
    assert shop(log).action == "wait"


def test_a_failing_challenger_is_rolled_back(log: SqliteEventLog) -> None:
    decision = shop(log, users=30, fails=True, took_ms=5000)
    assert decision.action == "roll back"
    assert decision.reason.startswith("The challenger fails: another variant had to answer 100.0%")
    assert decision.numbers["fallback_rate_challenger"] == 1.0


def test_a_challenger_without_results_is_rolled_back(log: SqliteEventLog) -> None:
    decision = shop(log, users=30, finds=0)
    assert (decision.action, "finds nothing in 100.0%" in decision.reason) == ("roll back", True)


def test_a_slow_challenger_is_rolled_back(log: SqliteEventLog) -> None:
    decision = shop(log, users=30, took_ms=1200)
    assert (decision.action, "p99 1200 ms against 20 ms" in decision.reason) == ("roll back", True)


def test_a_challenger_that_nobody_clicks_is_rolled_back(log: SqliteEventLog) -> None:
    decision = shop(log, clicks=False)
    assert (decision.action, "its CTR per user is 0.00%" in decision.reason) == ("roll back", True)
