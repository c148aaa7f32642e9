"""Image towers of `open_clip` models as image encoders; the library is an optional install.

Shapes: B pictures, S image side in pixels, P patches, F embedding size, C width of the tower.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from immr.errors import RecipeError
from immr.model.encoders import timm_image
from immr.model.encoders.model_folder import (
    CONFIG,
    OPEN_CLIP_CONFIG,
    folder_of,
    label_of,
    read_json,
    weights_of,
)
from immr.model.encoders.pixel_scaling import PixelScaling, checked_statistics
from immr.model.encoders.specs import ImageEncoderSpec

_INPUT_PARTS = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "patch_dropout")


def is_model(folder: Path) -> bool:
    """Whether the folder is an `open_clip` model that `transformers` cannot load as well."""
    return (folder / OPEN_CLIP_CONFIG).is_file() and "model_type" not in read_json(folder, CONFIG)


def spec_of(name: str) -> ImageEncoderSpec:
    """The encoder's sizes, from a model built without weights. It takes pixels in 0…1.

    Raises:
        RecipeError: there is no such model, or `open_clip` is not installed or does not know it.
    """
    folder = folder_of(name)
    channel_statistics(folder)
    sizes = _sizes(folder)
    return ImageEncoderSpec(label_of(name, folder), weights_of(folder), *sizes, mean=0.0, std=255.0)


def load(spec: ImageEncoderSpec, image_size_px: int) -> OpenClipImage:
    """The pretrained encoder, frozen."""
    return OpenClipImage(spec, image_size_px)


def channel_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, for pixels in 0…1.

    Raises:
        RecipeError: the config does not have them.
    """
    fields = read_json(folder, OPEN_CLIP_CONFIG).get("preprocess_cfg", {})
    return checked_statistics(fields.get("mean"), fields.get("std"), f"{OPEN_CLIP_CONFIG} in {folder}")


class OpenClipImage(nn.Module):
    """Pixels in 0…1 to the image embedding before its norm, and the last patch features of the tower."""

    def __init__(self, spec: ImageEncoderSpec, image_size_px: int):
        super().__init__()
        folder = spec.weights.parent
        self.scale = PixelScaling(*channel_statistics(folder))
        model = _open_clip().create_model(f"local-dir:{folder}", force_image_size=image_size_px)
        self.network: Any = model.visual
        self.eval().requires_grad_(False)

    def stages(self) -> list[nn.Module]:
        """The trainable parts from input to output; towers of an unknown build are one part."""
        network = self.network
        if hasattr(network, "trunk"):
            return [*timm_image.stages_of(network.trunk), *_nonempty([network.head])]
        if not hasattr(network, "transformer"):
            return [network]
        blocks = network.transformer.resblocks
        in_blocks = set(blocks.parameters())
        around = [pair for pair in network.named_parameters() if pair[1] not in in_blocks]
        before = [parameter for name, parameter in around if name.startswith(_INPUT_PARTS)]
        after = [parameter for name, parameter in around if not name.startswith(_INPUT_PARTS)]
        return _nonempty([nn.ParameterList(before), *blocks, nn.ParameterList(after)])

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, F) and patch features (B, P, C)."""
        seen = self.network.forward_intermediates(
            self.scale(pixels_B3SS), indices=1, normalize_intermediates=True, output_fmt="NLC"
        )
        return seen["image_features"], seen["image_intermediates"][-1]


def _nonempty(parts: list[nn.Module]) -> list[nn.Module]:
    return [part for part in parts if any(True for _ in part.parameters())]


@functools.lru_cache(maxsize=8)
def _sizes(folder: Path) -> timm_image.Sizes:
    model = read_json(folder, OPEN_CLIP_CONFIG).get("model_cfg", {})
    tower = model.get("vision_cfg", {})
    try:
        if "timm_model_name" in tower:
            with torch.device("meta"):
                trunk = _open_clip().create_model(f"local-dir:{folder}", load_weights=False).visual.trunk
            stride = int(list(trunk.feature_info)[-1]["reduction"])
            return timm_image.Sizes(model["embed_dim"], trunk.num_features, stride)
        return timm_image.Sizes(model["embed_dim"], tower["width"], tower["patch_size"])
    except (KeyError, RuntimeError) as error:
        raise RecipeError(
            f"{folder} is not an open_clip model with a vision transformer or a timm tower ({error!r}): "
            "choose another model"
        ) from error


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise RecipeError(
            f"this encoder needs open_clip, which cannot be imported ({error}): run "
            "`pip install open_clip_torch` with the torchvision that matches your torch"
        ) from error
    return open_clip
