from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immr.evaluation.matches import photos
from immr.evaluation.matches.photos import LabelledPictures, changed_copy, embed_with_textures, fitted
from tests.support import tiny_version


@pytest.fixture
def pictures(tmp_path: Path) -> LabelledPictures:
    uris = [item.image for item in tiny_version.items(tmp_path / "pictures")]
    return LabelledPictures(uris, range(len(uris)))


def test_a_changed_copy_is_the_same_for_a_seed_and_another_for_each() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    copies = [changed_copy(Image.fromarray(levels), np.random.default_rng(seed)) for seed in (*range(9), 0)]
    assert copies[0] == copies[-1]
    assert len({copy.tobytes() for copy in copies}) == 9
    assert {copy.size for copy in copies} > {(80, 60)}, "some are framed more tightly"


def test_the_domain_is_fitted_to_photos_changed_copies_and_the_catalogue(
    tmp_path: Path, pictures: LabelledPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_version.write_files(tmp_path / "version", textures=True)
    monkeypatch.setattr(photos, "MOST", 4)
    catalogue = LabelledPictures([*pictures.uris[:3], str(tmp_path / "gone.png")], range(4))
    found = fitted(folder, pictures, catalogue)
    assert found.classes_N.tolist() == [0, 2, 4, 0, 4, 0, 2]
    _, plain_NT = embed_with_textures(folder, pictures.uris)
    assert plain_NT is not None and found.textures_NT is not None
    assert np.array_equal(found.textures_NT[[0, 1, 2, 5, 6]], plain_NT[[0, 2, 4, 0, 2]])
    assert not np.allclose(found.textures_NT[[3, 4]], plain_NT[[0, 4]], atol=1e-3)


def test_a_version_of_an_earlier_release_has_no_textures(tmp_path: Path, pictures: LabelledPictures) -> None:
    found = fitted(tiny_version.write_files(tmp_path / "version"), pictures, pictures)
    assert found.textures_NT is None
    assert found.classes_N.tolist() == list(range(5)), "photos alone"
