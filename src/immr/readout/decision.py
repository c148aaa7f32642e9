"""What to do about the challengers. Pure: a readout and a policy in, an action with its reason out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER
from immr.readout.comparison import Comparison, Interval
from immr.readout.guardrails import GuardrailPolicy, breaches
from immr.readout.preference import Preference
from immr.readout.readout import Readout, VariantReadout
from immr.readout.sequential import log_likelihood_ratio
from immr.types import in_a_sentence

Action = Literal["promote", "keep", "wait", "roll back"]


@dataclass(frozen=True)
class DecisionPolicy:
    """Thresholds of the decision. Shares are relative to the champion's CTR.

    Always-valid intervals are asymptotic, so each verdict needs a minimum of users in each variant.
    """

    min_users: int = 200  # per variant, for every verdict except the brake
    min_users_to_brake: int = 50  # per variant
    minimum_effect: float = 0.02  # a smaller gain is not worth a new version
    brake_at_loss: float = 0.5  # the loss that the brake looks for
    brake_alpha: float = 0.01  # probability that the brake ever stops a challenger that is not worse
    guardrails: GuardrailPolicy = field(default_factory=GuardrailPolicy)

    def __post_init__(self) -> None:
        if self.min_users < 2 or self.min_users_to_brake < 2:
            raise ExperimentError("a decision needs at least 2 users per variant: raise min_users")
        if not 0 < self.brake_alpha < 1:
            raise ExperimentError(f"brake_alpha is {self.brake_alpha}: give a probability between 0 and 1")
        if self.minimum_effect < 0 or not 0 < self.brake_at_loss <= 1:
            raise ExperimentError(
                f"minimum_effect is {self.minimum_effect} and brake_at_loss is {self.brake_at_loss}: give a "
                "minimum_effect of at least 0 and a brake_at_loss above 0 and at most 1"
            )


@dataclass(frozen=True)
class Verdict:
    """What to do about one challenger, and why in a sentence."""

    challenger: str  # the variant's name
    action: Action
    reason: str


@dataclass(frozen=True)
class Decision:
    """What to do about the test, why in a sentence or several, and the numbers behind it.

    The test continues while the action is "wait", but challengers with another verdict leave it.
    """

    action: Action
    reason: str
    numbers: Mapping[str, float]
    verdicts: tuple[Verdict, ...] = ()  # on each challenger that has not left the test

    @property
    def winner(self) -> Verdict | None:
        """The verdict on the challenger to promote."""
        found = (each for each in self.verdicts if each.action == "promote")
        return next(found, None) if self.action == "promote" else None

    @property
    def losers(self) -> tuple[Verdict, ...]:
        """The verdicts on challengers that leave the test; none if one of the others wins it."""
        leaving = tuple(each for each in self.verdicts if each.action in ("keep", "roll back"))
        return () if self.action == "promote" else leaving

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


def decide(readout: Readout, policy: DecisionPolicy) -> Decision:
    """Promote, keep, wait or roll back.

    All rules use always-valid intervals, so `decide` may be called after every click. Guardrails come first,
    even if the comparison is withheld: a challenger that fails must lose its users. Then the brake acts on
    large losses, for which few users suffice. The rest goes by the interval of the plan.

    Before the minimum duration is over, no challenger is promoted and no champion is kept for good, because days of
    the week differ. A challenger that does harm is rolled back at any time.

    Of several challengers, each has its own verdict, with bounds that hold for all of them jointly. If more
    than one is better than the champion, the one with the highest CTR is promoted; the others need another
    test.
    """
    numbers = _numbers(readout)
    champion, *challengers = readout.variants
    remaining = [side for side in challengers if not side.ended]
    if not remaining:
        return Decision("wait", f"There is no comparison: {readout.withheld}.", numbers)
    verdicts = tuple(_not_too_early(_verdict(readout, champion, side, policy), readout) for side in remaining)
    better = [each for each in verdicts if each.action == "promote"]
    if better:
        best = max(better, key=lambda each: _ctr_of(readout, each.challenger))
        others = tuple(
            replace(each, action="wait") if each in better and each != best else each for each in verdicts
        )
        return Decision("promote", best.reason, numbers, others)
    reason = " ".join(dict.fromkeys(each.reason for each in verdicts))
    actions = {each.action for each in verdicts}
    if "wait" in actions:
        return Decision("wait", reason, numbers, verdicts)
    return Decision("keep" if "keep" in actions else "roll back", reason, numbers, verdicts)


def _not_too_early(verdict: Verdict, readout: Readout) -> Verdict:
    """Wait instead of promoting or keeping, as long as the test has not lasted its minimum duration."""
    if verdict.action not in ("promote", "keep") or not readout.min_days_left:
        return verdict
    reason = (
        f"{verdict.reason} It is not promoted or dropped yet: days of the week differ, so this test needs events of "
        f"{readout.min_days:g} days, and has {readout.days:.1f}."
    )
    return replace(verdict, action="wait", reason=reason)


def _ctr_of(readout: Readout, challenger: str) -> float:
    arm = readout.arm(challenger)
    return arm.ctr.challenger if arm and arm.ctr else 0.0


def _verdict(
    readout: Readout, champion: VariantReadout, challenger: VariantReadout, policy: DecisionPolicy
) -> Verdict:
    name = challenger.name
    health = {each.variant: each for each in readout.health}
    if champion.name in health and name in health:
        tested = len(readout.variants) - 1
        broken = breaches(health[champion.name], health[name], policy.guardrails, tested)
        if broken:
            return Verdict(name, "roll back", " ".join(breach.reason for breach in broken))
    if readout.preference is not None:
        return _by_preference(readout.preference, policy)
    if readout.withheld is not None:
        return Verdict(name, "wait", f"There is no comparison: {readout.withheld}.")
    arm = readout.arm(name)
    if arm is None:
        reason = f"There is no comparison of {in_a_sentence(name)} yet: it has too few users or clicks."
        return Verdict(name, "wait", reason)
    if arm.ctr is None:
        return Verdict(name, "wait", "The CTR cannot be compared yet: all users click alike.")
    fewest = min(champion.users, challenger.users)
    tested, per_user = len(readout.variants) - 1, arm.ctr_per_user
    enough = fewest >= policy.min_users_to_brake
    if enough and per_user is not None and must_brake(per_user, policy, tested):
        return Verdict(name, "roll back", _why_brake(per_user, policy, tested))
    if fewest < policy.min_users:
        smaller = "smaller variant" if len(readout.variants) == 2 else f"smaller of champion and {name}"
        reason = (
            f"Too few users: the {smaller} has {fewest:,} of the {policy.min_users:,} that a verdict "
            "on the CTR needs."
        )
        return Verdict(name, "wait", reason)
    return _by_interval(arm.ctr, readout, policy)


def must_brake(ctr_per_user: Comparison, policy: DecisionPolicy, challengers: int = 1) -> bool:
    """Whether the clicks have dropped so far that the challenger must be removed at once.

    That is the case if a loss of `brake_at_loss` explains the data 1/`brake_alpha` times better than no loss does,
    which takes a measured loss of more than half of `brake_at_loss`. The users' own CTRs are compared, and each user
    counts the same: clicks per impression vary too much if a few users make most of the searches.
    """
    loss = -policy.brake_at_loss * ctr_per_user.champion
    evidence = log_likelihood_ratio(ctr_per_user.difference, ctr_per_user.standard_error, loss)
    return bool(evidence > math.log(challengers / policy.brake_alpha))


def _why_brake(ctr: Comparison, policy: DecisionPolicy, challengers: int) -> str:
    return (
        f"{in_a_sentence(ctr.variant).capitalize()} loses most of the clicks: its CTR per user is "
        f"{ctr.challenger:.2%} against the champion's {ctr.champion:.2%}. A loss of {policy.brake_at_loss:.0%} "
        f"explains this more than {challengers / policy.brake_alpha:,.0f} times better than none, which is enough at "
        "any look."
    )


def _by_interval(ctr: Comparison, readout: Readout, policy: DecisionPolicy) -> Verdict:
    name, low, high = ctr.variant, ctr.always_valid.low, ctr.always_valid.high
    found = _difference(ctr, ctr.always_valid, readout)
    meaningful = policy.minimum_effect * ctr.champion
    if low > 0:
        return Verdict(name, "promote", f"{in_a_sentence(name).capitalize()} is better: {found}.")
    if high < 0:
        return Verdict(name, "roll back", f"{in_a_sentence(name).capitalize()} is worse: {found}.")
    if high < meaningful:
        return Verdict(
            name,
            "keep",
            f"The champion stays: {found}. This rules out a gain of {policy.minimum_effect:.0%} "
            f"({_points(meaningful)} points), the smallest that is worth a new version.",
        )
    return Verdict(name, "wait", f"Too early to tell: {found}.")


def _by_preference(found: Preference, policy: DecisionPolicy) -> Verdict:
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
        return Verdict(CHALLENGER, "wait", reason)
    if low > 0:
        return Verdict(
            CHALLENGER,
            "wait",
            f"Shoppers prefer the challenger: {share}. Run an A/B test to see what that is worth: "
            "`immr experiment start`, after `immr experiment stop` if this test still runs.",
        )
    if high < 0:
        return Verdict(CHALLENGER, "keep", f"Shoppers prefer the champion over the challenger: {share}.")
    return Verdict(CHALLENGER, "wait", f"Too early to tell which version shoppers prefer: {share}.")


def _difference(ctr: Comparison, interval: Interval, readout: Readout) -> str:
    tested = len(readout.variants) - 1
    together = {1: "", 2: " for both challengers"}.get(tested, f" for all {tested} challengers")
    return (
        f"{in_a_sentence(ctr.variant)}'s CTR is {ctr.challenger:.2%} against the champion's {ctr.champion:.2%}, a "
        f"difference of {_points(interval.low)} to {_points(interval.high)} points ({readout.confidence:.0%} "
        f"interval{together}, valid at every look)"
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
    for arm in readout.arms:
        if arm.ctr is not None:
            numbers |= _ctr_numbers(arm.ctr)
    return numbers


def _ctr_numbers(ctr: Comparison) -> dict[str, float]:
    """The numbers of one challenger; all but the first have its name in their keys."""
    of = "" if ctr.variant == CHALLENGER else f"_{ctr.variant}"
    return {
        "ctr_champion": ctr.champion,
        f"ctr_{ctr.variant}": ctr.challenger,
        f"difference{of}": ctr.difference,
        f"interval_low{of}": ctr.interval.low,
        f"interval_high{of}": ctr.interval.high,
        f"always_valid_low{of}": ctr.always_valid.low,
        f"always_valid_high{of}": ctr.always_valid.high,
        f"p_value{of}": ctr.p_value,
    }
