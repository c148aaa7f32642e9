"""How long to wait before the next try of something that keeps failing."""

from __future__ import annotations

_MAX_DOUBLINGS = 64  # a float has room for 1,023, which a failure per minute reaches within a day


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after this many failures in a row: doubled from failure to failure.

    Args:
        failures: At least 1, for the failure that has just happened.
        first_s: The wait after the first failure.
        longest_s: No wait is longer.
    """
    return min(first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), longest_s)
