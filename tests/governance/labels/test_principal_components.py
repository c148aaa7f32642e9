"""Principal components stand for the features of large sets, and leave small ones alone."""

from __future__ import annotations

import numpy as np
import pytest

from immr.governance.labels import principal_components as module
from immr.governance.labels.principal_components import compact, components


def test_small_sets_are_kept_whole():
    x_NF = np.ones((4, 3), np.float32)
    assert compact(x_NF, 5) is x_NF
    assert components(2_640, 81, 2304) == 2304
    assert components(300_000, 1_000, 2304) == components(10, 200_000, 2304) == module.COMPONENTS


def test_distances_survive_and_the_result_repeats(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_CELLS", 0)
    monkeypatch.setattr(module, "COMPONENTS", 12)
    rng = np.random.default_rng(0)
    x_NF = (rng.standard_normal((500, 8)) @ rng.standard_normal((8, 40))).astype(np.float32)
    x_NF += 0.01 * rng.standard_normal(x_NF.shape).astype(np.float32)
    compact_NK = compact(x_NF, 5)
    assert compact_NK.shape == (500, 12)
    before, after = (np.linalg.norm(rows[0] - rows, axis=1) for rows in (x_NF, compact_NK))
    np.testing.assert_allclose(after, before, rtol=0.01, atol=0.1)
    np.testing.assert_array_equal(compact(x_NF, 5), compact_NK)
