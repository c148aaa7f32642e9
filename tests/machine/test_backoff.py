"""Waits between tries double up to their longest, however often a thing has failed."""

from __future__ import annotations

import pytest

from immr.machine.backoff import pause_s


def test_a_wait_doubles_up_to_the_longest() -> None:
    assert [pause_s(failures, 1.0, 60.0) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("first_s", [0.0, 0.01, 1.0])
def test_a_failure_per_minute_for_months_is_no_error(first_s: float) -> None:
    """A float has no room for 2 to the power of 1,024."""
    assert pause_s(100_000, first_s, 60.0) == (60.0 if first_s else 0.0)
