from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immr.data.pictures.thumbnails import thumbnail


@pytest.mark.parametrize("square", [False, True])
def test_a_thumbnail_is_small(tmp_path: Path, square: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    source = thumbnail(str(tmp_path / "photo.png"), side_px=64, square=square)
    assert source.startswith("data:image/jpeg;base64,")
    assert len(source) < 6000


def test_a_picture_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    assert thumbnail(str(tmp_path / "text.jpg"), 64) == thumbnail(str(tmp_path / "none.jpg"), 64) == ""
