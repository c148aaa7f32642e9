"""Do the users per variant fit the weights? If not, something other than the models differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALPHA = 0.001  # as low, because every look asks, and a true mismatch is found anyway


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Do the users per variant fit the weights? If not, something other than the models differs."""

    observed: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float
    ok: bool

    @property
    def sentence(self) -> str:
        """What does not fit, and the likely causes."""
        counts = ", ".join(
            f"{name} has {self.observed[name]} users where {expected:.0f} are expected"
            for name, expected in self.expected.items()
        )
        return (
            f"the users do not fit the weights ({counts}; p = {self.p_value:.2g}). Likely causes: "
            "one variant fails or falls back more often, its events get lost, bots, or weights that changed "
            "during the test (then set `started` anew and read out from there)"
        )


def sample_ratio(weights: Mapping[str, float], observed: Mapping[str, int]) -> SampleRatio | None:
    """Chi-square of users against weights (both by variant); None where there is nothing to compare."""
    from scipy.stats import chisquare

    total = sum(observed.values())
    expected = {name: weight * total for name, weight in weights.items()}
    weighted = [name for name, users in expected.items() if users > 0]
    if any(observed[name] and not expected[name] for name in expected):
        p_value = 0.0  # users where none can be
    elif len(weighted) < 2:
        return None
    else:
        test = chisquare([observed[name] for name in weighted], [expected[name] for name in weighted])
        p_value = float(test.pvalue)
    return SampleRatio(dict(observed), expected, p_value, p_value >= ALPHA)
