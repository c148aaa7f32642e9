"""Principal components stand for the features of large sets, and leave small ones alone."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from immr.governance.labels import principal_components as module
from immr.governance.labels.class_scores import power_normalised
from immr.governance.labels.principal_components import compact, components
from immr.storage.scratch import scratch


def test_small_sets_are_kept_whole():
    features_NF = np.array([[4, -9, 0], [0, 0, 0], [1, 2, np.nan]], np.float32)
    x_NF, seen_N = compact(features_NF, 5)
    np.testing.assert_array_equal(x_NF[:2], power_normalised(features_NF[:2]))
    assert seen_N.tolist() == [True, True, False] and not x_NF[2].any()
    assert components(2_640, 81, 2304) == 2304
    assert components(300_000, 1_000, 2304) == components(10, 200_000, 2304) == module.COMPONENTS


def test_distances_survive_and_the_result_repeats(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_CELLS", 0)
    monkeypatch.setattr(module, "COMPONENTS", 12)
    rng = np.random.default_rng(0)
    features_NF = (rng.standard_normal((500, 8)) @ rng.standard_normal((8, 40))).astype(np.float32)
    features_NF += 0.01 * rng.standard_normal(features_NF.shape).astype(np.float32)
    compact_NK, _ = compact(features_NF, 5)
    x_NF = power_normalised(features_NF)
    assert compact_NK.shape == (500, 12)
    before, after = (np.linalg.norm(rows[0] - rows, axis=1) for rows in (x_NF, compact_NK))
    np.testing.assert_allclose(after, before, rtol=0.1, atol=0.1)
    np.testing.assert_array_equal(compact(features_NF, 5)[0], compact_NK)


def test_features_in_a_file_are_not_copied_into_memory(monkeypatch: pytest.MonkeyPatch):
    """Photos of a million items have ten gigabytes of features, which were there three times."""
    monkeypatch.setattr(module, "MOST_CELLS", 0)
    monkeypatch.setattr(module, "COMPONENTS", 4)
    monkeypatch.setattr(module, "_SAMPLED", 1_000)
    features_NF = scratch((60_000, 64))
    features_NF[:] = np.random.default_rng(0).standard_normal(64, dtype=np.float32)
    features_NF[7] = np.nan
    tracemalloc.start()
    compact_NK, seen_N = compact(features_NF, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert compact_NK.shape == (60_000, 4) and np.flatnonzero(~seen_N).tolist() == [7]
    assert peak < features_NF.nbytes / 1.5
