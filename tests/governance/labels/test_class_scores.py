import tracemalloc

import numpy as np
import pytest

from immr.governance.labels import class_scores
from immr.governance.labels.class_scores import NEAREST, SHARPNESS, ClassScores, out_of_fold, power_normalised

CLASSES, PHOTOS, FEATURES = 10, 12, 16


def scored(ridge: float = 0.1, nearest: int = NEAREST) -> tuple[ClassScores, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Photos around one centre per class, the last class with one photo; scores, clicks and truth."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(CLASSES), PHOTOS)[: -PHOTOS + 1]
    x = rng.standard_normal((CLASSES, FEATURES))[truth] + 0.3 * rng.standard_normal((len(truth), FEATURES))
    x = power_normalised(x.astype(np.float32))
    rows = np.arange(len(truth))
    folds = np.arange(len(truth)) % 4
    clicks = np.stack([rows, truth], axis=1)
    memberships = rows, truth, np.ones(len(truth), np.float32)
    return out_of_fold(x, memberships, folds, clicks, CLASSES, ridge, nearest), clicks, truth


def test_rows_have_unit_length_and_keep_their_signs() -> None:
    found = power_normalised(np.array([[4, -9], [0, 0]], np.float32))
    assert found[0] == pytest.approx(np.array([2, -3]) / np.sqrt(13))
    assert found[1].tolist() == [0, 0]


def test_the_right_class_is_nearest_and_comes_first() -> None:
    scores, _, truth = scored()
    supported = truth < CLASSES - 1
    assert (scores.nearest_NK[:, 0] == truth)[supported].mean() > 0.95
    assert scores.nearest_NK.shape == (len(truth), NEAREST)
    assert (np.diff(scores.nearest_score_NK, axis=1) <= 0).all()


def test_a_class_without_photos_in_other_folds_is_not_compared() -> None:
    scores, _, truth = scored()
    assert scores.clicked_R[truth == CLASSES - 1].tolist() == [-np.inf]
    assert (scores.nearest_NK[np.isfinite(scores.nearest_score_NK)] != CLASSES - 1).all()


def test_sums_over_all_classes_bound_the_sum_over_the_nearest() -> None:
    scores, _, _ = scored()
    for step, sharpness in enumerate(SHARPNESS):
        nearest_N = np.exp(sharpness * (scores.nearest_score_NK - 1)).sum(axis=1)
        assert (np.exp(scores.log_sum_NS[:, step]) >= nearest_N * (1 - 1e-6)).all()


def test_the_best_groups_of_classes_hold_the_nearest_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _, _ = scored(nearest=2)
    monkeypatch.setattr(class_scores, "_GROUP", 2)
    monkeypatch.setattr(class_scores, "_CACHED_CELLS", 20)
    found, _, _ = scored(nearest=1)
    assert (found.nearest_score_NK[:, 0] == expected.nearest_score_NK[:, 0]).all()
    untied = expected.nearest_score_NK[:, 0] > expected.nearest_score_NK[:, 1]
    assert (found.nearest_NK[:, 0] == expected.nearest_NK[:, 0])[untied].all()
    assert found.log_sum_NS == pytest.approx(expected.log_sum_NS)
    assert (found.clicked_R == expected.clicked_R).all()


def test_without_enough_photos_anywhere_nothing_is_scored() -> None:
    x = power_normalised(np.eye(4, dtype=np.float32))
    rows = np.arange(4)
    memberships = rows, rows, np.ones(4, np.float32)
    found = out_of_fold(x, memberships, rows % 2, np.stack([rows, rows], axis=1), 4, 0.1)
    assert (found.nearest_NK == -1).all()
    assert np.isneginf(found.clicked_R).all()
    assert np.isneginf(found.log_sum_NS).all()


def test_classes_without_photos_cost_nothing() -> None:
    """A shop has a class for each item, and photos of few: the sums of all took gigabytes."""
    few, clicks, truth = scored()
    rng, spread, count = np.random.default_rng(0), 30_000, 300_000
    x = rng.standard_normal((CLASSES, FEATURES))[truth] + 0.3 * rng.standard_normal((len(truth), FEATURES))
    x = power_normalised(x.astype(np.float32))
    rows = np.arange(len(truth))
    memberships = rows, truth * spread, np.ones(len(truth), np.float32)
    tracemalloc.start()
    many = out_of_fold(x, memberships, rows % 4, clicks * [1, spread], count, 0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(many.clicked_R, few.clicked_R)
    np.testing.assert_array_equal(many.nearest_NK, np.where(few.nearest_NK < 0, -1, few.nearest_NK * spread))
    assert peak < 40 * count  # bytes; one sum of all classes would take 8 · FEATURES · count
