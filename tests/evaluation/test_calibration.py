from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from immr.evaluation.calibration import calibration


def test_bins_error_and_order_of_a_hand_made_case() -> None:
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


def test_bins_and_order_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    scores_Q = generator.random(5000)
    right_Q = generator.random(5000) < scores_Q**2
    found = calibration(scores_Q, right_Q)
    shares, scores = calibration_curve(right_Q, scores_Q, n_bins=10, strategy="uniform")
    assert [part.right.mean for part in found.bins] == pytest.approx(shares.tolist())
    assert [part.score for part in found.bins] == pytest.approx(scores.tolist())
    assert found.order == pytest.approx(roc_auc_score(right_Q, scores_Q))
    assert found.error == pytest.approx(1 / 6, abs=0.02)  # ∫ x − x²


@pytest.mark.parametrize("together", [0.3, 0.6])
def test_intervals_of_photos_that_succeed_together_cover_the_truth(together: float) -> None:
    """With sixty users of five photos each, the intervals of independent answers covered 87 and 79 %."""
    rng, clusters_Q = np.random.default_rng(0), np.repeat(np.arange(60), 5)
    covered = {True: 0, False: 0}
    for _ in range(200):
        of_user_Q = rng.normal(0, np.sqrt(together), 60)[clusters_Q]
        right_Q = of_user_Q + rng.normal(0, np.sqrt(1 - together), 300) < 0.8416  # 80 %
        for known in covered:
            found = calibration(np.full(300, 0.75), right_Q, clusters_Q=clusters_Q if known else None)
            covered[known] += found.bins[0].right.low <= 0.8 <= found.bins[0].right.high
    assert covered[False] < 0.9 * 200
    assert covered[True] >= 0.92 * 200


def test_a_cluster_of_right_answers_counts_once() -> None:
    alone = calibration(np.full(4, 0.75), np.ones(4, bool)).bins[0].right
    together = calibration(
        np.full(20, 0.75), np.ones(20, bool), clusters_Q=[0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    )
    assert together.bins[0].right.low == pytest.approx(alone.low)


def test_ties_count_half_and_float32_stays_in_its_bin() -> None:
    found = calibration(np.array([0.7, 0.7], dtype=np.float32), np.array([True, False]))
    assert found.order == 0.5
    assert found.bins[0].low == pytest.approx(0.7)


def test_order_is_undefined_if_all_answers_are_right() -> None:
    assert np.isnan(calibration(np.array([0.3, -0.4]), np.array([True, True])).order)


def test_empty_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"equal \(Q,\) arrays"):
        calibration(np.array([]), np.array([], dtype=bool))
