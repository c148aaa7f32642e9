"""Models of `timm` as image encoders; the library is an optional install.

Shapes: B pictures, S image side in pixels, P patches, F features, T tokens, C channels.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from immr.errors import RecipeError
from immr.model.encoders.model_folder import CONFIG, folder_of, label_of, read_json, weights_of
from immr.model.encoders.pixel_scaling import PixelScaling, checked_statistics
from immr.model.encoders.specs import ImageEncoderSpec


class Sizes(NamedTuple):
    """Sizes that a model states only once it is built."""

    dim: int
    patch_dim: int
    stride: int


def is_model(folder: Path) -> bool:
    """Whether the folder is a `timm` model: its config names an architecture and no `model_type`."""
    config = read_json(folder, CONFIG)
    return "architecture" in config and "model_type" not in config


def spec_of(name: str) -> ImageEncoderSpec:
    """The encoder's sizes, from a model built without weights. It takes pixels in 0…1.

    Raises:
        RecipeError: there is no such model, `timm` is not installed, or it does not know the architecture.
    """
    folder = folder_of(name)
    channel_statistics(folder)
    sizes = _sizes(folder)
    return ImageEncoderSpec(label_of(name, folder), weights_of(folder), *sizes, mean=0.0, std=255.0)


def load(spec: ImageEncoderSpec, image_size_px: int) -> TimmImage:
    """The pretrained encoder, frozen."""
    return TimmImage(spec, image_size_px)


def channel_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, for pixels in 0…1.

    Raises:
        RecipeError: the config does not have them.
    """
    config = read_json(folder, CONFIG)
    fields = config.get("pretrained_cfg", config)
    return checked_statistics(fields.get("mean"), fields.get("std"), f"config.json in {folder}")


class TimmImage(nn.Module):
    """Pixels in 0…1 to the model's pooled features before its classifier, and its last patch features."""

    def __init__(self, spec: ImageEncoderSpec, image_size_px: int):
        super().__init__()
        folder = spec.weights.parent
        self.scale = PixelScaling(*channel_statistics(folder))
        fields = read_json(folder, CONFIG).get("pretrained_cfg", {})
        # vision transformers have one position per patch, which timm resizes if it knows the size
        size = {"img_size": image_size_px} if fields.get("fixed_input_size") else {}
        self.network: Any = _timm().create_model(
            f"local-dir:{folder}", pretrained=True, num_classes=0, **size
        )
        self.eval().requires_grad_(False)

    def stages(self) -> list[nn.Module]:
        """The trainable parts from input to output, as timm groups them for layer-wise rates."""
        return stages_of(self.network)

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, F) and patch features (B, P, C)."""
        seen = self.network.forward_features(self.scale(pixels_B3SS))
        pooled_BF = self.network.forward_head(seen, pre_logits=True)
        if seen.ndim == 3:  # tokens, the class and register tokens first
            return pooled_BF, seen[:, getattr(self.network, "num_prefix_tokens", 0) :]
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return pooled_BF, seen.flatten(1, 2)
        return pooled_BF, seen.flatten(2).transpose(1, 2)


def stages_of(network: Any) -> list[nn.Module]:
    """A timm model's parameters in its own coarse groups, first to last."""
    groups = _timm().models.group_parameters(network, network.group_matcher(coarse=True))
    parameters = dict(network.named_parameters())
    return [
        nn.ParameterList(parameters[name] for name in names) for _, names in sorted(groups.items()) if names
    ]


@functools.lru_cache(maxsize=8)
def _sizes(folder: Path) -> Sizes:
    architecture = read_json(folder, CONFIG)["architecture"]
    arguments = {**read_json(folder, CONFIG).get("model_args", {}), "num_classes": 0}
    try:
        with torch.device("meta"):
            network = _timm().create_model(architecture, pretrained=False, **arguments)
    except RuntimeError as error:
        raise RecipeError(
            f"timm cannot build {architecture!r} of {folder} ({error}): install the version of timm that the "
            "model was published with"
        ) from error
    last = list(network.feature_info)[-1]
    dim = getattr(network, "head_hidden_size", None) or network.num_features
    return Sizes(dim, network.num_features, int(last["reduction"]))


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise RecipeError(
            f"this encoder needs timm, which cannot be imported ({error}): run `pip install timm` with the "
            "torchvision that matches your torch"
        ) from error
    return timm
