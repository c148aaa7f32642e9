import numpy as np
import pytest

from immr.governance.labels import pair_splits
from immr.governance.labels.class_scores import Bools, Doubles, Ints
from immr.governance.labels.pair_splits import Appearance, PairRows, explained, first_is_right, weighed
from immr.types import FloatArray

PAIRS, OF_EACH, FEATURES = 10, 30, 64


def shop(swapped: float, pictured: bool) -> tuple[FloatArray, Bools, PairRows, FloatArray]:
    """Photos of pairs of classes, whether each is of its pair's first class, labels, and catalogue pictures.

    The margins tell nothing: centres from such labels have met. `pictured`: pictures differ as the photos do.
    """
    rng = np.random.default_rng(0)
    axis_PF = rng.standard_normal((PAIRS, FEATURES))
    axis_PF /= np.linalg.norm(axis_PF, axis=1, keepdims=True)
    is_first = np.tile(np.repeat([True, False], OF_EACH), PAIRS)
    pair = np.repeat(np.arange(PAIRS), 2 * OF_EACH)
    features = 3 * np.where(is_first, 1, -1)[:, None] * axis_PF[pair] + rng.standard_normal(
        (len(pair), FEATURES)
    )
    label = is_first ^ (rng.random(len(pair)) < swapped)
    shown_PF = axis_PF if pictured else rng.standard_normal((PAIRS, FEATURES)) / 8
    pictures = np.stack([4 * shown_PF, -4 * shown_PF], axis=1).reshape(2 * PAIRS, FEATURES)
    pictures += 0.3 * rng.standard_normal(pictures.shape) + 5
    rows = PairRows(
        np.arange(2 * PAIRS).reshape(PAIRS, 2),
        pair,
        np.arange(len(pair)),
        label,
        rng.standard_normal(len(pair)),
    )
    return features.astype(np.float32), is_first, rows, pictures.astype(np.float32)


def overruled(x_NF: FloatArray, rows: PairRows, pictures: FloatArray) -> tuple[Doubles, Bools]:
    fold_N: Ints = np.random.default_rng(1).integers(0, 5, len(x_NF))
    return Appearance(x_NF, fold_N, pictures.__getitem__, 1.0).overruled(rows, np.ones(PAIRS, bool))


@pytest.mark.parametrize("swapped", [0.31, 0.41])
def test_pictures_tell_which_side_is_which_where_labels_hardly_do(swapped: float) -> None:
    features, is_first, rows, pictures = shop(swapped, pictured=True)
    right_M, overruled_P = overruled(features, rows, pictures)
    assert overruled_P.sum() > 0.7 * PAIRS
    decided = overruled_P[rows.pair_M]
    assert ((right_M > 0.5) == is_first)[decided].mean() > 0.95


def test_labels_without_any_relation_to_appearance_are_not_overruled() -> None:
    features, _, rows, pictures = shop(0.5, pictured=False)
    _, overruled_P = overruled(features, rows, pictures)
    assert overruled_P.sum() <= 1


def test_classes_without_pictures_stay_as_they_are() -> None:
    features, _, rows, pictures = shop(0.41, pictured=True)
    pictures[:2] = np.nan
    assert not overruled(features, rows, pictures)[1][0]
    pictures[:] = np.nan
    assert not overruled(features, rows, pictures)[1].any()


def test_pairs_that_are_large_or_clear_are_left_to_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _, rows, pictures = shop(0.41, pictured=True)
    monkeypatch.setattr(pair_splits, "MOST_PHOTOS", 2 * OF_EACH - 1)
    assert not overruled(features, rows, pictures)[1].any()
    monkeypatch.undo()
    clear = PairRows(
        rows.pairs_P2, rows.pair_M, rows.photo_M, rows.first_M, 9.0 * rows.first_M + rows.margin_M
    )
    assert not overruled(features, clear, pictures)[1].any()


def test_weights_of_the_hypotheses_of_a_pair_sum_to_one() -> None:
    features, _, rows, pictures = shop(0.41, pictured=True)
    towards = np.diff(pictures.astype(np.float64), axis=0)
    at = rows.pair_M == 0
    one = explained(
        features[at].astype(np.float64), rows.first_M[at], rows.photo_M[at] % 5, rows.margin_M[at], towards
    )
    weights_PHG = weighed([one])
    assert weights_PHG.sum() == pytest.approx(1)
    right_M = first_is_right(one, weights_PHG[0])
    assert ((right_M >= 0) & (right_M <= 1)).all()
