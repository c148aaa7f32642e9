import numpy as np

from immr.model.features.feature_cache import FeatureCache


def _entries(*keys: str) -> dict[str, np.ndarray]:
    return {key: np.full((index + 1, 3), index, dtype=np.float16) for index, key in enumerate(keys)}


def test_ragged_entries_round_trip(tmp_path):
    cache = FeatureCache(tmp_path / "space")
    entries = _entries("c", "a", "b")
    cache.add(entries)
    cache.add(_entries("d"))
    found = cache.read(["a", "b", "c", "d", "unknown"])
    assert found.keys() == {"a", "b", "c", "d"}
    for key, values in entries.items():
        np.testing.assert_array_equal(found[key], values)


def test_nothing_is_written_for_no_entries(tmp_path):
    cache = FeatureCache(tmp_path / "space")
    cache.add({})
    assert cache.read(["a"]) == {}
    assert not (tmp_path / "space").exists()


def test_a_broken_shard_is_deleted_and_the_others_stay(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.add(_entries("a"))
    broken = next(tmp_path.glob("*.npz"))
    broken.write_bytes(broken.read_bytes()[:100])
    cache.add(_entries("b"))
    assert cache.read(["a", "b"]).keys() == {"b"}
    assert not broken.exists()


def test_a_half_written_shard_is_never_read(tmp_path):
    FeatureCache(tmp_path).add(_entries("a"))
    whole = next(tmp_path.glob("*.npz"))
    whole.rename(tmp_path / f".{whole.name}.aside.npz")
    assert FeatureCache(tmp_path).read(["a"]) == {}


def test_only_shards_with_a_wanted_key_are_read(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.add(_entries("a", "b"))
    other = next(tmp_path.glob("*.npz"))
    cache.add(_entries("c"))
    content = bytearray(other.read_bytes())
    at = content.index(b"values.npy") + 200  # in the values: their checksum no longer fits
    content[at] ^= 0xFF
    other.write_bytes(content)
    assert cache.read(["c"]).keys() == {"c"}
    assert other.exists()
    assert cache.read(["a"]) == {} and not other.exists()
