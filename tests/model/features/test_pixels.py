import numpy as np
import pytest
from PIL import Image

from immr.errors import ImageError
from immr.model.features import pixels
from immr.model.features.image_features import Share, image_hashes
from immr.model.features.pixels import PixelCache
from immr.storage.array_store import ArrayStore


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


def test_threads_and_processes_decode_the_same(hashes, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_GROUP", 2)
    found = []
    for threads, has_gpu in ((1, False), (3, False), (2, True)):
        monkeypatch.setattr(pixels, "_has_gpu", lambda has_gpu=has_gpu: has_gpu)
        cache = PixelCache(tmp_path / f"{threads}", 20)
        cache.compute(hashes, Share(threads=threads))
        found.append(cache.read(list(hashes.values())))
    for one, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_array_equal(one, other)


def test_shards_hold_at_least_so_many_pictures(hashes, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_GROUP", 1)
    monkeypatch.setattr(pixels, "_SHARD_PICTURES", 2)
    monkeypatch.setattr(ArrayStore, "_merge_small", lambda _: None)
    PixelCache(tmp_path / "cache", 20).compute(hashes)
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 2


def test_shares_decode_everything_once(hashes, tmp_path):
    cache = PixelCache(tmp_path / "cache", 20)
    cache.compute(hashes, Share(0, 2))
    with pytest.raises(ImageError, match=r"not in the cache.*: 1, "):
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


def test_a_picture_that_has_changed_is_not_stored_under_the_hash_of_its_earlier_content(
    hashes, tmp_path, caplog
):
    changed, *_ = hashes
    Image.effect_noise((60, 40), 90).convert("RGB").save(changed)
    cache = PixelCache(tmp_path / "cache", 20)
    cache.compute(hashes)
    assert "has changed" in caplog.text
    with pytest.raises(
        ImageError, match=r"not in the cache.*have changed since `immr govern` read them: 1, "
    ):
        cache.read(list(hashes.values()))


def test_shards_hold_the_same_pixels_and_are_reused(hashes, tmp_path):
    keys = list(hashes.values())
    local = PixelCache(tmp_path / "cache", 20)
    local.compute(hashes)
    url = (tmp_path / "shards").as_uri()
    for rank in (0, 1):
        PixelCache(tmp_path, 20, url=url).compute(hashes, Share(rank, 2))
    written = sorted((tmp_path / "shards").rglob("*.*"))
    again = PixelCache(tmp_path, 20, url=url)
    again.compute(hashes)
    pixels = again.read(keys)
    for ours, theirs in zip(pixels.take(range(3)), local.read(keys).take(range(3)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert pixels.read_ahead and sorted((tmp_path / "shards").rglob("*.*")) == written
    assert not (tmp_path / "pixels").exists()


def test_a_picture_with_new_content_is_stored_again(hashes, tmp_path):
    url = (tmp_path / "shards").as_uri()
    cache = PixelCache(tmp_path, 20, url=url)
    cache.compute(hashes)
    before = cache.read(list(hashes.values())).take(range(3))
    changed, *_ = hashes
    Image.effect_noise((60, 40), 90).convert("RGB").save(changed)
    renewed = image_hashes(list(hashes))
    with pytest.raises(ImageError, match=r"not in the cache.*: 1, "):
        cache.read(list(renewed.values()))
    cache.compute(renewed)
    after = cache.read(list(renewed.values())).take(range(3))
    assert [np.array_equal(*pair) for pair in zip(before, after, strict=True)] == [False, True, True]
