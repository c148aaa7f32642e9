"""Runs only where open_clip can be imported; it needs torchvision, which IMMR does not install."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from immr.errors import RecipeError
from immr.model.encoders.by_name import image_encoder_spec, load_image_encoder
from immr.model.encoders.onnx_graph import FrozenImageEncoder
from immr.model.model_recipe import ModelRecipe
from tests.support.tiny_encoders import MEAN, PATCH, SIDE, STD

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 24, "head_width": 12, "patch_size": PATCH},
    "text_cfg": {"context_length": 12, "vocab_size": 50, "width": 24, "heads": 2, "layers": 2},
}


def _importable() -> bool:
    try:
        import open_clip  # noqa: F401
    except ImportError:
        return False
    return True


needs_open_clip = pytest.mark.skipif(not _importable(), reason="open_clip is not installed")


def write_config(folder: Path) -> None:
    fields = {"model_cfg": MODEL, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(fields))


def open_clip_folder(folder: Path) -> Any:
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(**MODEL).eval()
    write_config(folder)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


@needs_open_clip
def test_features_are_open_clips_own_in_torch_and_in_the_graph(tmp_path: Path) -> None:
    own = open_clip_folder(tmp_path)
    spec = image_encoder_spec(str(tmp_path))
    assert (spec.dim, spec.patch_dim, spec.stride) == (16, 24, PATCH)
    pixels_23SS = torch.rand(2, 3, SIDE, SIDE)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        expected_2F = own.encode_image((pixels_23SS - mean) / std)
        pooled_2F, patches_2PC = load_image_encoder(str(tmp_path), SIDE)(pixels_23SS)
    torch.testing.assert_close(pooled_2F, expected_2F, atol=1e-5, rtol=1e-4)
    assert patches_2PC.shape == (2, (SIDE // PATCH) ** 2, 24)
    frozen = FrozenImageEncoder(ModelRecipe(image_encoder=str(tmp_path), image_size_px=SIDE), tmp_path / "c")
    np.testing.assert_allclose(frozen.encode(pixels_23SS.numpy(), "pooled"), expected_2F, atol=1e-4)
    np.testing.assert_allclose(frozen.encode(pixels_23SS.numpy(), "patches"), patches_2PC, atol=1e-4)


@needs_open_clip
def test_stages_hold_every_parameter_once_and_train(tmp_path: Path) -> None:
    open_clip_folder(tmp_path)
    encoder = load_image_encoder(str(tmp_path), SIDE)
    stages = [list(stage.parameters()) for stage in encoder.stages()]
    assert len(stages) == 4
    held = [id(parameter) for stage in stages for parameter in stage]
    assert sorted(held) == sorted(map(id, encoder.parameters()))
    encoder.requires_grad_(True)
    torch.autograd.backward(encoder(torch.rand(2, 3, SIDE, SIDE))[0].square().sum())
    assert all(any(parameter.grad is not None for parameter in stage) for stage in stages)


def test_without_open_clip_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from immr.model.encoders import open_clip_image

    imported = builtins.__import__

    def without_open_clip(name: str, *args: Any, **options: Any) -> Any:
        if name == "open_clip":
            raise ImportError("No module named 'open_clip'")
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_open_clip)
    with pytest.raises(RecipeError, match=r"needs open_clip.*pip install open_clip_torch"):
        open_clip_image._open_clip()
