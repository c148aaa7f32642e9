from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from immr.evaluation.calibration import calibration, share_interval


def test_a_case_made_by_hand() -> None:
    scores_Q = np.array([0.7, 0.75, 0.85, 0.8, 0.95])
    right_Q = np.array([False, True, True, True, True])
    found = calibration(scores_Q, right_Q)
    assert [(round(part.low, 9), round(part.high, 9), part.answers) for part in found.bins] == [
        (0.7, 0.8, 2),
        (0.8, 0.9, 2),
        (0.9, 1.0, 1),
    ]
    assert [part.right.mean for part in found.bins] == [0.5, 1.0, 1.0]
    assert found.error == pytest.approx(2 / 5 * 0.225 + 2 / 5 * 0.175 + 1 / 5 * 0.05)
    assert found.order == 1.0


def test_it_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    scores_Q = generator.random(5000)
    right_Q = generator.random(5000) < scores_Q**2
    found = calibration(scores_Q, right_Q)
    shares, scores = calibration_curve(right_Q, scores_Q, n_bins=10, strategy="uniform")
    assert [part.right.mean for part in found.bins] == pytest.approx(shares.tolist())
    assert [part.score for part in found.bins] == pytest.approx(scores.tolist())
    assert found.order == pytest.approx(roc_auc_score(right_Q, scores_Q))
    assert found.error == pytest.approx(1 / 6, abs=0.02)  # ∫ x − x²
    low, high = binomtest(37, 50).proportion_ci(0.95, method="wilson")
    share = share_interval(37, 50, 0.95)
    assert (share.mean, share.low, share.high) == pytest.approx((0.74, low, high))


def test_ties_count_half_and_float32_stays_in_its_bin() -> None:
    found = calibration(np.array([0.7, 0.7], dtype=np.float32), np.array([True, False]))
    assert found.order == 0.5
    assert found.bins[0].low == pytest.approx(0.7)


def test_all_right_have_no_order() -> None:
    assert np.isnan(calibration(np.array([0.3, -0.4]), np.array([True, True])).order)


def test_what_makes_no_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match=r"equal \(Q,\) arrays"):
        calibration(np.array([]), np.array([], dtype=bool))
