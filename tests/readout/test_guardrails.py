"""Guardrails: what is proven rolls back and says why; what may be chance does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from immr.errors import ExperimentError
from immr.events.sqlite import SqliteEventLog
from immr.experiment.assignment import assign
from immr.experiment.definition import Experiment, Variant
from immr.readout.decision import Decision, DecisionPolicy, decide
from immr.readout.guardrails import GuardrailPolicy, breaches
from immr.readout.health import Health
from immr.readout.readout import readout
from immr.types import Click, Impression, SearchRecord

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CHAMPION = Health("champion", 100, 500, 0.01, 0.02, 80.0, 70.0)
CHALLENGER = replace(CHAMPION, variant="challenger")
EXPERIMENT = Experiment(
    "test",
    "salt",
    (Variant("champion", "http://a:1", "immr-1", 0.5), Variant("challenger", "http://b:1", "immr-2", 0.5)),
    started=NOON,
)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"fallback_rate": 0.3}, ["error rate"]),
        ({"fallback_rate": 0.06}, []),  # may be chance
        ({"fallback_rate": 1.0, "users": 10}, ["error rate"]),
        ({"fallback_rate": 1.0, "users": 9}, []),
        ({"zero_result_rate": 0.4}, ["zero results"]),
        ({"zero_result_rate": 0.1}, []),
        ({"p99_ms": 900.0, "p99_low_ms": 600.0}, ["p99 latency"]),
        ({"p99_ms": 900.0, "p99_low_ms": 400.0}, []),  # may be chance
        ({"fallback_rate": 1.0, "p99_low_ms": 5000.0}, ["error rate", "p99 latency"]),
    ],
)
def test_what_is_proven_is_a_breach(change: dict[str, float], broken: list[str]) -> None:
    found = breaches(CHAMPION, replace(CHALLENGER, **change), GuardrailPolicy())
    assert [breach.guardrail for breach in found] == broken


def test_a_slow_champion_allows_a_slow_challenger() -> None:
    slow = replace(CHALLENGER, p99_ms=900.0, p99_low_ms=800.0)
    assert breaches(replace(CHAMPION, p99_ms=450.0), slow, GuardrailPolicy()) == ()


@pytest.mark.parametrize("wrong", [{"min_users": 0}, {"extra_fallback": -1}, {"p99_factor": 0.5}])
def test_guardrails_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExperimentError, match="correct the policy"):
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
    """Two searches a user; the challenger is as the arguments say. Returns the decision."""
    for number in range(2 * users):
        user = f"user-{number // 2}"
        variant = assign(EXPERIMENT, user)
        bad = variant.name == "challenger"
        version = "immr-1" if bad and fails else variant.model_version
        results = finds if bad else 5
        ts = NOON + timedelta(seconds=number / 2)
        query = f"q-{number}"
        search = SearchRecord(
            query, user, ts, variant.name, version, took_ms if bad else 20.0, results, False, bad and fails
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


def test_one_that_fails_is_rolled_back_though_its_users_are_missing(log: SqliteEventLog) -> None:
    decision = shop(log, users=30, fails=True, took_ms=5000)
    assert decision.action == "roll back"
    assert decision.reason.startswith("The challenger fails: another variant had to answer 100.0%")
    assert decision.numbers["fallback_rate_challenger"] == 1.0


def test_one_that_finds_nothing_is_rolled_back(log: SqliteEventLog) -> None:
    decision = shop(log, users=30, finds=0)
    assert (decision.action, "finds nothing for 100.0%" in decision.reason) == ("roll back", True)


def test_one_that_is_slow_is_rolled_back(log: SqliteEventLog) -> None:
    decision = shop(log, users=30, took_ms=1200)
    assert (decision.action, "its p99 is 1200 ms" in decision.reason) == ("roll back", True)


def test_one_that_nobody_clicks_is_rolled_back(log: SqliteEventLog) -> None:
    decision = shop(log, clicks=False)
    assert (decision.action, "The challenger's CTR is 0.00%" in decision.reason) == ("roll back", True)
