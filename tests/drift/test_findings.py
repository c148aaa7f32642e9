"""Findings describe what differs and where to look; a report survives writing and reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from immr.drift.findings import (
    DriftPolicy,
    DriftReport,
    of_categories,
    of_features,
    of_photos,
    of_scores,
)
from immr.errors import DriftError
from tests.drift.test_two_sample import photos

NOW = datetime(2024, 5, 8, tzinfo=UTC)
POLICY = DriftPolicy()


def test_photos_of_the_same_and_of_another_kind() -> None:
    rng = np.random.default_rng(5)
    same = of_photos(photos(rng, 900), photos(rng, 300), POLICY)
    assert (same.found, same.look_at) == (False, "")
    other = of_photos(photos(rng, 900), photos(rng, 300, shift=1.0), POLICY)
    assert other.found
    assert "differ from the held-out photos" in other.sentence
    assert "newest kept photos" in other.look_at


def test_scores_that_fell_and_rose() -> None:
    rng = np.random.default_rng(6)
    before = rng.normal(0.8, 0.05, 300).astype(np.float32)
    assert not of_scores(before, rng.normal(0.8, 0.05, 300).astype(np.float32), POLICY).found
    assert of_scores(before, before - 0.1, POLICY).look_at.startswith("Lower")
    assert of_scores(before, before + 0.1, POLICY).look_at.startswith("Higher")


def test_categories_need_more_than_certainty() -> None:
    before, little = {"milk": 6000, "juice": 4000}, {"milk": 5600, "juice": 4400}
    assert not of_categories(before, little, POLICY).found  # p is far below alpha, the shift is small
    found = of_categories(before, {"milk": 200, "new items": 200}, POLICY)
    assert found.found
    assert "new items 0% → 50%" in found.sentence


def test_features_grow_old() -> None:
    assert of_features(NOW - timedelta(hours=20), NOW, POLICY).found is False
    old = of_features(NOW - timedelta(days=3), NOW, POLICY)
    assert (old.found, old.sentence) == (
        True,
        "The newest item features are 72.0 hours old; 48 hours are allowed.",
    )
    assert of_features(None, NOW, POLICY).found is None


def test_too_few_rows_give_no_verdict() -> None:
    rng = np.random.default_rng(7)
    few = of_photos(photos(rng, 900), photos(rng, 99), POLICY)
    assert few.found is None
    assert "IMMR_KEEP_PHOTOS" in few.look_at
    assert of_categories({"milk": 5}, {"milk": 500}, POLICY).look_at == ""
    with pytest.raises(DriftError, match="alpha"):
        DriftPolicy(alpha=0)


def test_a_report_round_trips(tmp_path: Path) -> None:
    report = DriftReport("immr-3", NOW, NOW - timedelta(days=7), (of_features(NOW, NOW, POLICY),))
    path = tmp_path / "drift" / "latest.json"
    assert DriftReport.read(path) is None
    report.write(path)
    assert DriftReport.read(path) == report
    path.write_text("{}")
    with pytest.raises(DriftError, match="not a drift report"):
        DriftReport.read(path)


def test_held_out_copies_of_one_photo_are_no_drift() -> None:
    """Thinning leaves one row of them, from which no distance can be measured."""
    rng = np.random.default_rng(8)
    found = of_photos(np.tile(photos(rng, 1), (300, 1)), photos(rng, 300), POLICY)
    assert found.found is None
    assert "near copies of each other" in found.sentence
