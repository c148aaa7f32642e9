from typing import Any

import numpy as np
import pytest

from immr.governance.splits import scenes as scenes_file
from immr.governance.splits.scenes import centred, scenes, typical_distance
from immr.types import FloatArray


def shots(scene_of: list[int], spread: float = 0.02) -> FloatArray:
    """Photos around one centre per scene, with unit rows."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(scene_of) + 1, 32))
    photos = centres[scene_of] + spread * rng.standard_normal((len(scene_of), 32))
    return (photos / np.linalg.norm(photos, axis=1, keepdims=True)).astype(np.float32)


def test_near_copies_of_one_class_share_a_scene() -> None:
    scene_of = [0, 0, 1, 1, 2, 3]
    found = scenes(shots(scene_of), np.zeros(6, np.int64), reach=0.2)
    assert found.tolist() == [0, 0, 2, 2, 4, 5]


def test_scenes_never_cross_classes() -> None:
    found = scenes(shots([0, 0, 1, 2]), np.array([0, 1, 0, 1]), reach=0.2)
    assert len(set(found.tolist())) == 4


def test_photos_that_belong_together_share_a_scene_whatever_their_appearance() -> None:
    found = scenes(shots([0, 1, 2, 3]), np.zeros(4, np.int64), 0.2, np.array([7, -1, 7, -1]))
    assert found.tolist() == [0, 1, 0, 3]


def test_a_scene_is_named_by_its_first_row_in_any_order() -> None:
    scene_of = np.array([0, 1, 0, 2, 1, 2])
    photos = shots(scene_of.tolist())
    order = np.random.default_rng(1).permutation(6)
    one = scenes(photos, np.zeros(6, np.int64), 0.2)
    other = scenes(photos[order], np.zeros(6, np.int64), 0.2)
    assert (one == np.array([0, 1, 0, 3, 1, 3])).all()
    assert ((other[:, None] == other) == (scene_of[order][:, None] == scene_of[order])).all()


def test_distances_within_a_class() -> None:
    photos = np.eye(4, dtype=np.float32)
    order = np.arange(4.0)
    assert typical_distance(photos, np.zeros(4, np.int64), order) == pytest.approx(1.0)
    assert typical_distance(photos[[0, 0]], np.zeros(2, np.int64), order[:2]) == 0.0
    assert typical_distance(photos, np.arange(4), order) == 1.0  # no pair


def test_a_row_at_the_mean_stays_zero() -> None:
    rows = centred(np.array([[1, 0], [-1, 0], [0, 0]], np.float32))
    assert rows.tolist() == [[1, 0], [-1, 0], [0, 0]]


def test_many_small_classes_are_joined_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    joined, calls = scenes_file._joined, []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return joined(*arguments)

    monkeypatch.setattr(scenes_file, "_joined", counted)
    scene_of = [photo // 2 for photo in range(2000)]
    found = scenes(shots(scene_of, spread=0.2), np.array(scene_of), reach=5)
    assert found.tolist() == [photo // 2 * 2 for photo in range(2000)]
    assert len(calls) == 1


def test_small_blocks_give_the_same_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = shots([photo % 40 for photo in range(300)])
    class_N = np.arange(300) % 80 // 20
    expected = scenes(photos, class_N, 0.2)
    assert 4 < len(set(expected.tolist())) < 300
    monkeypatch.setattr(scenes_file, "_BLOCK_CELLS", 200)
    monkeypatch.setattr(scenes_file, "_JOINED_PAIRS", 3)
    assert scenes(photos, class_N, 0.2).tolist() == expected.tolist()
