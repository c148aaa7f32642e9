"""A drawn shop: classes are directions, photos lie around them in one half-space, and another domain elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from immr.evaluation.matches import calibrate as calibrate_module
from immr.evaluation.matches.calibrate import LabelledEmbeddings, calibrate, first_hits, lower_threshold
from immr.evaluation.matches.rule import MatchRecipe, MatchRule
from immr.evaluation.metrics import unit_rows
from immr.types import FloatArray

CLASSES, DIM = 40, 24
RECIPE = MatchRecipe(exact_recall=0.9, similar_recall=0.9, domain_recall=0.9)


def shop(seed: int, per_class: int = 20) -> LabelledEmbeddings:
    generator = np.random.default_rng(seed)
    classes_N = np.repeat(np.arange(CLASSES), per_class)
    noise_ND = 0.25 * generator.normal(size=(len(classes_N), DIM))
    return LabelledEmbeddings(unit_rows((centres()[classes_N] + noise_ND).astype(np.float32)), classes_N)


def centres() -> FloatArray:
    centres_CD = np.random.default_rng(0).normal(size=(CLASSES, DIM))
    centres_CD[:, 0] = 4.0  # what all photos of the shop have in common
    centres_CD[:, DIM // 2 :] *= 0.3
    return unit_rows(centres_CD.astype(np.float32))


@pytest.fixture(scope="module")
def documents() -> LabelledEmbeddings:
    return LabelledEmbeddings(centres(), np.arange(CLASSES))


@pytest.fixture(scope="module")
def rule(documents: LabelledEmbeddings) -> MatchRule:
    found = calibrate(shop(1), documents, shop(2), RECIPE)
    assert found is not None
    return found


def test_the_recalls_hold_for_photos_that_calibration_has_not_seen(
    rule: MatchRule, documents: LabelledEmbeddings
) -> None:
    photos = shop(3)
    found = first_hits(photos, documents)
    exact = [rule.match(each, each) == "exact" for each in found.cosine_Q[found.right_Q]]
    assert np.mean(exact) == pytest.approx(0.9, abs=0.04)
    missing_Q = first_hits(photos, documents, without_own=True).cosine_Q
    assert np.mean([rule.match(each, each) != "none" for each in missing_Q]) == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize(("noisy", "learned_dim"), [("learned", 0), ("plain", DIM)])
def test_exact_hits_are_told_by_the_part_that_tells_items_apart(
    documents: LabelledEmbeddings, noisy: str, learned_dim: int
) -> None:
    def in_parts(shown: LabelledEmbeddings, seed: int) -> LabelledEmbeddings:
        noise_ND = np.random.default_rng(seed).normal(size=shown.rows_ND.shape).astype(np.float32)
        parts = [shown.rows_ND, 0.5 * unit_rows(noise_ND)]
        rows_ND = np.hstack(parts if noisy == "plain" else parts[::-1])
        return LabelledEmbeddings(unit_rows(rows_ND), shown.classes_N)

    photos, catalogue = in_parts(shop(1), 1), in_parts(documents, 2)
    found = calibrate(photos, catalogue, in_parts(shop(2), 3), RECIPE, begin=DIM)
    assert found is not None and found.learned_dim == learned_dim
    new = in_parts(shop(3), 4)
    hits = first_hits(new, catalogue, begin=DIM)
    closeness_Q = hits.closeness_Q(found)
    exact = [found.match(*each) == "exact" for each in zip(hits.cosine_Q, closeness_Q, strict=True)]
    assert np.mean(np.array(exact)[hits.right_Q]) == pytest.approx(0.9, abs=0.05)
    first = int((new.rows_ND[0] @ catalogue.rows_ND.T).argmax())
    assert found.closeness(new.rows_ND[0], catalogue.rows_ND[[first, first - 1]]) == pytest.approx(
        closeness_Q[0], abs=1e-6
    )


def test_new_classes_are_within_the_domain_and_other_pictures_are_not(
    rule: MatchRule, documents: LabelledEmbeddings
) -> None:
    known = shop(2).some(shop(2).classes_N < 30)
    without_new = calibrate(shop(1).some(shop(1).classes_N < 30), documents, known, RECIPE)
    assert without_new is not None
    new_ND = shop(3).some(shop(3).classes_N >= 30).rows_ND
    assert np.mean([without_new.domain.contains(row_D, None) for row_D in new_ND]) > 0.8
    elsewhere_ND = unit_rows(np.random.default_rng(4).normal(size=(200, DIM)).astype(np.float32))
    assert np.mean([rule.domain.contains(row_D, None) for row_D in elsewhere_ND]) < 0.1


def test_photos_with_textures_are_compared_by_them(documents: LabelledEmbeddings) -> None:
    """Of any scale: the second dimension is a thousand times as large."""

    def textured(seed: int) -> LabelledEmbeddings:
        photos = shop(seed)
        textures_NT = np.random.default_rng(seed).normal(size=(len(photos.classes_N), 2)) * [1.0, 1000.0]
        return LabelledEmbeddings(photos.rows_ND, photos.classes_N, textures_NT.astype(np.float32))

    found = calibrate(textured(1), documents, textured(2), MatchRecipe(domain_recall=0.9))
    assert found is not None and found.domain.begin is None
    photos = textured(3)
    assert photos.textures_NT is not None
    inside = [found.domain.contains(np.zeros(DIM, np.float32), texture_T) for texture_T in photos.textures_NT]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.04)
    for far in ([5.0, 0.0], [0.0, 5000.0]):
        assert not found.domain.contains(photos.rows_ND[0], np.array(far, dtype=np.float32))


def test_a_first_hit_without_its_own_class_is_wrong(documents: LabelledEmbeddings) -> None:
    photos = shop(5, per_class=2)
    with_own, without = (first_hits(photos, documents, without_own=each) for each in (False, True))
    assert not without.right_Q.any()
    assert (without.cosine_Q <= with_own.cosine_Q).all()


def test_many_photos_are_represented_by_evenly_spaced_ones(
    documents: LabelledEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two searches of a million items for each of 18,000 photos took longer than the evaluation itself."""
    photos = shop(1)
    some = calibrate(photos.some(np.arange(len(photos.classes_N)) % 4 == 0), documents, shop(2), RECIPE)
    monkeypatch.setattr(calibrate_module, "MOST_PHOTOS", len(photos.classes_N) // 4)
    found = calibrate(photos, documents, shop(2), RECIPE)
    assert found is not None and some is not None
    assert (found.exact_from, found.similar_from) == (some.exact_from, some.similar_from)


def test_too_few_photos_give_no_rule(documents: LabelledEmbeddings) -> None:
    few = shop(1, per_class=1)
    assert calibrate(few, documents, shop(2), RECIPE) is None
    assert calibrate(shop(1), documents, few, RECIPE) is None
    one_class = shop(1).some(shop(1).classes_N == 0)
    assert calibrate(one_class, documents, shop(2), MatchRecipe(min_photos=5)) is None
    assert calibrate(few, documents, shop(2), MatchRecipe(min_photos=0)) is not None


def test_a_threshold_counts_the_new_photo_too() -> None:
    scores_N = np.arange(1.0, 20.0)  # with a twentieth, 5 % is one of them
    assert lower_threshold(scores_N, 0.95) == 1.0
    assert lower_threshold(scores_N, 0.90) == 2.0
    assert lower_threshold(scores_N[:10], 0.95) == -math.inf
