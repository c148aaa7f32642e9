import numpy as np
import pytest
from PIL import Image

from immr.errors import ImageError
from immr.model.features.image_features import Share, image_hashes
from immr.model.features.pixels import PixelCache


@pytest.fixture
def hashes(tmp_path) -> dict[str, str]:
    paths = []
    for number, size in enumerate([(60, 40), (40, 200), (48, 48)]):
        path = tmp_path / f"{number}.png"
        Image.effect_noise(size, 60).convert("RGB").save(path)
        paths.append(str(path))
    return image_hashes(paths)


def test_pictures_are_read_back_with_their_short_side(hashes, tmp_path):
    cache = PixelCache(tmp_path / "cache", 20)
    cache.compute(hashes)
    pictures = PixelCache(tmp_path / "cache", 20).read(list(hashes.values()))
    assert [picture.shape for picture in pictures] == [(20, 30, 3), (40, 20, 3), (20, 20, 3)]
    assert all(picture.base is not None and picture.dtype == np.uint8 for picture in pictures)
    whole = np.asarray(Image.open(next(iter(hashes))).resize((30, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pictures[0], whole)


def test_threads_decode_the_same(hashes, tmp_path):
    found = []
    for threads in (1, 3):
        cache = PixelCache(tmp_path / f"{threads}", 20)
        cache.compute(hashes, Share(threads=threads))
        found.append(cache.read(list(hashes.values())))
    for one, several in zip(*found, strict=True):
        np.testing.assert_array_equal(one, several)


def test_shares_decode_everything_once(hashes, tmp_path):
    cache = PixelCache(tmp_path / "cache", 20)
    cache.compute(hashes, Share(0, 2))
    with pytest.raises(ImageError, match="1 broken pictures are not in the cache"):
        cache.read(list(hashes.values()))
    cache.compute(hashes, Share(1, 2))
    shards = sorted((tmp_path / "cache").rglob("*.arrow"))
    cache.compute(hashes)
    assert len(cache.read(list(hashes.values()))) == 3
    assert sorted((tmp_path / "cache").rglob("*.arrow")) == shards


def test_a_truncated_file_is_decoded_again(hashes, tmp_path):
    cache = PixelCache(tmp_path / "cache", 20)
    cache.compute(hashes)
    [file] = (tmp_path / "cache").rglob("*.arrow")
    file.write_bytes(file.read_bytes()[:1000])
    again = PixelCache(tmp_path / "cache", 20)
    with pytest.raises(ImageError):
        again.read(list(hashes.values()))
    again.compute(hashes)
    assert len(again.read(list(hashes.values()))) == 3


def test_a_broken_picture_is_left_out(hashes, tmp_path, caplog):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    cache = PixelCache(tmp_path / "cache", 20)
    cache.compute(hashes | image_hashes([str(broken)]))
    assert "broken.jpg" in caplog.text
    assert len(cache.read(list(hashes.values()))) == 3
