"""What to do about the challenger. Pure: a readout and a policy in, an action with its reason out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION
from immr.readout.comparison import Comparison
from immr.readout.guardrails import GuardrailPolicy, breaches
from immr.readout.preference import Preference
from immr.readout.readout import Readout

Action = Literal["promote", "keep", "wait", "roll back"]


@dataclass(frozen=True)
class DecisionPolicy:
    """How sure to be, and about what. Shares are of the champion's CTR."""

    min_users: int = 200  # in each variant, before anything but a brake: the intervals are asymptotic
    min_users_to_brake: int = 50  # in each variant, before an early roll back
    minimum_effect: float = 0.02  # a gain below this share is not worth a new version
    brake_at_loss: float = 0.5  # roll back early where the loss reaches this share, proven at one look
    guardrails: GuardrailPolicy = field(default_factory=GuardrailPolicy)

    def __post_init__(self) -> None:
        if self.min_users < 2 or self.min_users_to_brake < 2:
            raise ExperimentError("a decision needs at least 2 users per variant: raise min_users")
        if self.minimum_effect < 0 or not 0 < self.brake_at_loss <= 1:
            raise ExperimentError(
                f"minimum_effect {self.minimum_effect} must not be negative, and brake_at_loss "
                f"{self.brake_at_loss} must be above 0 and at most 1: correct the policy"
            )


@dataclass(frozen=True)
class Decision:
    """What to do, why in a sentence, and the numbers it rests on."""

    action: Action
    reason: str
    numbers: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


def decide(readout: Readout, policy: DecisionPolicy) -> Decision:
    """Promote, keep, wait or roll back, by the always-valid interval of the difference in CTR.

    Safe to ask after every click: over all looks together, the interval misses the true difference with its
    error probability at most (asymptotically), so an equal challenger is seldom promoted or rolled back.
    The brake trades this for speed: it acts on the one-look interval, but only where the loss is large.
    Guardrails come first, even where the comparison is withheld: a challenger that fails loses its users.
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
        return Decision("wait", f"No readout: {readout.withheld}.", numbers)
    if readout.ctr is None:
        return Decision("wait", "The CTR cannot be compared yet: the users' clicks do not vary.", numbers)
    fewest = min(side.users for side in readout.variants)
    if fewest >= policy.min_users_to_brake and _far_below(readout.ctr, policy):
        return Decision("roll back", _far_below_reason(readout.ctr, policy), numbers)
    if fewest < policy.min_users:
        return Decision(
            "wait",
            f"The smaller variant has {fewest} users, {policy.min_users} are needed before a decision.",
            numbers,
        )
    return _by_interval(readout.ctr, policy, numbers)


def _by_interval(ctr: Comparison, policy: DecisionPolicy, numbers: Mapping[str, float]) -> Decision:
    low, high = ctr.always_valid.low, ctr.always_valid.high
    span = f"the always-valid interval of the difference in CTR is {_points(low)} to {_points(high)} points"
    meaningful = policy.minimum_effect * ctr.champion
    if low > 0:
        return Decision("promote", f"The challenger is better: {span}, all above zero.", numbers)
    if high < 0:
        return Decision("roll back", f"The challenger is worse: {span}, all below zero.", numbers)
    if high < meaningful:
        return Decision(
            "keep",
            f"The champion stays: {span}, so a gain of {_points(meaningful)} points "
            f"({policy.minimum_effect:.0%} of its CTR), the least worth having, is ruled out.",
            numbers,
        )
    return Decision("wait", f"Too early to tell: {span}, which holds both no gain and a gain.", numbers)


def _by_preference(found: Preference, policy: DecisionPolicy, numbers: Mapping[str, float]) -> Decision:
    """Interleaving rules a challenger out; what a better one earns is the A/B's to say."""
    low, high = found.always_valid.low, found.always_valid.high
    span = (
        f"of {found.won + found.lost} decided queries the challenger won {found.won}; the always-valid "
        f"interval of the preference is {low:+.2f} to {high:+.2f}"
    )
    if found.users < policy.min_users:
        reason = f"{found.users} users have decided, {policy.min_users} are needed before a decision: {span}."
        return Decision("wait", reason, numbers)
    if low > 0:
        return Decision(
            "wait",
            f"Shoppers prefer the challenger: {span}. What that earns, an A/B says: `immr experiment stop`, "
            "then `immr experiment start`.",
            numbers,
        )
    if high < 0:
        return Decision("keep", f"Shoppers prefer the champion: {span}.", numbers)
    return Decision("wait", f"Too early to tell: {span}.", numbers)


def _far_below(ctr: Comparison, policy: DecisionPolicy) -> bool:
    return ctr.difference <= -policy.brake_at_loss * ctr.champion and ctr.interval.high < 0


def _far_below_reason(ctr: Comparison, policy: DecisionPolicy) -> str:
    return (
        f"The challenger's CTR is {ctr.challenger:.2%} against {ctr.champion:.2%}: a loss of more than "
        f"{policy.brake_at_loss:.0%} of the champion's, and zero is outside the interval."
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
