"""Loads frozen encoders: each time they are needed, or once for a process that embeds an item now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from immr.model.encoders.by_name import load_text_encoder
from immr.model.encoders.frozen import FrozenEncoder, frozen_encoder
from immr.model.encoders.transformers_text import TransformersText
from immr.model.model_recipe import ModelRecipe

_KEPT = 2  # of each kind; one takes 100 MB or more


@dataclass(frozen=True)
class Loading:
    """How to get encoders; by default, they are loaded on each call and freed after use."""

    image: Callable[[ModelRecipe, Path, int, Path | None], FrozenEncoder] = frozen_encoder
    text: Callable[[str], TransformersText] = load_text_encoder

    @classmethod
    def kept(cls) -> Loading:
        """Keeps the encoders that were used last."""
        return cls(lru_cache(_KEPT)(frozen_encoder), lru_cache(_KEPT)(load_text_encoder))


FRESH = Loading()
