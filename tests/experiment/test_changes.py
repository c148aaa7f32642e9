"""Begin, ramp, stop, promote: weights, salts, times, and which variant a user sees."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from immr.errors import ExperimentError
from immr.experiment import changes
from immr.experiment.assignment import assign

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
SIDES = ("immr-1", "http://a:1"), {"challenger": ("immr-2", "http://b:1")}
RUNNING = changes.begin(*SIDES, 0.1, NOON)
USERS = [f"user-{number}" for number in range(2000)]


def challenged(experiment: changes.Experiment) -> set[str]:
    return {user for user in USERS if assign(experiment, user).name == "challenger"}


def test_begin_sets_weights_and_start() -> None:
    assert (RUNNING.name, RUNNING.started) == ("immr-2-against-immr-1-20240501T120000000", NOON)
    assert (RUNNING.champion.weight, RUNNING.state) == (0.9, "running")
    assert RUNNING.challenger is not None
    assert RUNNING.challenger.url == "http://b:1"


def test_each_experiment_assigns_users_independently() -> None:
    again = changes.begin(("immr-1", "http://a:1"), {"challenger": ("immr-2", "http://b:1")}, 0.1, LATER)
    assert again.salt != RUNNING.salt
    assert challenged(again) != challenged(RUNNING)


def test_without_a_challenger_the_champion_serves_all() -> None:
    alone = changes.begin(("immr-1", "http://a:1"), {}, 0.5, NOON)
    assert (alone.champion.weight, alone.challenger) == (1.0, None)


def test_a_ramp_keeps_the_challengers_users_and_restarts_the_readout() -> None:
    ramped = changes.ramp(RUNNING, 0.5, LATER)
    assert challenged(RUNNING) < challenged(ramped)
    assert (ramped.started, ramped.salt) == (LATER, RUNNING.salt)


@pytest.mark.parametrize("weight", [0.05, 0.1, 0.0, 1.0])
def test_ramp_down_or_to_all_is_refused(weight: float) -> None:
    with pytest.raises(ExperimentError):
        changes.ramp(RUNNING, weight, LATER)


def test_a_ramp_to_the_same_share_says_so() -> None:
    """It once said that this share would move users back."""
    assert RUNNING.challenger is not None
    with pytest.raises(ExperimentError, match="of the users already, so nothing was changed"):
        changes.ramp(RUNNING, RUNNING.challenger.weight, LATER)


def test_only_a_running_challenger_can_be_ramped() -> None:
    with pytest.raises(ExperimentError, match="no running challenger"):
        changes.ramp(changes.stop(RUNNING, LATER), 0.5, LATER)


def test_stop_sends_all_users_to_the_champion() -> None:
    stopped = changes.stop(RUNNING, LATER)
    assert challenged(stopped) == set()
    assert stopped.stopped_at == LATER


def test_a_clock_that_was_set_back_does_not_end_a_test_before_it_began() -> None:
    """Such a test would have no users in its report."""
    stopped = changes.stop(RUNNING, NOON - timedelta(hours=1))
    assert (stopped.state, stopped.stopped_at) == ("stopped", None)


def test_promote_makes_the_challenger_the_champion_where_it_serves() -> None:
    won = changes.promote(RUNNING, LATER)
    assert (won.champion.model_version, won.champion.url, won.started) == ("immr-2", "http://b:1", LATER)
    assert won.challenger is None
    with pytest.raises(ExperimentError, match="no challenger to promote"):
        changes.promote(won, LATER)


def test_a_rollback_restores_the_previous_champion_and_can_be_undone() -> None:
    begun = changes.begin(("immr-1", "http://a"), {"challenger": ("immr-2", "http://b")}, 0.5, NOON)
    promoted = changes.promote(begun, NOON)
    back = changes.roll_back(promoted, NOON)
    assert (back.champion.model_version, back.champion.url, back.challenger) == ("immr-1", "http://a", None)
    assert changes.roll_back(back, NOON).champion == promoted.champion


def test_without_a_promotion_there_is_no_rollback() -> None:
    with pytest.raises(ExperimentError, match="the champion before immr-1 is unknown"):
        changes.roll_back(changes.begin(("immr-1", "http://a"), {}, 0.0, NOON), NOON)
    running = changes.begin(("immr-1", "http://a"), {"challenger": ("immr-2", "http://b")}, 0.5, NOON)
    with pytest.raises(ExperimentError, match="to take users off a challenger, run `immr experiment stop`"):
        changes.roll_back(running, NOON)


def test_a_challenger_in_shadow_mode_gets_no_users() -> None:
    shadowed = changes.shadow(("immr-1", "http://a"), ("immr-2", "http://b"), NOON)
    assert shadowed.challenger is not None and shadowed.challenger.model_version == "immr-2"
    assert {assign(shadowed, f"user-{number}").name for number in range(200)} == {"champion"}


def test_a_ramp_adapts_the_plan_to_the_new_share() -> None:
    """The variance of the difference, and so the number of users, grows with 1 / (share × (1 − share))."""
    planned = changes.begin(
        ("immr-1", "http://a:1"), {"challenger": ("immr-2", "http://b:1")}, 0.1, NOON, planned_users=100_000
    )
    assert changes.ramp(planned, 0.5, LATER).planned_users == 36_000
    assert changes.ramp(RUNNING, 0.5, LATER).planned_users is None


def test_a_ramp_has_its_next_share_due_when_a_step_is_over() -> None:
    ramped = changes.begin(
        ("immr-1", "http://a:1"),
        {"challenger": ("immr-2", "http://b:1")},
        0.01,
        NOON,
        ramp=(0.05, 0.5),
        ramp_every_s=3600,
    )
    assert changes.due_share(ramped, NOON + timedelta(minutes=59)) is None
    assert changes.due_share(ramped, LATER) == 0.05
    second = changes.ramp(ramped, 0.05, LATER)
    assert (second.ramp, changes.due_share(second, LATER)) == ((0.5,), None)
    assert changes.ramp(ramped, 0.3, LATER).ramp == (0.5,)  # by hand, past a step
    last = changes.ramp(second, 0.5, LATER)
    assert changes.due_share(last, LATER + timedelta(days=9)) is None
    assert changes.due_share(changes.stop(ramped, LATER), LATER) is None
    assert changes.due_share(RUNNING, LATER) is None


@pytest.mark.parametrize(
    ("ramp", "every_s"), [((0.05,), 60), ((0.5, 0.2), 60), ((0.5, 1.0), 60), ((0.5,), None)]
)
def test_a_ramp_must_grow_and_have_an_interval(ramp: tuple[float, ...], every_s: int | None) -> None:
    with pytest.raises(ExperimentError, match="ramp"):
        changes.begin(
            ("immr-1", "http://a:1"),
            {"challenger": ("immr-2", "http://b:1")},
            0.1,
            NOON,
            "ab",
            None,
            ramp,
            every_s,
        )


@pytest.mark.parametrize("share", [0.00004, 0.99996])
def test_a_share_of_no_user_is_refused(share: float) -> None:
    """Such a test never ended, and said nothing."""
    with pytest.raises(
        ExperimentError, match=r"gives one side no users.* at least 0\.01% and at most 99\.99%"
    ):
        changes.check_share(share)
    with pytest.raises(ExperimentError, match="gives one side no users"):
        changes.hold_out(changes.stop(RUNNING, LATER), share, NOON)
    with pytest.raises(ExperimentError, match="gives one side no users"):
        changes.begin(*SIDES, 0.5, NOON, ramp=(0.99996,), ramp_every_s=60)
    changes.check_share(0.0001)


SEVERAL = changes.begin(
    ("immr-1", "http://a:1"),
    {"challenger": ("immr-2", "http://b:1"), "challenger-2": ("immr-3", "http://c:1")},
    0.2,
    NOON,
    planned_users=1000,
)


def test_a_test_of_several_challengers_names_and_weighs_all() -> None:
    assert SEVERAL.name.startswith("immr-2-and-immr-3-against-immr-1-")
    assert [side.weight for side in SEVERAL.variants] == [pytest.approx(0.6), 0.2, 0.2]
    ramped = changes.ramp(SEVERAL, 0.4, LATER)
    assert [side.weight for side in ramped.variants] == [pytest.approx(0.2), 0.4, 0.4]
    with pytest.raises(ExperimentError, match=r"2 challengers with 50% each leave the champion no users"):
        changes.ramp(SEVERAL, 0.5, LATER)


def test_challengers_leave_one_by_one_and_the_last_ends_the_test() -> None:
    one_left = changes.end(SEVERAL, ["challenger"], LATER)
    assert [side.name for side in one_left.remaining] == ["challenger-2"]
    assert (one_left.state, one_left.salt, one_left.started) == ("running", SEVERAL.salt, NOON)
    over = changes.end(one_left, ["challenger-2"], LATER)
    assert (over.state, over.stopped_at) == ("stopped", LATER)
    assert changes.stop(over, LATER + timedelta(days=1)) == over, (
        "a second stop would count the champion's later users"
    )
    assert changes.end(SEVERAL, ["challenger", "challenger-2"], LATER).state == "stopped"


def test_the_winner_of_several_is_promoted_and_can_be_rolled_back() -> None:
    promoted = changes.promote(SEVERAL, LATER, "challenger-2")
    assert (promoted.champion.model_version, promoted.challengers) == ("immr-3", ())
    assert changes.roll_back(promoted, LATER).champion.model_version == "immr-1"


def test_a_holdout_outlives_tests_and_changes_only_between_them() -> None:
    held = changes.hold_out(changes.stop(SEVERAL, LATER), 0.05, NOON).holdout
    assert held is not None and held.share == 0.05
    running = replace(SEVERAL, holdout=held)
    assert changes.promote(running, LATER).holdout == held
    assert changes.hold_out(running, 0.05, LATER) == running
    with pytest.raises(ExperimentError, match="stop the test first"):
        changes.hold_out(running, 0.1, LATER)
    larger = changes.hold_out(changes.stop(running, LATER), 0.1, LATER).holdout
    assert larger is not None and (larger.salt, larger.since) == (held.salt, LATER)
    assert changes.hold_out(changes.stop(running, LATER), 0.0, LATER).holdout is None
    with pytest.raises(ExperimentError, match=r"share is 5\.0"):
        changes.hold_out(changes.stop(running, LATER), 5.0, LATER)


@pytest.mark.parametrize(("share", "text"), [(0.5, "50%"), (1.0, "100%"), (0.005, "0.5%"), (1 / 3, "33.3%")])
def test_small_shares_are_not_rounded_away(share: float, text: str) -> None:
    assert changes.in_percent(share) == text
