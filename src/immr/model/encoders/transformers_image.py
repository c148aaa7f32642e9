"""Vision models of `transformers` as image encoders: vision transformers, ConvNeXt families, SigLIP 2 NaFlex.

Shapes: B pictures, S image side in pixels, P patches, H hidden size, T tokens, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from immr.errors import RecipeError
from immr.model.encoders.model_folder import folder_of, label_of, read_json, weights_of
from immr.model.encoders.pixel_scaling import PixelScaling, checked_statistics
from immr.model.encoders.specs import ImageEncoderSpec
from immr.model.encoders.transformers_config import half_config, hide_progress_bars, model_type

_VISION_CLASSES = {  # of the vision half; other model types load with AutoModel
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "siglip2": "Siglip2VisionModel",
    "siglip2_vision_model": "Siglip2VisionModel",
}
_WITHOUT_CLASS_TOKEN = ("siglip", "siglip_vision_model")
_NAFLEX = ("siglip2", "siglip2_vision_model")
_CONVNEXT = ("convnext", "convnextv2", "dinov3_convnext")
_STEM_STRIDE = 4  # of DINOv3's ConvNeXt, whose config does not have it


def spec_of(name: str) -> ImageEncoderSpec:
    """The encoder's sizes, from the config files alone.

    The encoder takes pixels in 0…1; scaling by channel is part of its graph (`PixelScaling`).

    Raises:
        RecipeError: there is no such model, or its config is not that of a supported vision model.
    """
    folder = folder_of(name)
    config = half_config(folder, "vision_config")
    channel_statistics(folder)
    if model_type(folder) in _CONVNEXT:
        width, patch = config["hidden_sizes"][-1], config.get("patch_size", _STEM_STRIDE)
        stride = patch * 2 ** (len(config["hidden_sizes"]) - 1)
    else:
        width, stride = config.get("hidden_size"), config.get("patch_size")
    if not isinstance(width, int) or not isinstance(stride, int):
        raise RecipeError(
            f"{name} is not a vision model with patches: its config.json has no hidden_size and patch_size; "
            "choose CLIP, SigLIP, DINO, another vision transformer, or ConvNeXt"
        )
    label = label_of(name, folder)
    return ImageEncoderSpec(label, weights_of(folder), width, width, stride, mean=0.0, std=255.0)


def load(spec: ImageEncoderSpec, image_size_px: int) -> TransformersImage:
    """The pretrained encoder, frozen."""
    kind = model_type(spec.weights.parent)
    if kind in _CONVNEXT:
        return ConvNext(spec)
    return NaFlex(spec, image_size_px) if kind in _NAFLEX else VisionTransformer(spec, image_size_px)


def channel_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, for pixels in 0…1, from the model's image processor.

    Raises:
        RecipeError: the folder does not have them.
    """
    fields = read_json(folder, "preprocessor_config.json")
    fields = fields or read_json(folder, "processor_config.json").get("image_processor", {})
    return checked_statistics(
        fields.get("image_mean"), fields.get("image_std"), f"preprocessor_config.json in {folder}"
    )


class TransformersImage(nn.Module, ABC):
    """Pixels in 0…1 to the model's own pooled output and its last patch features."""

    def __init__(self, spec: ImageEncoderSpec, **options: Any):
        super().__init__()
        import transformers

        hide_progress_bars()
        folder = spec.weights.parent
        self.scale = PixelScaling(*channel_statistics(folder))
        self.kind = model_type(folder)
        loader: Any = getattr(transformers, _VISION_CLASSES.get(self.kind, "AutoModel"))
        self.network: Any = loader.from_pretrained(
            str(folder), local_files_only=True, dtype=torch.float32, **options
        )
        self.config = half_config(folder, "vision_config")
        self.eval().requires_grad_(False)

    def stages(self) -> list[nn.Module]:
        """The trainable parts from input to output: embeddings, each layer, and what follows the last."""
        layers = self._layers()
        in_layers = set(layers.parameters())
        around = [pair for pair in self.network.named_parameters() if pair[1] not in in_layers]
        before = nn.ParameterList(parameter for name, parameter in around if "embeddings" in name)
        after = nn.ParameterList(parameter for name, parameter in around if "embeddings" not in name)
        return [stage for stage in (before, *layers, after) if any(True for _ in stage.parameters())]

    @abstractmethod
    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, H) and patch features (B, P, H)."""

    def _layers(self) -> nn.ModuleList:
        lists = (module for module in self.network.modules() if isinstance(module, nn.ModuleList))
        return max(lists, key=len)


class VisionTransformer(TransformersImage):
    """CLIP, SigLIP, DINOv2, DINOv3, ViT and their like.

    A model without a pooled output is pooled by its class token, or by the mean of its patches. At a size
    other than the model's own, position embeddings are interpolated.
    """

    def __init__(self, spec: ImageEncoderSpec, image_size_px: int):
        super().__init__(spec, attn_implementation="eager")
        registers = int(self.config.get("num_register_tokens", 0))
        self._before_patches = 0 if self.kind in _WITHOUT_CLASS_TOKEN else 1 + registers
        resized = self.kind in _VISION_CLASSES and image_size_px != self.config.get(
            "image_size", image_size_px
        )
        self._options = {"interpolate_pos_encoding": True} if resized else {}

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, H) and patch features (B, P, H)."""
        seen = self.network(pixel_values=self.scale(pixels_B3SS), **self._options)
        states_BTH = seen.last_hidden_state
        pooled_BH = getattr(seen, "pooler_output", None)
        patches_BPH = states_BTH[:, self._before_patches :]
        if pooled_BH is None:
            pooled_BH = states_BTH[:, 0] if self._before_patches else patches_BPH.mean(1)
        return pooled_BH, patches_BPH


class ConvNext(TransformersImage):
    """ConvNeXt, ConvNeXt V2 and DINOv3's ConvNeXt: the last feature map's positions are the patches."""

    def __init__(self, spec: ImageEncoderSpec):
        super().__init__(spec)

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, C) and patch features (B, P, C)."""
        seen = self.network(pixel_values=self.scale(pixels_B3SS))
        states = seen.last_hidden_state
        if states.ndim == 4:
            return seen.pooler_output, states.flatten(2).transpose(1, 2)
        return seen.pooler_output, states[:, 1:]  # DINOv3 puts the pooled features first

    def _layers(self) -> nn.ModuleList:
        named = self.network.named_modules()
        layers: nn.ModuleList = next(module for name, module in named if name.rpartition(".")[2] == "stages")
        return layers


class NaFlex(TransformersImage):
    """SigLIP 2 NaFlex, which takes patches of any aspect ratio, on square pictures of one size.

    All pictures have the same grid, so its loop over pictures becomes one matrix (P, N) that interpolates the
    N learned positions; the numbers are the same, and the graph keeps a free batch size.
    """

    positions_PN: Tensor

    def __init__(self, spec: ImageEncoderSpec, image_size_px: int):
        super().__init__(spec, attn_implementation="eager")
        self._patch_px = spec.stride
        side = image_size_px // spec.stride
        learned = round(self.config["num_patches"] ** 0.5)
        identity_NHW = torch.eye(learned**2).view(1, learned**2, learned, learned)
        resized = F.interpolate(
            identity_NHW, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
        self.register_buffer("positions_PN", resized[0].flatten(1).T.contiguous(), persistent=False)

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, H) and patch features (B, P, H)."""
        network, embeddings = self.network, self.network.embeddings
        patches_BPF = _patches(self.scale(pixels_B3SS), self._patch_px)
        positions_PH = self.positions_PN @ embeddings.position_embedding.weight
        states_BPH = embeddings.patch_embedding(patches_BPF) + positions_PH
        states_BPH = network.encoder(inputs_embeds=states_BPH, attention_mask=None).last_hidden_state
        states_BPH = network.post_layernorm(states_BPH)
        if network.use_head:
            return network.head(states_BPH, None), states_BPH
        return states_BPH.mean(1), states_BPH


def _patches(pixels_B3SS: Tensor, patch_px: int) -> Tensor:
    """(B, P, patch_px · patch_px · 3) pixels of each patch, channels last, as SigLIP 2 takes them."""
    batch, channels, side, _ = pixels_B3SS.shape
    grid = side // patch_px
    cut = pixels_B3SS.reshape(batch, channels, grid, patch_px, grid, patch_px)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, grid * grid, patch_px * patch_px * channels)
