import numpy as np
import pytest
import torch
from PIL import Image

from immr.errors import ImageError, RecipeError
from immr.model.encoders.by_name import (
    image_encoder_spec,
    load_image_encoder,
    load_text_encoder,
    preprocessing_of,
    text_encoder_spec,
)
from immr.model.encoders.graph import FrozenImageEncoder
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.features.text_features import TextFeatures
from immr.model.model_recipe import ModelRecipe
from tests.support.tiny_training_set import MODEL


def test_unknown_names_and_sizes_say_what_to_take():
    with pytest.raises(RecipeError, match="take one of: efficientnet-lite0"):
        image_encoder_spec("resnet")
    with pytest.raises(RecipeError, match="take one of: minilm"):
        text_encoder_spec("bert")
    with pytest.raises(RecipeError, match="multiple of 32: take 96"):
        preprocessing_of(ModelRecipe(image_size_px=100))


def test_the_graph_computes_what_torch_computes(cache_dir, capsys):
    encoder = load_image_encoder(MODEL.image_encoder, MODEL.image_size_px)
    assert capsys.readouterr().out == ""
    pixels_B3SS = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        pooled_BF, patches_BPF = encoder(torch.from_numpy(pixels_B3SS))
    frozen = FrozenImageEncoder(MODEL, cache_dir)
    assert pooled_BF.shape == (3, image_encoder_spec(MODEL.image_encoder).dim)
    assert patches_BPF.shape == (3, 4, image_encoder_spec(MODEL.image_encoder).patch_dim)
    np.testing.assert_allclose(frozen.encode(pixels_B3SS, "pooled"), pooled_BF, atol=1e-5)
    np.testing.assert_allclose(frozen.encode(pixels_B3SS, "patches"), patches_BPF, atol=1e-4)
    np.testing.assert_allclose(frozen.encode(pixels_B3SS[:1], "pooled"), pooled_BF[:1], atol=1e-5)


@pytest.mark.parametrize(("name", "dim"), [("efficientnet-lite1", 2304), ("efficientnet-lite2", 2400)])
def test_larger_encoders_by_name(name, dim):
    encoder = load_image_encoder(name, 64)
    learned = sum(parameter.numel() for stage in encoder.stages() for parameter in stage.parameters())
    head_of_imagenet = 1280 * 1000 + 1000
    assert learned + head_of_imagenet == sum(parameter.numel() for parameter in encoder.parameters())
    with torch.inference_mode():
        pooled_BF, patches_BPF = encoder(torch.zeros(1, 3, 64, 64))
    assert image_encoder_spec(name).dim == dim
    assert pooled_BF.shape == (1, dim)
    assert patches_BPF.shape == (1, 4, image_encoder_spec(name).patch_dim)


def test_text_tokens_are_masked_and_do_not_depend_on_the_batch():
    encoder = load_text_encoder("minilm")
    tokens_BTE, mask_BT = encoder.encode(["milk", "a bottle of fresh organic whole milk"], max_tokens=6)
    assert tokens_BTE.shape == (2, 6, 384)
    assert mask_BT.sum(1).tolist() == [3, 6]
    alone_BTE, _ = encoder.encode(["milk"], max_tokens=6)
    torch.testing.assert_close(tokens_BTE[0, :3], alone_BTE[0, :3], atol=1e-4, rtol=1e-4)


def test_text_features_are_cached_and_empty_texts_have_no_tokens(tmp_path):
    features = TextFeatures(MODEL, tmp_path)
    features.compute(["milk", "", "brown bread", "milk"])
    tokens_NTE, mask_NT = TextFeatures(MODEL, tmp_path).read(["brown bread", "", "milk"])
    assert mask_NT.sum(1).tolist() == [4, 0, 3]
    assert tokens_NTE.shape == (3, 4, 384)
    assert not tokens_NTE[~mask_NT].any()


def test_shares_together_compute_everything_once(training_set, cache_dir, tmp_path):
    (tmp_path / "encoders").symlink_to(cache_dir / "encoders")
    FrozenImageEncoder(MODEL, cache_dir)
    features = ImageFeatures(MODEL, tmp_path)
    hashes = image_hashes([query.image for query in training_set.queries[:5]])
    features.compute(hashes, ["fit", "crop-1"], Share(0, 2))
    assert len(features.known(list(hashes.values()), ["fit", "crop-1"])) == 3
    features.compute(hashes, ["fit", "crop-1"], Share(1, 2))
    rows_NVLF = features.read(list(hashes.values()), ["fit", "crop-1"])
    assert rows_NVLF.shape == (5, 2, 1, features.dim)
    shards = sorted((tmp_path / "features").rglob("*.npz"))
    features.compute(hashes, ["fit", "crop-1"])
    assert sorted((tmp_path / "features").rglob("*.npz")) == shards


def test_a_broken_picture_is_named_where_it_is_needed(cache_dir, tmp_path, caplog):
    broken, good = tmp_path / "broken.jpg", tmp_path / "good.png"
    broken.write_bytes(b"not a picture")
    Image.new("RGB", (70, 70), "red").save(good)
    features = ImageFeatures(MODEL, cache_dir)
    hashes = image_hashes([str(broken), str(good)])
    features.compute(hashes, ["fit"])
    assert "broken.jpg" in caplog.text
    assert features.read([hashes[str(good)]], ["fit"]).shape == (1, 1, 1, features.dim)
    with pytest.raises(ImageError, match="check_images"):
        features.read(list(hashes.values()), ["fit"])
