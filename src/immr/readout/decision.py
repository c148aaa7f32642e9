"""What to do about the challenger. Pure: a readout and a policy in, an action with its reason out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION
from immr.readout.comparison import Comparison, Interval
from immr.readout.guardrails import GuardrailPolicy, breaches
from immr.readout.preference import Preference
from immr.readout.readout import Readout

Action = Literal["promote", "keep", "wait", "roll back"]


@dataclass(frozen=True)
class DecisionPolicy:
    """Thresholds of the decision. Shares are relative to the champion's CTR.

    Always-valid intervals are asymptotic, so each verdict needs a minimum of users in each variant.
    """

    min_users: int = 200  # per variant, for every verdict except the brake
    min_users_to_brake: int = 50  # per variant
    minimum_effect: float = 0.02  # a smaller gain is not worth a new version
    brake_at_loss: float = 0.5  # roll back early at a loss this large
    guardrails: GuardrailPolicy = field(default_factory=GuardrailPolicy)

    def __post_init__(self) -> None:
        if self.min_users < 2 or self.min_users_to_brake < 2:
            raise ExperimentError("a decision needs at least 2 users per variant: raise min_users")
        if self.minimum_effect < 0 or not 0 < self.brake_at_loss <= 1:
            raise ExperimentError(
                f"minimum_effect is {self.minimum_effect} and brake_at_loss is {self.brake_at_loss}: give a "
                "minimum_effect of at least 0 and a brake_at_loss above 0 and at most 1"
            )


@dataclass(frozen=True)
class Decision:
    """What to do, why in a sentence, and the numbers behind it."""

    action: Action
    reason: str
    numbers: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


def decide(readout: Readout, policy: DecisionPolicy) -> Decision:
    """Promote, keep, wait or roll back.

    All rules use always-valid intervals, so `decide` may be called after every click. Guardrails come first,
    even if the comparison is withheld: a challenger that fails must lose its users. Then the brake acts on
    large losses, by the interval that is narrowest for few users. The rest goes by the interval of the plan.
    """
    numbers = _numbers(readout)
    health = {each.variant: each for each in readout.health}
    if CHAMPION in health and CHALLENGER in health:
        broken = breaches(health[CHAMPION], health[CHALLENGER], policy.guardrails)
        if broken:
            return Decision("roll back", " ".join(breach.reason for breach in broken), numbers)
    if readout.preference is not None:
        return _by_preference(readout.preference, policy, numbers)
    if readout.withheld is not None:
        return Decision("wait", f"There is no comparison: {readout.withheld}.", numbers)
    if readout.ctr is None:
        return Decision("wait", "The CTR cannot be compared yet: all users click alike.", numbers)
    fewest = min(side.users for side in readout.variants)
    if fewest >= policy.min_users_to_brake and must_brake(readout.ctr, policy):
        found = _difference(readout.ctr, readout.ctr.early, readout.confidence)
        return Decision("roll back", f"The challenger loses most of the clicks: {found}.", numbers)
    if fewest < policy.min_users:
        reason = (
            f"Too few users: the smaller variant has {fewest:,} of the {policy.min_users:,} that a verdict "
            "on the CTR needs."
        )
        return Decision("wait", reason, numbers)
    return _by_interval(readout.ctr, readout.confidence, policy, numbers)


def must_brake(ctr: Comparison, policy: DecisionPolicy) -> bool:
    """Whether the CTR has dropped so far that the challenger goes at once.

    The drop has to reach `brake_at_loss`, and the always-valid early interval has to exclude zero. It need
    not prove a drop of that size, or a challenger at exactly half the CTR would never be stopped.
    """
    return ctr.early.high < 0 and ctr.difference <= -policy.brake_at_loss * ctr.champion


def _by_interval(
    ctr: Comparison, confidence: float, policy: DecisionPolicy, numbers: Mapping[str, float]
) -> Decision:
    low, high = ctr.always_valid.low, ctr.always_valid.high
    found = _difference(ctr, ctr.always_valid, confidence)
    meaningful = policy.minimum_effect * ctr.champion
    if low > 0:
        return Decision("promote", f"The challenger is better: {found}.", numbers)
    if high < 0:
        return Decision("roll back", f"The challenger is worse: {found}.", numbers)
    if high < meaningful:
        return Decision(
            "keep",
            f"The champion stays: {found}. This rules out a gain of {policy.minimum_effect:.0%} "
            f"({_points(meaningful)} points), the smallest that is worth a new version.",
            numbers,
        )
    return Decision("wait", f"Too early to tell: {found}.", numbers)


def _by_preference(found: Preference, policy: DecisionPolicy, numbers: Mapping[str, float]) -> Decision:
    """Interleaving can rule a challenger out. Only an A/B test shows what a better one is worth."""
    low, high = found.always_valid.low, found.always_valid.high
    share = (
        f"it won {found.won:,} of {found.won + found.lost:,} decided queries, a preference of "
        f"{found.value:+.2f} ({low:+.2f} to {high:+.2f}, valid at every look)"
    )
    if found.users < policy.min_users:
        reason = (
            f"Too few users: {found.users:,} users of the challenger decided a query, of the "
            f"{policy.min_users:,} that a verdict needs; {share}."
        )
        return Decision("wait", reason, numbers)
    if low > 0:
        return Decision(
            "wait",
            f"Shoppers prefer the challenger: {share}. Run an A/B test to see what that is worth: "
            "`immr experiment stop`, then `immr experiment start`.",
            numbers,
        )
    if high < 0:
        return Decision("keep", f"Shoppers prefer the champion over the challenger: {share}.", numbers)
    return Decision("wait", f"Too early to tell which version shoppers prefer: {share}.", numbers)


def _difference(ctr: Comparison, interval: Interval, confidence: float) -> str:
    return (
        f"the challenger's CTR is {ctr.challenger:.2%} against the champion's {ctr.champion:.2%}, a "
        f"difference of {_points(interval.low)} to {_points(interval.high)} points ({confidence:.0%} "
        "interval, valid at every look)"
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _numbers(readout: Readout) -> dict[str, float]:
    numbers: dict[str, float] = {f"users_{side.name}": side.users for side in readout.variants}
    if readout.sample_ratio is not None:
        numbers["sample_ratio_p_value"] = readout.sample_ratio.p_value
    for health in readout.health:
        numbers |= {
            f"fallback_rate_{health.variant}": health.fallback_rate,
            f"zero_result_rate_{health.variant}": health.zero_result_rate,
            f"p99_ms_{health.variant}": health.p99_ms,
        }
    if readout.preference is not None:
        found = readout.preference
        numbers |= {
            "preference": found.value,
            "preference_always_valid_low": found.always_valid.low,
            "preference_always_valid_high": found.always_valid.high,
            "preference_users": found.users,
        }
    if readout.ctr is not None:
        numbers |= {
            "ctr_champion": readout.ctr.champion,
            "ctr_challenger": readout.ctr.challenger,
            "difference": readout.ctr.difference,
            "interval_low": readout.ctr.interval.low,
            "interval_high": readout.ctr.interval.high,
            "always_valid_low": readout.ctr.always_valid.low,
            "always_valid_high": readout.ctr.always_valid.high,
            "p_value": readout.ctr.p_value,
        }
    return numbers
