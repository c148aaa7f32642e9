"""What a challenger must not do, whatever its clicks: fail, answer with nothing, be slow.

Pure: health in, sentences out. A breach has to be proven at 99.9 %, on users and not on searches, because one
user's searches fail together and because these questions are asked every minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from immr.errors import ExperimentError
from immr.readout.health import Health

_Z = 3.09  # one-sided 99.9 %


@dataclass(frozen=True)
class GuardrailPolicy:
    """How much worse than the champion a challenger may be. Shares are of searches."""

    min_users: int = 10  # of the challenger
    extra_fallback: float = 0.02
    extra_zero_result: float = 0.05
    p99_factor: float = 2.0
    p99_ms: float = 500.0  # below this, slower does not matter

    def __post_init__(self) -> None:
        if self.min_users < 1 or self.p99_factor < 1 or min(self.extra_fallback, self.extra_zero_result) < 0:
            raise ExperimentError(
                "guardrails need at least one user, a p99_factor of at least 1 and shares that are not "
                "negative: correct the policy"
            )


@dataclass(frozen=True)
class Breach:
    """A guardrail that does not hold, and why in a sentence."""

    guardrail: str
    reason: str


def breaches(champion: Health, challenger: Health, policy: GuardrailPolicy) -> tuple[Breach, ...]:
    """The guardrails that the challenger breaks, worst first."""
    if challenger.users < policy.min_users:
        return ()
    limit_ms = max(policy.p99_factor * champion.p99_ms, policy.p99_ms)
    found = []
    if _proven_above(
        challenger.fallback_rate, challenger.users, champion.fallback_rate + policy.extra_fallback
    ):
        found.append(
            Breach(
                "error rate",
                f"The challenger fails: another variant had to answer {challenger.fallback_rate:.1%} of its "
                f"{challenger.searches} searches, against {champion.fallback_rate:.1%} of the champion's.",
            )
        )
    if _proven_above(
        challenger.zero_result_rate, challenger.users, champion.zero_result_rate + policy.extra_zero_result
    ):
        found.append(
            Breach(
                "zero results",
                f"The challenger finds nothing for {challenger.zero_result_rate:.1%} of its searches, "
                f"against {champion.zero_result_rate:.1%} of the champion's.",
            )
        )
    if challenger.p99_low_ms > limit_ms:
        found.append(
            Breach(
                "p99 latency",
                f"The challenger is slow: its p99 is {challenger.p99_ms:.0f} ms over {challenger.searches} "
                f"searches, {limit_ms:.0f} ms are allowed (the champion's is {champion.p99_ms:.0f} ms).",
            )
        )
    return tuple(found)


def _proven_above(share: float, users: int, limit: float) -> bool:
    """Is the lower bound of Wilson's score interval (1927) above the limit?"""
    spread = _Z * math.sqrt(share * (1 - share) / users + _Z**2 / (4 * users**2))
    return (share + _Z**2 / (2 * users) - spread) / (1 + _Z**2 / users) > limit
