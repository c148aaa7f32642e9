"""Vision models of `transformers` as image encoders: CLIP, SigLIP, DINOv2, and others made of patches.

Shapes: B pictures, S image side in pixels, F image features, P patches, H hidden size, T tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from immr.errors import RecipeError
from immr.model.encoders.specs import ImageEncoderSpec
from immr.model.encoders.transformers_folder import folder_of, quiet, read_json, weights_of

_CLASSES = {  # of the vision half, where a model has two
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
_WITHOUT_CLASS_TOKEN = ("siglip", "siglip_vision_model")


def spec_of(name: str) -> ImageEncoderSpec:
    """What the model's config files say; weights are not read.

    Pixels come in as 0…1: each channel's own mean and deviation are in the graph (`TransformersImage`).

    Raises:
        RecipeError: there is no such model, or its config does not tell that it sees pictures in patches.
    """
    folder = folder_of(name)
    config = _vision_config(folder)
    if not isinstance(config.get("hidden_size"), int) or not isinstance(config.get("patch_size"), int):
        raise RecipeError(
            f"{name} is no vision model that encodes patches: its config.json has no hidden_size and "
            "patch_size; take CLIP, SigLIP, DINOv2 or another vision transformer"
        )
    channel_statistics(folder)
    width: int = config["hidden_size"]
    return ImageEncoderSpec(
        folder.name if Path(name).is_dir() else name.replace("/", "--"),
        weights_of(folder),
        dim=width,
        patch_dim=width,
        stride=config["patch_size"],
        mean=0.0,
        std=255.0,
    )


def channel_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, of pixels in 0…1, as the model's image processor has them.

    Raises:
        RecipeError: the folder has no such file, or no such numbers in it.
    """
    fields = read_json(folder, "preprocessor_config.json")
    fields = fields or read_json(folder, "processor_config.json").get("image_processor", {})
    mean, std = fields.get("image_mean"), fields.get("image_std")
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3):
        raise RecipeError(
            f"{folder} does not say how pixels are scaled: it needs a preprocessor_config.json with "
            "image_mean and image_std, three numbers each, as the model was published with"
        )
    return mean, std


class TransformersImage(nn.Module):
    """Pixels in 0…1 to the model's own pooled output and its last patch features.

    Where a model has no pooled output it is the class token's last state (DINOv2), or the patches' mean. At
    another size than it was trained with, position embeddings are interpolated.
    """

    mean_131: Tensor
    std_131: Tensor

    def __init__(self, spec: ImageEncoderSpec, image_size_px: int):
        super().__init__()
        import transformers

        quiet()
        folder = spec.weights.parent
        kind = str(read_json(folder, "config.json").get("model_type"))
        mean, std = channel_statistics(folder)
        self.register_buffer("mean_131", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std_131", torch.tensor(std).view(1, 3, 1, 1))
        loader: Any = getattr(transformers, _CLASSES.get(kind, "AutoModel"))
        self.network: Any = loader.from_pretrained(
            str(folder), local_files_only=True, attn_implementation="eager", dtype=torch.float32
        )
        config = _vision_config(folder)
        registers = int(config.get("num_register_tokens", 0))
        self._before_patches = 0 if kind in _WITHOUT_CLASS_TOKEN else 1 + registers
        resized = kind in _CLASSES and image_size_px != config.get("image_size", image_size_px)
        self._options = {"interpolate_pos_encoding": True} if resized else {}
        self.eval().requires_grad_(False)

    def stages(self) -> list[nn.Module]:
        """The parts that learn: embeddings, each layer, and what follows the last one."""
        layers = max((part for part in self.network.modules() if isinstance(part, nn.ModuleList)), key=len)
        in_layers = set(layers.parameters())
        around = [pair for pair in self.network.named_parameters() if pair[1] not in in_layers]
        before = nn.ParameterList(parameter for name, parameter in around if "embeddings" in name)
        after = nn.ParameterList(parameter for name, parameter in around if "embeddings" not in name)
        return [before, *layers, after]

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, H) and patch features (B, P, H)."""
        scaled_B3SS = (pixels_B3SS - self.mean_131) / self.std_131
        seen = self.network(pixel_values=scaled_B3SS, **self._options)
        states_BTH = seen.last_hidden_state
        pooled_BH = getattr(seen, "pooler_output", None)
        patches_BPH = states_BTH[:, self._before_patches :]
        if pooled_BH is None:
            pooled_BH = states_BTH[:, 0] if self._before_patches else patches_BPH.mean(1)
        return pooled_BH, patches_BPH


def _vision_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder, "config.json")
    inner = config.get("vision_config")
    return _with_defaults(inner) if isinstance(inner, dict) else _with_defaults(config)


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """The config with what its model type has by default: files may leave that out."""
    from transformers import AutoConfig

    try:
        whole: dict[str, Any] = AutoConfig.for_model(**config).to_dict()
    except (KeyError, TypeError, ValueError):
        return config
    return whole
