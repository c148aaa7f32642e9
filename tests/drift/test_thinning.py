"""Bursts of near copies count once, so they do not look like drift; different photos all stay."""

from __future__ import annotations

import numpy as np

from immr.drift.findings import DriftPolicy, of_photos
from immr.drift.thinning import burst_cosine, one_of_each_burst
from immr.drift.two_sample import mmd
from immr.types import FloatArray
from tests.drift.test_two_sample import photos

POLICY = DriftPolicy(least_rows=50, alpha=0.01)


def bursts(rows_ND: FloatArray, rng: np.random.Generator, each: int = 3) -> FloatArray:
    """Several near copies of each photo."""
    copies = np.repeat(rows_ND, each, axis=0)
    copies = copies + 0.01 * rng.normal(size=copies.shape)
    unit: FloatArray = (copies / np.linalg.norm(copies, axis=1, keepdims=True)).astype(np.float32)
    return unit


def test_one_photo_of_each_burst_is_kept() -> None:
    rng = np.random.default_rng(0)
    different = photos(rng, 100)
    kept = one_of_each_burst(bursts(different, rng), burst_cosine(different))
    assert 85 <= len(kept) <= 105  # a few different photos are as alike as copies


def test_few_independent_photos_are_dropped() -> None:
    rng = np.random.default_rng(1)
    assert len(one_of_each_burst(photos(rng, 200), burst_cosine(photos(rng, 200)))) > 180


def test_bursts_of_three_raise_no_alarm() -> None:
    rng = np.random.default_rng(2)
    found, without_thinning = 0, 0
    for _ in range(12):
        held_out, new = bursts(photos(rng, 100), rng), photos(rng, 300)
        found += bool(of_photos(held_out, new, POLICY).found)
        without_thinning += mmd(held_out, new, permutations=100).p_value <= 0.05
    assert without_thinning >= 6
    assert found <= 1
