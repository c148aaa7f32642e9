"""Frozen token features of texts, computed once per text, then read from the cache.

Shapes: N texts, T tokens of the longest, E features.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from immr.model.encoders.by_name import load_text_encoder, text_encoder_spec
from immr.model.encoders.transformers_text import TransformersText
from immr.model.features.feature_cache import FeatureCache, HalfArray
from immr.model.features.image_features import Share
from immr.model.model_recipe import ModelRecipe
from immr.storage import fingerprint
from immr.types import FloatArray, Item

_SHARD_TEXTS = 64
_log = logging.getLogger(__name__)


def document_text(item: Item) -> str:
    """An item's text for the encoder: title, category and description; empty if it has none of them."""
    parts = (item.title, item.category.replace("/", ", "), item.description)
    return ". ".join(part.strip().rstrip(".") for part in parts if part.strip())


class TextFeatures:
    """Token features of a recipe's text encoder, cached under `cache_dir`."""

    def __init__(self, recipe: ModelRecipe, cache_dir: Path):
        self.recipe = recipe
        spec = text_encoder_spec(recipe.text_encoder)
        space = fingerprint.of_values(spec.hash, recipe.max_tokens)[:16]
        self._cache = FeatureCache(cache_dir / "features" / f"{spec.name}-tokens-{space}")
        self.dim = spec.dim

    def compute(self, texts: Sequence[str], share: Share | None = None) -> None:
        """Compute this share's features that are not in the cache; empty texts have no features."""
        share = share or Share()
        by_key = {_key(text): text for text in texts if text}
        mine = share.of(by_key)
        todo = sorted(set(mine) - self._cache.read(mine).keys())
        if not todo:
            return
        _log.info("computing frozen features of %d texts", len(todo))
        encoder = load_text_encoder(self.recipe.text_encoder)
        for start in range(0, len(todo), _SHARD_TEXTS):
            part = todo[start : start + _SHARD_TEXTS]
            self._cache.add(self._encode(encoder, {key: by_key[key] for key in part}))

    def read(self, texts: Sequence[str]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Tokens (N, T, E) float32 and their mask (N, T), T ≥ 1; the mask of an empty text is all false.

        Raises:
            KeyError: a text is not in the cache.
        """
        keys = [_key(text) if text else None for text in texts]
        found = self._cache.read([key for key in keys if key])
        longest = max([1, *(len(entry) for entry in found.values())])
        tokens_NTE = np.zeros((len(texts), longest, self.dim), dtype=np.float32)
        mask_NT = np.zeros((len(texts), longest), dtype=np.bool_)
        for row, key in enumerate(keys):
            if key:
                tokens_NTE[row, : len(found[key])] = found[key]
                mask_NT[row, : len(found[key])] = True
        return tokens_NTE, mask_NT

    def _encode(self, encoder: TransformersText, texts: dict[str, str]) -> dict[str, HalfArray]:
        tokens_BTE, mask_BT = encoder.encode(list(texts.values()), self.recipe.max_tokens)
        return {
            key: tokens_TE[mask_T].numpy().astype(np.float16)
            for key, tokens_TE, mask_T in zip(texts, tokens_BTE, mask_BT, strict=True)
        }


def _key(text: str) -> str:
    return fingerprint.of_bytes(text.encode())
