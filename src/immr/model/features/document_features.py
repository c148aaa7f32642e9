"""Frozen features of items: the input of the document tower, from the cache.

Shapes: N items, B items of a batch, V views, F image features, P patches.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from immr.errors import DataError
from immr.model.encoders.by_name import image_encoder_spec, text_encoder_spec
from immr.model.encoders.loading import FRESH, Loading
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.features.stored_features import Features, StoredFeatures
from immr.model.features.text_features import StoredTokens, TextFeatures, Tokens, document_text
from immr.model.fusion import Fusion, make_fusion
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import DocumentBatch
from immr.types import Item

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DocumentArrays:
    """Frozen features of items, float16 until they are batched."""

    pictures_NVF: Features
    patches_NVPF: Features | None
    has_picture_N: Tensor
    tokens: Tokens | StoredTokens

    def to(self, device: str) -> DocumentArrays:
        """The same on a device."""
        return DocumentArrays(
            pictures_NVF=self.pictures_NVF.to(device),
            patches_NVPF=None if self.patches_NVPF is None else self.patches_NVPF.to(device),
            has_picture_N=self.has_picture_N.to(device),
            tokens=self.tokens.to(device),
        )

    def read_ahead(self, rows_B: Tensor, views_B: Tensor) -> None:
        """Start to read those that are in files."""
        for features in (self.pictures_NVF, self.patches_NVPF):
            if isinstance(features, StoredFeatures):
                features.read_ahead(rows_B, views_B)
        if isinstance(self.tokens, StoredTokens):
            self.tokens.read_ahead(rows_B)

    def batch(self, rows_B: Tensor, views_B: Tensor) -> DocumentBatch:
        """The features of some rows, each in its view."""
        tokens_BTE, mask_BT = self.tokens.batch(rows_B)
        return DocumentBatch(
            pictures_BF=self.pictures_NVF[rows_B, views_B].float(),
            patches_BPF=None if self.patches_NVPF is None else self.patches_NVPF[rows_B, views_B].float(),
            has_picture_B=self.has_picture_N[rows_B],
            tokens_BTE=tokens_BTE,
            mask_BT=mask_BT,
        )


class DocumentFeatures:
    """Features of items from just the encoders that the recipe's fusion needs.

    `weights` are those of a fine-tuned image encoder; None for the pretrained one. `hashes` are those of pictures
    that are known already, by URI.
    """

    def __init__(
        self,
        recipe: ModelRecipe,
        cache_dir: Path,
        weights: Path | None = None,
        loading: Loading = FRESH,
        hashes: Mapping[str, str] | None = None,
    ):
        self._image_dim = image_encoder_spec(recipe.image_encoder).dim
        self._text_dim = text_encoder_spec(recipe.text_encoder).dim
        fusion = fusion_of(recipe)
        pictures = partial(ImageFeatures, recipe, cache_dir, weights=weights, loading=loading)
        self._pooled = pictures("pooled") if fusion.uses_picture else None
        self._patches = pictures("patches") if fusion.needs_patches else None
        self._texts = TextFeatures(recipe, cache_dir, loading) if fusion.uses_text else None
        self._hashes = dict(hashes or {})  # of pictures by URI; reading each takes a while

    def load_encoders(self, threads: int) -> None:
        """Load those that `compute` needs, for a `loading` that keeps them."""
        if self._pooled:
            self._pooled.load(threads)
        if self._texts:
            self._texts.load()

    def compute(self, items: Sequence[Item], views: Sequence[str], share: Share | None = None) -> None:
        """Compute this share's features that are not in the cache."""
        if self._pooled:
            hashes = self._hashed(items)
            for features in filter(None, (self._pooled, self._patches)):
                features.compute(hashes, views, share)
        if self._texts:
            self._texts.compute([document_text(item) for item in items], share)

    def compute_replaced(
        self, items: Sequence[Item], views: Sequence[str], share: Share | None = None
    ) -> None:
        """Compute features of pictures whose content has changed since their given hash was taken."""
        if self._pooled:
            hashes = self._hashed(items)
            known = self._pooled.known(list(hashes.values()), views)
            for uri in [uri for uri, key in hashes.items() if key not in known]:
                del self._hashes[uri]
            self.compute(items, views, share)

    def read(self, items: Sequence[Item], views: Sequence[str]) -> DocumentArrays:
        """Features from the cache; a missing or broken picture is zeros, with `has_picture` false."""
        keys = self._picture_keys(items, views)
        texts = [document_text(item) for item in items]
        return DocumentArrays(
            pictures_NVF=self._pooled.read(keys, views)
            if self._pooled
            else torch.zeros(1, 1, self._image_dim, dtype=torch.float16).expand(len(keys), len(views), -1),
            patches_NVPF=self._patches.read(keys, views) if self._patches else None,
            has_picture_N=torch.tensor([bool(key) for key in keys]),
            tokens=self._texts.read(texts) if self._texts else _no_tokens(items, self._text_dim),
        )

    def _picture_keys(self, items: Sequence[Item], views: Sequence[str]) -> list[str]:
        """Content hashes; empty for an item without a usable picture."""
        if not self._pooled:
            return [""] * len(items)
        hashes = self._hashed(items)
        known = self._pooled.known(list(hashes.values()), views)
        keys = [hashes.get(item.image, "") for item in items]
        return [key if key in known else "" for key in keys]

    def _hashed(self, items: Sequence[Item]) -> dict[str, str]:
        """URI → hash of the content, without pictures that cannot be read."""
        for item in items:
            if item.image and item.image not in self._hashes:
                try:
                    self._hashes |= image_hashes([item.image])
                except DataError as error:
                    _log.warning("using item %s without its picture: %s", item.item_id, error)
        return {item.image: self._hashes[item.image] for item in items if item.image in self._hashes}


def fusion_of(recipe: ModelRecipe) -> Fusion:
    """A recipe's fusion without weights, for questions about what it needs."""
    with torch.device("meta"):
        return make_fusion(recipe.fusion, dim=1, text_dim=1, patch_dim=1, concepts=1)


def _no_tokens(items: Sequence[Item], dim: int) -> Tokens:
    none_N = torch.zeros(len(items), dtype=torch.int64)
    return Tokens(torch.zeros(1, dim, dtype=torch.float16), none_N, none_N, longest=1)
