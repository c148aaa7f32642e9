import numpy as np
import pytest

from immr.governance.labels import class_scores
from immr.governance.labels.class_scores import SHARPNESS, ClassScores, Ints
from immr.governance.labels.confusion import calibrated, look_alikes


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.3])
def test_the_share_of_wrong_labels_is_estimated(wrong: float) -> None:
    rng = np.random.default_rng(0)
    photos, classes = 4000, 10
    scores_NC = rng.uniform(-0.2, 0.2, (photos, classes))
    truth = rng.integers(0, classes, photos)
    scores_NC[np.arange(photos), truth] += 0.7
    given = np.where(rng.random(photos) < wrong, (truth + rng.integers(1, classes, photos)) % classes, truth)
    log_sum_NS = np.stack([np.log(np.exp(s * (scores_NC - 1)).sum(axis=1)) for s in SHARPNESS], axis=1)
    sharpness, found = calibrated(log_sum_NS, scores_NC[np.arange(photos), given], classes)
    assert found == pytest.approx(wrong, abs=0.02)
    assert sharpness > 4


def test_no_photos_give_no_estimate() -> None:
    assert calibrated(np.zeros((0, len(SHARPNESS))), np.zeros(0), 10) == (0.0, 0.0)
    assert calibrated(np.zeros((3, len(SHARPNESS))), np.zeros(3), 1) == (0.0, 0.0)


def two_classes(per_class: int, swapped: float) -> tuple[ClassScores, Ints, Ints]:
    """Two well separated classes whose labels were swapped for a share of the photos."""
    rng = np.random.default_rng(1)
    truth = np.repeat(np.arange(2), per_class)
    given = np.where(rng.random(len(truth)) < swapped, 1 - truth, truth)
    scores_NC = 0.1 * rng.standard_normal((len(truth), 2))
    scores_NC[np.arange(len(truth)), truth] += 0.5
    order = np.argsort(-scores_NC, axis=1)
    log_sum = np.zeros((len(truth), len(class_scores.SHARPNESS)))
    nearest = np.take_along_axis(scores_NC, order, 1)
    return ClassScores(scores_NC[np.arange(len(truth)), given], order, nearest, log_sum, 2), given, truth


def test_swapped_labels_of_two_look_alikes_are_found() -> None:
    scores, given, truth = two_classes(100, 0.3)
    found = look_alikes(scores, given, scores.clicked_R, np.ones(len(given), bool), floor=0.01)
    assert found.rival_N.tolist() == (1 - given).tolist()
    assert ((found.right_N > 0.5) == (given == truth)).mean() > 0.98


def test_classes_with_few_photos_are_not_fitted() -> None:
    scores, given, _ = two_classes(1, 0.0)
    found = look_alikes(scores, given, scores.clicked_R, np.ones(len(given), bool), floor=0.01)
    assert np.isnan(found.right_N).all()
