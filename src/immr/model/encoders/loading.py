"""Loads encoders, towers and class photos: on each call, or once for a process that embeds items now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from immr.model.class_photos import ClassPhotos
from immr.model.encoders.by_name import load_text_encoder
from immr.model.encoders.frozen_features import FrozenEncoder, frozen_encoder
from immr.model.encoders.transformers_text import TransformersText
from immr.model.model_recipe import ModelRecipe

if TYPE_CHECKING:
    from immr.model.towers import Towers

_KEPT = 2  # of each kind; one takes 100 MB or more


def read_towers(recipe: ModelRecipe, file: Path) -> Towers:
    """See `Towers.read`."""
    from immr.model.towers import Towers

    return Towers.read(recipe, file)


@dataclass(frozen=True)
class Loading:
    """How to get encoders and towers; by default, they are loaded on each call and freed after use."""

    image: Callable[[ModelRecipe, Path, int, Path | None], FrozenEncoder] = frozen_encoder
    text: Callable[[str], TransformersText] = load_text_encoder
    towers: Callable[[ModelRecipe, Path], Towers] = read_towers
    class_photos: Callable[[Path], ClassPhotos | None] = ClassPhotos.read

    @classmethod
    def kept(cls) -> Loading:
        """Keeps those that were used last."""
        return cls(
            lru_cache(_KEPT)(frozen_encoder),
            lru_cache(_KEPT)(load_text_encoder),
            lru_cache(_KEPT)(read_towers),
            lru_cache(_KEPT)(ClassPhotos.read),
        )


FRESH = Loading()
