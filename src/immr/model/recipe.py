"""What the two towers are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FusionName = Literal["image", "text", "concat", "gated", "concept", "concept_patch"]


@dataclass(frozen=True)
class ModelRecipe:
    """Encoders by name, how picture and text become one document, and the embedding's size."""

    image_encoder: str = "efficientnet-lite0"
    text_encoder: str = "minilm"
    image_size_px: int = 224
    dim: int = 128
    fusion: FusionName = "concept"
    concepts: int = 32  # K, rows of the learned memory
    max_tokens: int = 128
