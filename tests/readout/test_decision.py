"""The decision: every branch, and that its reason says what happened."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from immr.errors import ExperimentError
from immr.readout.decision import DecisionPolicy, decide
from immr.readout.readout import Comparison, Interval, Readout, SampleRatio, VariantReadout

POLICY = DecisionPolicy(min_users=100, min_users_to_brake=20, minimum_effect=0.05, brake_at_loss=0.5)


def side(name: str, users: int) -> VariantReadout:
    return VariantReadout(name, f"{name}-model", users, users, users, users, users, 0, None, None)


def read(low: float, high: float, users: int = 500, one_look: float | None = None) -> Readout:
    """A readout with this always-valid interval; the champion's CTR is 20 %."""
    middle = (low + high) / 2
    half = (high - low) / 3 if one_look is None else one_look
    ctr = Comparison(
        metric="CTR",
        champion=0.2,
        challenger=0.2 + middle,
        difference=middle,
        interval=Interval(middle - half, middle + half),
        always_valid=Interval(low, high),
        relative_lift=middle / 0.2,
        relative_interval=None,
        p_value=0.04,
    )
    sides = (side("champion", users + 10), side("challenger", users))
    ratio = SampleRatio({"champion": users + 10, "challenger": users}, {}, 0.8, True)
    return Readout("test", 0.95, sides, ratio, ctr, None, None, 0, 0, 0)


@pytest.mark.parametrize(
    ("readout", "action", "sentence"),
    [
        (read(0.001, 0.05), "promote", "+0.10 to +5.00 points, all above zero"),
        (read(-0.05, -0.001), "roll back", "all below zero"),
        (read(-0.004, 0.009), "keep", "a gain of +1.00 points (5% of its CTR)"),
        (read(-0.004, 0.011), "wait", "Too early to tell"),
        (read(-0.2, 0.2), "wait", "Too early to tell"),
        (read(0.001, 0.05, users=99), "wait", "99 users, 100 are needed"),
        (read(-0.05, -0.001, users=99), "wait", "99 users, 100 are needed"),
        (read(-0.24, 0.02, users=20, one_look=0.1), "roll back", "9.00% against 20.00%"),
        (read(-0.24, 0.02, users=19, one_look=0.1), "wait", "19 users"),
        (read(-0.24, 0.02, users=500, one_look=0.12), "wait", "Too early"),
        (read(-0.18, 0.02, users=500, one_look=0.05), "wait", "Too early"),
    ],
)
def test_each_branch(readout: Readout, action: str, sentence: str) -> None:
    decision = decide(readout, POLICY)
    assert decision.action == action
    assert sentence in decision.reason


def test_withheld_readout_means_wait_and_says_why() -> None:
    mismatch = SampleRatio({"champion": 600, "challenger": 400}, {}, 1e-9, False)
    withheld = replace(read(0.1, 0.2), ctr=None, sample_ratio=mismatch, withheld="the users do not fit")
    decision = decide(withheld, POLICY)
    assert decision.action == "wait"
    assert "the users do not fit" in decision.reason
    assert decision.numbers["sample_ratio_p_value"] == 1e-9


def test_readout_without_a_comparison_means_wait() -> None:
    decision = decide(replace(read(0.1, 0.2), ctr=None, sample_ratio=None), POLICY)
    assert (decision.action, "sample_ratio_p_value" in decision.numbers) == ("wait", False)


def test_numbers_are_those_of_the_readout() -> None:
    numbers = decide(read(0.01, 0.03), POLICY).numbers
    assert (numbers["users_champion"], numbers["users_challenger"]) == (510, 500)
    assert (numbers["always_valid_low"], numbers["always_valid_high"]) == (0.01, 0.03)
    assert numbers["difference"] == pytest.approx(0.02)
    assert numbers["ctr_champion"] == 0.2


def test_decision_is_plain_json() -> None:
    decision = decide(read(0.01, 0.03), POLICY)
    assert json.loads(json.dumps(decision.to_json()))["action"] == "promote"


@pytest.mark.parametrize(
    "wrong", [{"min_users": 1}, {"min_users_to_brake": 0}, {"minimum_effect": -0.1}, {"brake_at_loss": 0}]
)
def test_policy_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExperimentError):
        DecisionPolicy(**wrong)
