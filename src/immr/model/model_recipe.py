"""The model's recipe: encoders, fusion and sizes of the two towers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from immr.errors import RecipeError
from immr.types import Count, CountOrZero, Pixels, ShareBelowOne

FusionName = Literal["image", "text", "concat", "gated", "concept", "concept_slots", "concept_patch"]
FramingName = Literal["centre", "drawing"]
VIEWS_OF_DRAWINGS = 3


@dataclass(frozen=True)
class ModelRecipe:
    """Encoders by name, the fusion of picture and text, and the sizes of the embedding."""

    image_encoder: str = "efficientnet-lite0"
    text_encoder: str = "minilm"
    image_size_px: Pixels = 224
    framing: FramingName = "centre"  # drawing: crop to the ink, without its colours; see `framing`
    dim: Count = 128  # of the learned part of an embedding
    plain_dim: CountOrZero = 128  # of the plain part, which is fitted without labels and finds unseen items
    plain_share: ShareBelowOne = 0.3  # weight of the plain part in a cosine; 0 leaves the part out
    # one matrix for photos and catalogue pictures, each with its own statistics
    shared_projection: bool = True
    fusion: FusionName = "concept_slots"
    concepts: Count = 32  # K, rows of the learned memory
    max_tokens: Count = 128
    picture_as_photo: ShareBelowOne = 0.0  # weight of an item's picture, embedded as a photo, in its document
    document_views: Count = 1  # views of a catalogue picture whose embeddings are averaged; see `views`
    photos_per_class: CountOrZero = 0  # training photos that find their items, too; see `class_photos`

    def __post_init__(self) -> None:
        if self.framing == "drawing" and self.document_views > VIEWS_OF_DRAWINGS:
            raise RecipeError(
                f"ModelRecipe: document_views is {self.document_views}, but a drawing has {VIEWS_OF_DRAWINGS} views"
            )

    @property
    def embedding_dim(self) -> int:
        """Size of the whole embedding; documents of text alone have no plain part."""
        plain = self.plain_share > 0 and self.fusion != "text"
        return self.dim + (self.plain_dim if plain else 0)

    @property
    def plain_begin(self) -> int:
        """Where the plain part of a photo's embedding begins; 0 if the embedding is in one part."""
        return self.dim if self.embedding_dim > self.dim else 0

    def check_untrained(self) -> None:
        """Check that towers of this recipe compare pictures without training.

        Raises:
            RecipeError: the fusion or the projections have weights to train.
        """
        if self.fusion != "image" or not self.shared_projection:
            raise RecipeError(
                f'the fusion {self.fusion!r} has to be trained: use "image" with a shared projection'
            )
