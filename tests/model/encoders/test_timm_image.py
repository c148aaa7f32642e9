"""Runs only where timm can be imported; it needs torchvision, which IMMR does not install."""

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

SIDE = 64
MODELS = {"test_vit": 16, "test_convnext": 32, "test_resnet": 32, "test_efficientnet": 32}  # with stride


def _importable() -> bool:
    try:
        import timm  # noqa: F401
    except ImportError:
        return False
    return True


needs_timm = pytest.mark.skipif(not _importable(), reason="timm is not installed")


def timm_folder(architecture: str, folder: Path) -> Any:
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=0).eval()
    save_for_hf(network, str(folder), safe_serialization=True)
    return network


@needs_timm
@pytest.mark.parametrize("architecture", MODELS)
def test_features_are_timms_own_in_torch_and_in_the_graph(architecture: str, tmp_path: Path) -> None:
    import timm

    timm_folder(architecture, tmp_path / "m")
    size = {"img_size": SIDE} if architecture == "test_vit" else {}
    own = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True, num_classes=0, **size).eval()
    spec = image_encoder_spec(str(tmp_path / "m"))
    assert (spec.dim, spec.stride) == (
        own.head_hidden_size if architecture != "test_vit" else 64,
        MODELS[architecture],
    )
    pixels_23SS = torch.rand(2, 3, SIDE, SIDE)
    config = json.loads((tmp_path / "m" / "config.json").read_text())["pretrained_cfg"]
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected_2F = own((pixels_23SS - mean) / std)
        pooled_2F, patches_2PC = load_image_encoder(str(tmp_path / "m"), SIDE)(pixels_23SS)
    torch.testing.assert_close(pooled_2F, expected_2F, atol=1e-5, rtol=1e-4)
    assert pooled_2F.shape == (2, spec.dim)
    assert patches_2PC.shape == (2, (SIDE // spec.stride) ** 2, spec.patch_dim)
    frozen = FrozenImageEncoder(ModelRecipe(image_encoder=str(tmp_path / "m"), image_size_px=SIDE), tmp_path)
    np.testing.assert_allclose(frozen.encode(pixels_23SS.numpy(), "pooled"), expected_2F, atol=1e-4)
    np.testing.assert_allclose(frozen.encode(pixels_23SS.numpy(), "patches"), patches_2PC, atol=1e-4)


@needs_timm
@pytest.mark.parametrize("architecture", MODELS)
def test_stages_hold_every_parameter_once_and_train(architecture: str, tmp_path: Path) -> None:
    timm_folder(architecture, tmp_path / "m")
    encoder = load_image_encoder(str(tmp_path / "m"), SIDE)
    stages = [list(stage.parameters()) for stage in encoder.stages()]
    assert len(stages) >= 4
    held = [id(parameter) for stage in stages for parameter in stage]
    assert sorted(held) == sorted(map(id, encoder.parameters()))
    encoder.requires_grad_(True)
    torch.autograd.backward(encoder(torch.rand(2, 3, SIDE, SIDE))[0].square().sum())
    assert all(any(parameter.grad is not None for parameter in stage) for stage in stages)


def test_without_timm_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "test_vit", "pretrained_cfg": statistics})
    )
    (tmp_path / "model.safetensors").write_bytes(b"")
    imported = builtins.__import__

    def without_timm(name: str, *args: Any, **options: Any) -> Any:
        if name == "timm":
            raise ImportError("No module named 'timm'")
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_timm)
    with pytest.raises(RecipeError, match=r"needs timm.*pip install timm"):
        image_encoder_spec(str(tmp_path))
