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
    dim: int = 128  # of an embedding's learned part
    plain_dim: int = 128  # of its part that no label has touched, by which unseen items are found
    plain_share: float = 0.3  # of a cosine that the plain part decides; 0 leaves it out
    shared_projection: bool = True  # photos and catalogue pictures: own statistics, but one matrix
    fusion: FusionName = "concept"
    concepts: int = 32  # K, rows of the learned memory
    max_tokens: int = 128

    @property
    def embedding_dim(self) -> int:
        """Of a whole embedding; where documents are texts alone there is no plain part."""
        plain = self.plain_share > 0 and self.fusion != "text"
        return self.dim + (self.plain_dim if plain else 0)
