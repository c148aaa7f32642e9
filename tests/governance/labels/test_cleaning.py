from dataclasses import replace

import numpy as np
import pytest

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels import class_scores, cleaning
from immr.governance.labels.cleaning import Labels, Verdicts, clean
from immr.storage import fingerprint
from immr.types import FloatArray

RECIPE = GovernanceRecipe()
CLASSES, PHOTOS, FEATURES = 12, 30, 24


def photos(spread: float = 0.5, looks: int = 1) -> tuple[FloatArray, cleaning.Ints]:
    """Photos around `looks` centres per class, and their true classes."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, looks, FEATURES))
    truth = np.repeat(np.arange(CLASSES), PHOTOS)
    look = np.tile(np.arange(looks), len(truth) // looks)
    features = centres[truth, look] + spread * rng.standard_normal((len(truth), FEATURES))
    return features.astype(np.float32), truth


def with_wrong(truth: cleaning.Ints, share: float) -> cleaning.Ints:
    rng = np.random.default_rng(1)
    wrong = rng.random(len(truth)) < share
    return np.where(wrong, (truth + rng.integers(1, CLASSES, len(truth))) % CLASSES, truth)


def judge(
    features: FloatArray,
    given: cleaning.Ints,
    recipe: GovernanceRecipe = RECIPE,
    settled: cleaning.Bools | None = None,
    also_clicked: list[tuple[int, int]] | None = None,
    hashes: list[str] | None = None,
) -> Verdicts:
    rows = len(given)
    clicks = [*enumerate(given.tolist()), *(also_clicked or [])]
    labels = Labels(
        given,
        np.full(rows, 0.75, np.float32),
        np.ones(rows, bool) if settled is None else settled,
        np.array(clicks, np.int64),
        np.ones(len(clicks), np.float32),
        CLASSES,
    )
    return clean(features, hashes or [fingerprint.of_values(row) for row in range(rows)], labels, recipe)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_labels_become_precise_and_right_labels_are_kept(share: float) -> None:
    features, truth = photos()
    given = with_wrong(truth, share)
    found = judge(features, given)
    out = found.class_N >= 0
    assert (found.class_N == truth)[out].mean() > 0.97
    assert (found.class_N == truth)[given == truth].mean() > 0.9
    assert found.wrong_share == pytest.approx((given != truth).mean(), abs=0.02)
    assert found.sharpness > 1


def test_uninformative_embeddings_change_nothing() -> None:
    _, truth = photos()
    features = np.random.default_rng(8).standard_normal((len(truth), FEATURES)).astype(np.float32)
    found = judge(features, with_wrong(truth, 0.2))
    assert found.sharpness < 1
    assert found.reason == [cleaning.KEPT] * len(truth)


def test_each_outcome_has_its_reason() -> None:
    features, truth = photos(spread=0.2)
    given, settled = with_wrong(truth, 0.2), np.ones(len(truth), bool)
    given[:5], settled[[1, 2, 3]] = 5, False
    given[4] = 0
    features[3] = (features[3] + features[5 * PHOTOS]) / 2  # looks like both of what was clicked
    clicks = [(1, 0), (3, 0)]
    found = judge(features, given, settled=settled, also_clicked=clicks)
    assert [found.reason[row] for row in range(5)] == [
        cleaning.MOVED,
        cleaning.MOVED_TO_CLICKED,
        cleaning.MOVED,
        found.reason[3],
        cleaning.KEPT,
    ]
    assert [found.class_N[row] for row in (0, 1, 2, 4)] == [0, 0, 0, 0]
    never = replace(RECIPE, clean_move=1.1, clean_settle=1.1)
    found = judge(features, given, never, settled, clicks)
    assert [found.reason[row] for row in range(5)] == [
        cleaning.LOOKS_LIKE_ANOTHER,
        cleaning.UNDECIDED,
        cleaning.UNDECIDED,
        cleaning.UNDECIDED,
        cleaning.KEPT,
    ]
    assert (found.class_N[:4] == -1).all()


def test_a_label_is_judged_by_other_photos_only() -> None:
    """A photo that is in the log many times, always with the same wrong label, cannot vouch for itself."""
    features, truth = photos(spread=0.2)
    given = with_wrong(truth, 0.2)
    features[:6], given[:6] = features[0], 5
    hashes = [fingerprint.of_values(0 if row < 6 else row) for row in range(len(truth))]
    found = judge(features, given, hashes=hashes)
    assert (found.class_N[:6] == 0).all()


def test_labels_that_cannot_be_judged_stay_as_clicked() -> None:
    features, truth = photos()
    given = truth.copy()
    given[given == 7] = 6  # class 7 has one photo
    given[7 * PHOTOS] = 7
    features[3] = np.nan
    found = judge(features, given)
    assert found.class_N[7 * PHOTOS] == 7 and np.isnan(found.given_N[7 * PHOTOS])
    assert found.class_N[3] == 0


def swapped(truth: cleaning.Ints, share: float) -> cleaning.Ints:
    """Classes 0 and 1, 2 and 3, … are mistaken for each other."""
    wrong = np.random.default_rng(3).random(len(truth)) < share
    return np.where(wrong, truth ^ 1, truth)


def look_alikes(per_class: int = 60) -> tuple[FloatArray, cleaning.Ints]:
    """Photos of classes whose centres lie close together in pairs."""
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((CLASSES // 2, 1, FEATURES)) + 0.45 * rng.standard_normal(
        (CLASSES // 2, 2, FEATURES)
    )
    truth = np.repeat(np.arange(CLASSES), per_class)
    noise = 0.3 * rng.standard_normal((len(truth), FEATURES))
    return (centres.reshape(CLASSES, FEATURES)[truth] + noise).astype(np.float32), truth


@pytest.mark.parametrize("share", [0.21, 0.31, 0.41])
def test_swapped_look_alikes_are_detected_and_corrected(share: float) -> None:
    features, truth = look_alikes()
    given = swapped(truth, share)
    found = judge(features, given)
    wrong = (given != truth).mean()
    assert 0.7 * wrong < found.wrong_share < 1.3 * wrong
    out = found.class_N >= 0
    assert (found.class_N == truth)[out].mean() > 0.95
    assert (found.class_N == truth)[given == truth].mean() > 0.9


def test_look_alikes_with_right_labels_are_left_alone() -> None:
    features, truth = look_alikes()
    found = judge(features, truth)
    assert found.wrong_share < 0.01
    assert (found.class_N == truth).mean() > 0.99


def test_retakes_with_the_same_wrong_click_do_not_vouch_for_each_other() -> None:
    features, truth = photos(spread=0.3)
    rng = np.random.default_rng(6)
    given = truth.copy()
    wrong = rng.permutation(len(truth))[: len(truth) // 6]
    given[wrong] = (truth[wrong] + rng.integers(1, CLASSES, len(wrong))) % CLASSES
    retakes = np.repeat(wrong, 3)
    copies = features[retakes] + 0.01 * rng.standard_normal((len(retakes), FEATURES)).astype(np.float32)
    features, truth = np.concatenate([features, copies]), np.concatenate([truth, truth[retakes]])
    given = np.concatenate([given, given[retakes]])
    found = judge(features, given)
    out = found.class_N >= 0
    assert (found.class_N == truth)[out].mean() > 0.95


def test_photos_of_one_session_do_not_vouch_for_each_other() -> None:
    features, truth = photos(spread=0.5)
    given = truth.copy()
    given[:6] = 7  # one session, clicked wrongly
    session = np.arange(len(truth))
    session[:6] = 0
    labels = Labels(
        given,
        np.full(len(given), 0.75, np.float32),
        np.ones(len(given), bool),
        np.stack([np.arange(len(given)), given], axis=1),
        np.ones(len(given), np.float32),
        CLASSES,
        session,
    )
    folds = cleaning._folds(
        class_scores.power_normalised(features),
        [fingerprint.of_values(n) for n in range(len(given))],
        labels,
        RECIPE,
    )
    assert len(set(folds[:6].tolist())) == 1


def test_the_order_of_rows_does_not_matter() -> None:
    features, truth = photos()
    given = with_wrong(truth, 0.4)
    hashes = [fingerprint.of_values(row) for row in range(len(truth))]
    order = np.random.default_rng(5).permutation(len(truth))
    one = judge(features, given, hashes=hashes)
    other = judge(features[order], given[order], hashes=[hashes[row] for row in order])
    assert (one.class_N[order] == other.class_N).all()


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, truth = photos()
    given = with_wrong(truth, 0.4)
    whole = judge(features, given)
    monkeypatch.setattr(class_scores, "_BLOCK_ROWS", 7)
    in_blocks = judge(features, given)
    assert in_blocks.reason == whole.reason
    assert np.array_equal(in_blocks.class_N, whole.class_N)
    assert in_blocks.given_N == pytest.approx(whole.given_N, abs=1e-3)
