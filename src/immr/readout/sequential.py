"""Always-valid intervals: right at every look, so that looking early is safe.

Asymptotic confidence sequences with the normal mixture, after I. Waudby-Smith, D. Arbour, R. Sinha,
E. H. Kennedy and A. Ramdas, *Time-uniform central limit theory and asymptotic confidence sequences*,
arXiv 2103.06476 (2021). What is ours is to feed them with the delta method's linearized ratio of users in two
variants, where users who come back add to their own sums between two looks.
"""

from __future__ import annotations

import math


def tuned_rho(users: int, alpha: float) -> float:
    """ρ that makes the sequence narrow around so many users; choose it before looking at data."""
    return math.sqrt((-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / users)


def always_valid_half_width(standard_error: float, users: int, rho: float, alpha: float) -> float:
    """Half the width of the (1 − α) confidence sequence after so many users.

    With σ̂² = users × standard_error² it is the paper's
    σ̂ √(2(tρ²+1) / (t²ρ²) × log(√(tρ²+1) / α)) at t = users.

    Args:
        standard_error: Of the estimate, from all users so far.
        users: Users so far, of all variants.
        rho: From `tuned_rho`.
        alpha: 0.05 for 95 %.
    """
    intrinsic = users * rho * rho
    return standard_error * math.sqrt(
        2 * (intrinsic + 1) / intrinsic * math.log(math.sqrt(intrinsic + 1) / alpha)
    )
