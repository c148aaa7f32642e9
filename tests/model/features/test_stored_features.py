"""Features that are read from the cache's files: the same as in memory, and never written a second time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from immr.model.features import stored_features
from immr.model.features.stored_features import StoredFeatures, sampled_rows
from immr.storage.array_store import ArrayStore

VIEWS, DIM = 2, 3


@pytest.fixture
def stored(tmp_path: Path) -> tuple[StoredFeatures, torch.Tensor]:
    """Features of five pictures in several files, without the third, and the same in memory."""
    rows_NVF = torch.randn(5, VIEWS, DIM, generator=torch.Generator().manual_seed(0)).half()
    rows_NVF[2] = 0
    views = []
    for view in range(VIEWS):
        store = ArrayStore(tmp_path / str(view), np.float16)
        for part in ([0, 4], [1, 3]):
            store.add({f"key {row}": rows_NVF[row, view][None].numpy() for row in part})
        views.append(store.find([f"key {row}" if row != 2 else "" for row in range(5)]))
    return StoredFeatures(views, (DIM,)), rows_NVF


def test_they_are_indexed_as_a_tensor_is(stored: tuple[StoredFeatures, torch.Tensor]) -> None:
    features, rows_NVF = stored
    assert (features.shape, len(features)) == (rows_NVF.shape, 5)
    rows_B, views_B = torch.tensor([4, 2, 0, 4]), torch.tensor([1, 0, 0, 0])
    torch.testing.assert_close(features[rows_B, views_B], rows_NVF[rows_B, views_B], rtol=0, atol=0)
    every_V = torch.arange(VIEWS)
    torch.testing.assert_close(
        features[rows_B[:, None], every_V], rows_NVF[rows_B[:, None], every_V], rtol=0, atol=0
    )
    assert features[rows_B[:0], views_B[:0]].shape == (0, DIM)


def test_another_device_gets_a_copy(
    stored: tuple[StoredFeatures, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, rows_NVF = stored
    monkeypatch.setattr(stored_features, "_COPIED_ROWS", 2)
    torch.testing.assert_close(features._copied("cpu"), rows_NVF, rtol=0, atol=0)
    assert features.to("cpu") is features


def test_a_sample_is_spread_evenly_over_the_given_pictures_with_all_views(
    stored: tuple[StoredFeatures, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, rows_NVF = stored
    shown_M = torch.tensor([0, 1, 3, 4])
    for each in (features, rows_NVF):
        places_B, rows_RF = sampled_rows(each, shown_M)
        assert places_B.tolist() == [0, 1, 2, 3]
        torch.testing.assert_close(rows_RF, rows_NVF[shown_M].flatten(0, 1), rtol=0, atol=0)
    monkeypatch.setattr(stored_features, "_SAMPLED_ROWS", 2 * VIEWS)
    places_B, rows_RF = sampled_rows(features, shown_M)
    assert places_B.tolist() == [0, 2]
    torch.testing.assert_close(rows_RF, rows_NVF[[0, 3]].flatten(0, 1), rtol=0, atol=0)
    assert sampled_rows(features, shown_M[:0])[1].shape == (0, DIM)
