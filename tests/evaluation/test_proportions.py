"""Wilson's interval agrees with scipy and is defined at the edges."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from immr.evaluation.proportions import wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (10, 100), (1, 3000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_agrees_with_scipy(successes: int, trials: int, confidence: float) -> None:
    theirs = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson(successes, trials, confidence) == pytest.approx((theirs.low, theirs.high))


def test_without_trials_the_interval_is_everything() -> None:
    assert wilson(0, 0) == (0, 1)
