import pytest
from PIL import Image

from immr.errors import ImageError
from immr.model.encoders.onnx_graph import FrozenImageEncoder
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from tests.support.tiny_training_set import MODEL


def test_shares_together_compute_everything_once(training_set, cache_dir, tmp_path):
    (tmp_path / "encoders").symlink_to(cache_dir / "encoders")
    FrozenImageEncoder(MODEL, cache_dir)
    features = ImageFeatures(MODEL, tmp_path)
    hashes = image_hashes([query.image for query in training_set.queries[:5]])
    features.compute(hashes, ["fit", "crop-1"], Share(0, 2))
    assert len(features.known(list(hashes.values()), ["fit", "crop-1"])) == 3
    features.compute(hashes, ["fit", "crop-1"], Share(1, 2))
    stored = features.read(list(hashes.values()), ["fit", "crop-1"])
    assert stored.shape == (5, 2, features.dim)
    shards = sorted((tmp_path / "features").rglob("*.arrow"))
    features.compute(hashes, ["fit", "crop-1"])
    assert sorted((tmp_path / "features").rglob("*.arrow")) == shards


def test_a_broken_picture_is_logged_and_reading_its_features_fails(cache_dir, tmp_path, caplog):
    broken, good = tmp_path / "broken.jpg", tmp_path / "good.png"
    broken.write_bytes(b"not a picture")
    Image.new("RGB", (70, 70), "red").save(good)
    features = ImageFeatures(MODEL, cache_dir)
    hashes = image_hashes([str(broken), str(good)])
    features.compute(hashes, ["fit"])
    assert "broken.jpg" in caplog.text
    assert features.read([hashes[str(good)]], ["fit"]).shape == (1, 1, features.dim)
    with pytest.raises(ImageError, match="check_images"):
        features.read(list(hashes.values()), ["fit"])


def test_a_picture_that_has_changed_gets_no_features_under_the_hash_of_its_earlier_content(
    cache_dir, tmp_path, caplog
):
    path = tmp_path / "changed.png"
    Image.effect_noise((70, 70), 41).convert("RGB").save(path)
    hashes = image_hashes([str(path)])
    Image.effect_noise((70, 70), 42).convert("RGB").save(path)
    features = ImageFeatures(MODEL, cache_dir)
    features.compute(hashes, ["fit"])
    assert "changed.png has changed" in caplog.text
    with pytest.raises(ImageError, match="changed since `immr govern` read them"):
        features.read(list(hashes.values()), ["fit"])
    renewed = image_hashes([str(path)])
    features.compute(renewed, ["fit"])
    assert features.known(list(renewed.values()), ["fit"]) == set(renewed.values())
