from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from immr.errors import RecipeError
from immr.model.encoders.by_name import image_encoder_spec, load_image_encoder, preprocessing_of
from immr.model.encoders.onnx_graph import FrozenImageEncoder
from immr.model.model_recipe import ModelRecipe
from tests.support.tiny_encoders import LAYERS, MEAN, PATCH, SIDE, STD, WIDTH, image_model, text_model

ALL = ("clip", "siglip", "siglip2", "dinov2", "dinov3", "convnext", "convnextv2", "dinov3_convnext")
DIFFERENT = ("siglip2", "dinov3", "convnext")  # the graphs of the others have the parts of these
RESIZED = (("clip", 48), ("siglip2", 48))


def own_features(kind: str, folder: str, scaled_13SS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled and patch features by the library alone, called as its documentation does."""
    import transformers

    vision = {
        "clip": "CLIPVisionModel",
        "siglip": "SiglipVisionModel",
        "siglip2": "Siglip2VisionModel",
    }
    network: Any = getattr(transformers, vision.get(kind, "AutoModel")).from_pretrained(folder).eval()
    side = scaled_13SS.shape[-1]
    with torch.inference_mode():
        if kind == "siglip2":
            from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

            patches_PF = torch.from_numpy(convert_image_to_patches(scaled_13SS[0].numpy(), PATCH))
            grid = torch.tensor([[side // PATCH, side // PATCH]])
            everywhere = torch.ones(1, len(patches_PF), dtype=torch.int64)
            seen = network(patches_PF[None], pixel_attention_mask=everywhere, spatial_shapes=grid)
        else:
            resized = kind in vision and side != SIDE
            options = {"interpolate_pos_encoding": True} if resized else {}
            seen = network(pixel_values=scaled_13SS, **options)
    states = seen.last_hidden_state
    if states.ndim == 4:
        return seen.pooler_output, states.flatten(2).transpose(1, 2)
    patches = (side // PATCH) ** 2
    return seen.pooler_output, states[:, -patches:]


def picture_13SS(recipe: ModelRecipe) -> np.ndarray:
    """A preprocessed picture, pixels in 0…1."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    pixels_13SS: np.ndarray = preprocessing_of(recipe).apply(Image.fromarray(noise))[None]
    assert pixels_13SS.min() >= 0 and pixels_13SS.max() <= 1
    return pixels_13SS


@pytest.mark.parametrize(("kind", "side"), [*((kind, SIDE) for kind in ALL), *RESIZED])
def test_features_are_the_librarys_own(kind: str, side: int, tmp_path: Path) -> None:
    name = image_model(kind, tmp_path / f"tiny-{kind}")
    spec = image_encoder_spec(name)
    assert (spec.dim, spec.patch_dim, spec.stride) == (WIDTH, WIDTH, PATCH)
    pixels_13SS = picture_13SS(ModelRecipe(image_encoder=name, image_size_px=side))
    scaled = (pixels_13SS - np.array(MEAN).reshape(3, 1, 1)) / np.array(STD).reshape(3, 1, 1)
    pooled_1H, patches_1PH = own_features(kind, name, torch.from_numpy(scaled).float())
    assert patches_1PH.shape == (1, (side // PATCH) ** 2, WIDTH)
    with torch.inference_mode():
        ours = load_image_encoder(name, side)(torch.from_numpy(pixels_13SS))
    torch.testing.assert_close(ours, (pooled_1H, patches_1PH), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "side"),
    [
        *(pytest.param(kind, SIDE, marks=() if kind in DIFFERENT else pytest.mark.slow) for kind in ALL),
        *(pytest.param(kind, 48, marks=pytest.mark.slow) for kind, _ in RESIZED),
    ],
)
def test_the_graph_has_the_same_features(kind: str, side: int, tmp_path: Path) -> None:
    name = image_model(kind, tmp_path / f"tiny-{kind}")
    recipe = ModelRecipe(image_encoder=name, image_size_px=side)
    pixels_13SS = picture_13SS(recipe)
    with torch.inference_mode():
        pooled_1H, patches_1PH = load_image_encoder(name, side)(torch.from_numpy(pixels_13SS))
    frozen = FrozenImageEncoder(recipe, tmp_path / "cache")
    np.testing.assert_allclose(frozen.encode(pixels_13SS, "pooled"), pooled_1H, atol=1e-4)
    np.testing.assert_allclose(frozen.encode(pixels_13SS, "patches"), patches_1PH, atol=1e-4)
    two_BH = frozen.encode(np.repeat(pixels_13SS, 2, axis=0), "pooled")
    np.testing.assert_allclose(two_BH[1], pooled_1H[0], atol=1e-4)


@pytest.mark.parametrize("kind", ALL)
def test_stages_hold_every_parameter_once_and_train(kind: str, tmp_path: Path) -> None:
    encoder = load_image_encoder(image_model(kind, tmp_path / kind), SIDE)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    stages = [list(stage.parameters()) for stage in encoder.stages()]
    assert len(stages) >= LAYERS + 1
    held = [id(parameter) for stage in stages for parameter in stage]
    assert sorted(held) == sorted(map(id, encoder.parameters()))
    encoder.requires_grad_(True)
    pooled_BH, _ = encoder(torch.rand(2, 3, SIDE, SIDE))
    torch.autograd.backward(pooled_BH.square().sum())
    assert all(any(parameter.grad is not None for parameter in stage) for stage in stages)


def test_an_image_size_must_be_a_multiple_of_the_patch_size(tmp_path: Path) -> None:
    name = image_model("dinov2", tmp_path / "one")
    with pytest.raises(RecipeError, match=f"multiple of {PATCH}: use 32"):
        preprocessing_of(ModelRecipe(image_encoder=name, image_size_px=33))


def test_unsuitable_folders_are_refused_with_the_reason(tmp_path: Path) -> None:
    text = text_model("bert", tmp_path / "text")
    (tmp_path / "text" / "preprocessor_config.json").write_text(
        '{"image_mean": [0,0,0], "image_std": [1,1,1]}'
    )
    with pytest.raises(RecipeError, match="not a vision model with patches"):
        image_encoder_spec(text)
    picture = image_model("clip", tmp_path / "picture")
    (tmp_path / "picture" / "preprocessor_config.json").unlink()
    with pytest.raises(RecipeError, match="does not state how pixels are scaled"):
        image_encoder_spec(picture)
