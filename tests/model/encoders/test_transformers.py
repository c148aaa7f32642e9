import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from immr.errors import RecipeError
from immr.model.encoders.by_name import (
    image_encoder_spec,
    load_image_encoder,
    load_text_encoder,
    preprocessing_of,
    text_encoder_spec,
)
from immr.model.encoders.graph import FrozenImageEncoder
from immr.model.model_recipe import ModelRecipe

SIDE, PATCH, WIDTH = 32, 8, 16
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
TINY = {
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fresh", "milk", "brown", "bread"]


def _image_model(kind: str, folder: Path) -> str:
    import transformers

    torch.manual_seed(0)
    sizes = TINY | {"image_size": SIDE, "patch_size": PATCH}
    if kind == "clip":
        model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes))
    elif kind == "siglip":
        model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sizes))
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return str(folder)


def _text_model(kind: str, folder: Path) -> str:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    sizes = TINY | {"vocab_size": len(WORDS), "max_position_embeddings": 12, "pad_token_id": 0}
    if kind == "clip":
        model = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(**sizes, bos_token_id=2, eos_token_id=3)
        )
    elif kind == "siglip":
        model = transformers.SiglipTextModel(
            transformers.SiglipTextConfig(**sizes, bos_token_id=2, eos_token_id=3)
        )
    else:
        model = transformers.BertModel(transformers.BertConfig(**sizes))
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(("kind", "side"), [("clip", SIDE), ("siglip", SIDE), ("dinov2", SIDE), ("clip", 48)])
def test_a_vision_model_gives_its_own_features_and_its_graph_the_same(kind, side, tmp_path):
    import transformers

    name = _image_model(kind, tmp_path / f"tiny-{kind}")
    recipe = ModelRecipe(image_encoder=name, image_size_px=side)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8))
    pixels_13SS = preprocessing_of(recipe).apply(picture)[None]
    assert pixels_13SS.min() >= 0 and pixels_13SS.max() <= 1

    frozen = FrozenImageEncoder(recipe, tmp_path / "cache")
    pooled_1H, patches_1PH = frozen.encode(pixels_13SS, "pooled"), frozen.encode(pixels_13SS, "patches")
    patches = (side // PATCH) ** 2
    assert pooled_1H.shape == (1, WIDTH) and patches_1PH.shape == (1, patches, WIDTH)

    loader = {"clip": transformers.CLIPVisionModel, "siglip": transformers.SiglipVisionModel}
    own = loader.get(kind, transformers.Dinov2Model).from_pretrained(name).eval()
    scaled = (pixels_13SS - np.array(MEAN).reshape(3, 1, 1)) / np.array(STD).reshape(3, 1, 1)
    options = {"interpolate_pos_encoding": True} if side != SIDE else {}
    with torch.inference_mode():
        expected = own(pixel_values=torch.from_numpy(scaled).float(), **options)
    np.testing.assert_allclose(pooled_1H, expected.pooler_output, atol=1e-4)
    np.testing.assert_allclose(patches_1PH, expected.last_hidden_state[:, -patches:], atol=1e-4)
    two_BH = frozen.encode(np.repeat(pixels_13SS, 2, axis=0), "pooled")
    np.testing.assert_allclose(two_BH[1], pooled_1H[0], atol=1e-5)


def test_a_vision_model_of_other_pixels_is_another_encoder(tmp_path):
    one = image_encoder_spec(_image_model("dinov2", tmp_path / "one"))
    assert (one.dim, one.patch_dim, one.stride) == (WIDTH, WIDTH, PATCH)
    encoder = load_image_encoder(str(tmp_path / "one"), SIDE)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    with pytest.raises(RecipeError, match=f"multiple of {PATCH}: take 32"):
        preprocessing_of(ModelRecipe(image_encoder=str(tmp_path / "one"), image_size_px=33))


@pytest.mark.parametrize("kind", ["clip", "siglip", "bert"])
def test_a_text_model_gives_masked_tokens_whatever_else_is_in_the_batch(kind, tmp_path):
    name = _text_model(kind, tmp_path / f"tiny-{kind}")
    assert text_encoder_spec(name).dim == WIDTH
    encoder = load_text_encoder(name)
    tokens_BTE, mask_BT = encoder.encode(["fresh milk", "brown bread and fresh milk"], max_tokens=8)
    assert tokens_BTE.shape[::2] == (2, WIDTH) and mask_BT.sum(1).tolist() == [2, 5]
    alone_BTE, _ = encoder.encode(["fresh milk"], max_tokens=8)
    torch.testing.assert_close(tokens_BTE[0, :2], alone_BTE[0, :2], atol=1e-5, rtol=1e-4)
    long_BTE, _ = encoder.encode(["milk " * 40], max_tokens=99)
    assert long_BTE.shape[1] == 12


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_an_encoder_learns_in_stages(kind, tmp_path):
    encoder = load_image_encoder(_image_model(kind, tmp_path / kind), SIDE)
    stages = [list(stage.parameters()) for stage in encoder.stages()]
    assert len(stages) == 1 + TINY["num_hidden_layers"] + 1
    assert {id(parameter) for stage in stages for parameter in stage} == set(map(id, encoder.parameters()))
    encoder.requires_grad_(True)
    pooled_BH, _ = encoder(torch.rand(2, 3, SIDE, SIDE))
    torch.autograd.backward(pooled_BH.square().sum())
    assert all(any(parameter.grad is not None for parameter in stage) for stage in stages)


def test_what_is_no_encoder_says_what_to_take(tmp_path):
    with pytest.raises(RecipeError, match=r"owner/model.*path of its folder"):
        image_encoder_spec("resnet")
    with pytest.raises(RecipeError, match=r"owner/model.*path of its folder"):
        text_encoder_spec(str(tmp_path))
    text = _text_model("bert", tmp_path / "text")
    with pytest.raises(RecipeError, match="no vision model that encodes patches"):
        image_encoder_spec(text)
    picture = _image_model("clip", tmp_path / "picture")
    with pytest.raises(RecipeError, match="no text model"):
        text_encoder_spec(picture)
    (tmp_path / "picture" / "preprocessor_config.json").unlink()
    with pytest.raises(RecipeError, match="how pixels are scaled"):
        image_encoder_spec(picture)
    (tmp_path / "text" / "config.json").write_text("{")
    with pytest.raises(RecipeError, match="is no JSON"):
        text_encoder_spec(text)
