"""Each branch of the decision, and the sentence that explains it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from immr.errors import ExperimentError
from immr.readout.comparison import Arm, Comparison, Interval
from immr.readout.decision import DecisionPolicy, decide, must_brake
from immr.readout.readout import Readout, VariantReadout
from immr.readout.sample_ratio import SampleRatio

POLICY = DecisionPolicy(min_users=100, min_users_to_brake=20, minimum_effect=0.05, brake_at_loss=0.5)


def side(name: str, users: int) -> VariantReadout:
    return VariantReadout(name, f"{name}-model", users, users, users, users, users, 0, 0.0, None, None)


def read(
    low: float, high: float, users: int = 500, lost: float | None = None, error: float = 0.03
) -> Readout:
    """A readout with this always-valid interval. The champion's CTR is 20 %, of all users and per user.

    `lost` is what the challenger lacks of it per user, and `error` its standard error.
    """
    middle = (low + high) / 2
    half = (high - low) / 2
    ctr = Comparison(
        metric="CTR",
        champion=0.2,
        challenger=0.2 + middle,
        difference=middle,
        interval=Interval(middle - 0.6 * half, middle + 0.6 * half),
        always_valid=Interval(low, high),
        standard_error=half / 3,
        relative_lift=middle / 0.2,
        relative_interval=None,
        p_value=0.04,
    )
    sides = (side("champion", users + 10), side("challenger", users))
    ratio = SampleRatio({"champion": users + 10, "challenger": users}, {}, 0.8, True)
    per_user = None
    if lost is not None:
        per_user = replace(ctr, challenger=0.2 - lost, difference=-lost, standard_error=error)
    arm = Arm("challenger", "challenger-model", ctr, None, per_user, None, {})
    return Readout("test", 0.95, sides, ratio, None, 0, 0, 0, (arm,))


@pytest.mark.parametrize(
    ("readout", "action", "sentence"),
    [
        (
            read(0.001, 0.05),
            "promote",
            "22.55% against the champion's 20.00%, a difference of +0.10 to +5.00",
        ),
        (read(-0.05, -0.001), "roll back", "The challenger is worse"),
        (read(-0.004, 0.009), "keep", "rules out a gain of 5% (+1.00 points)"),
        (read(-0.004, 0.011), "wait", "Too early to tell"),
        (read(-0.2, 0.2), "wait", "Too early to tell"),
        (read(0.001, 0.05, users=99), "wait", "99 of the 100"),
        (read(-0.05, -0.001, users=99), "wait", "99 of the 100"),
        (read(-0.24, 0.02, users=20, lost=0.11), "roll back", "9.00% against the champion's 20.00%"),
        (read(-0.24, 0.02, users=20, lost=0.11), "roll back", "more than 100 times better than none"),
        (read(-0.24, 0.02, users=19, lost=0.11), "wait", "Too few users"),
        (read(-0.24, 0.02, lost=0.11, error=0.04), "wait", "Too early"),
        (read(-0.24, 0.02, lost=0.05, error=0.001), "wait", "Too early"),
    ],
)
def test_each_branch(readout: Readout, action: str, sentence: str) -> None:
    decision = decide(readout, POLICY)
    assert decision.action == action
    assert sentence in decision.reason


@pytest.mark.parametrize(
    ("found", "action", "after_a_week"),
    [
        (read(0.001, 0.05), "wait", "promote"),
        (read(-0.004, 0.009), "wait", "keep"),
        (read(-0.05, -0.001), "roll back", "roll back"),
        (read(-0.24, 0.02, users=20, lost=0.11), "roll back", "roll back"),
        (read(-0.2, 0.2), "wait", "wait"),
    ],
)
def test_a_test_lasts_its_least_time_unless_it_does_harm(
    found: Readout, action: str, after_a_week: str
) -> None:
    early = decide(replace(found, min_days=7, days=6.9), POLICY)
    assert early.action == action
    assert ("needs events of 7 days, and has 6.9." in early.reason) == (action != after_a_week)
    assert not early.losers or action == "roll back"
    assert decide(replace(found, min_days=7, days=7.0), POLICY).action == after_a_week


def test_a_withheld_readout_waits_and_gives_its_reason() -> None:
    mismatch = SampleRatio({"champion": 600, "challenger": 400}, {}, 1e-9, False)
    withheld = replace(read(0.1, 0.2), arms=(), sample_ratio=mismatch, withheld="the users do not fit")
    decision = decide(withheld, POLICY)
    assert decision.action == "wait"
    assert "the users do not fit" in decision.reason
    assert decision.numbers["sample_ratio_p_value"] == 1e-9


def test_a_readout_without_a_comparison_waits() -> None:
    decision = decide(replace(read(0.1, 0.2), arms=(), sample_ratio=None), POLICY)
    assert (decision.action, "sample_ratio_p_value" in decision.numbers) == ("wait", False)


def test_numbers_come_from_the_readout() -> None:
    numbers = decide(read(0.01, 0.03), POLICY).numbers
    assert (numbers["users_champion"], numbers["users_challenger"]) == (510, 500)
    assert (numbers["always_valid_low"], numbers["always_valid_high"]) == (0.01, 0.03)
    assert numbers["difference"] == pytest.approx(0.02)
    assert numbers["ctr_champion"] == 0.2


def test_decision_is_plain_json() -> None:
    decision = decide(read(0.01, 0.03), POLICY)
    assert json.loads(json.dumps(decision.to_json()))["action"] == "promote"


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_users": 1},
        {"min_users_to_brake": 0},
        {"minimum_effect": -0.1},
        {"brake_at_loss": 0},
        {"brake_alpha": 0},
    ],
)
def test_an_invalid_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExperimentError):
        DecisionPolicy(**wrong)


def among(*intervals: tuple[float, float], ended: tuple[str, ...] = ()) -> Readout:
    """A test of several challengers with these always-valid intervals."""
    sides, arms = [side("champion", 500)], []
    for number, (low, high) in enumerate(intervals, start=1):
        name = "challenger" if number == 1 else f"challenger-{number}"
        one = read(low, high).ctr
        assert one is not None
        sides.append(replace(side(name, 500), ended=name in ended))
        arms.append(Arm(name, f"{name}-model", replace(one, variant=name), None, None, None, {}))
    return Readout("test", 0.95, tuple(sides), None, None, 0, 0, 0, tuple(arms))


def test_the_best_of_several_winners_is_promoted_and_no_other() -> None:
    decision = decide(among((0.001, 0.05), (0.02, 0.09), (-0.2, -0.01)), POLICY)
    assert decision.action == "promote" and decision.winner is not None
    assert (decision.winner.challenger, decision.losers) == ("challenger-2", ())
    assert [each.action for each in decision.verdicts].count("promote") == 1
    assert "Challenger-2 is better" in decision.reason
    assert "95% interval for all 3 challengers, valid at every look" in decision.reason
    assert decision.numbers["always_valid_low_challenger-2"] == pytest.approx(0.02)


def test_the_brake_of_several_challengers_needs_more_evidence() -> None:
    per_user = read(0, 0.1, lost=0.1, error=0.032).arms[0].ctr_per_user
    assert per_user is not None
    assert must_brake(per_user, POLICY)
    assert not must_brake(per_user, POLICY, challengers=3)


def test_losers_leave_while_the_others_go_on() -> None:
    decision = decide(among((-0.05, -0.001), (-0.2, 0.2), (-0.004, 0.009)), POLICY)
    assert (decision.action, decision.winner) == ("wait", None)
    assert [(each.challenger, each.action) for each in decision.losers] == [
        ("challenger", "roll back"),
        ("challenger-3", "keep"),
    ]


def test_a_test_ends_when_all_have_lost_and_who_left_has_no_verdict() -> None:
    decision = decide(among((-0.05, -0.001), (-0.004, 0.009)), POLICY)
    assert decision.action == "keep" and len(decision.losers) == 2
    left = decide(among((-0.05, -0.001), (-0.2, 0.2), ended=("challenger",)), POLICY)
    assert [each.challenger for each in left.verdicts] == ["challenger-2"]
