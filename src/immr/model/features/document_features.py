"""Frozen features of items: the input of the document tower, from the cache.

Shapes: N items, V views, F image features, P patches, T tokens, E text features.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from immr.errors import DataError
from immr.model.encoders.by_name import image_encoder_spec, text_encoder_spec
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.features.text_features import TextFeatures, document_text
from immr.model.fusion import make_fusion
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import DocumentBatch
from immr.types import Item

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DocumentArrays:
    """Frozen features of items. Picture features are float16 until they are batched."""

    pictures_NVF: Tensor
    patches_NVPF: Tensor | None
    has_picture_N: Tensor
    tokens_NTE: Tensor
    mask_NT: Tensor

    def to(self, device: str) -> DocumentArrays:
        """The same on a device."""
        return DocumentArrays(
            pictures_NVF=self.pictures_NVF.to(device),
            patches_NVPF=None if self.patches_NVPF is None else self.patches_NVPF.to(device),
            has_picture_N=self.has_picture_N.to(device),
            tokens_NTE=self.tokens_NTE.to(device),
            mask_NT=self.mask_NT.to(device),
        )

    def batch(self, rows_B: Tensor, views_B: Tensor) -> DocumentBatch:
        """The features of some rows, each in its view."""
        return DocumentBatch(
            pictures_BF=self.pictures_NVF[rows_B, views_B].float(),
            patches_BPF=None if self.patches_NVPF is None else self.patches_NVPF[rows_B, views_B].float(),
            has_picture_B=self.has_picture_N[rows_B],
            tokens_BTE=self.tokens_NTE[rows_B],
            mask_BT=self.mask_NT[rows_B],
        )


class DocumentFeatures:
    """Features of items from just the encoders that the recipe's fusion needs.

    `weights` are those of a fine-tuned image encoder; None for the pretrained one.
    """

    def __init__(self, recipe: ModelRecipe, cache_dir: Path, weights: Path | None = None):
        self._image_dim = image_encoder_spec(recipe.image_encoder).dim
        self._text_dim = text_encoder_spec(recipe.text_encoder).dim
        with torch.device("meta"):  # asked only for what it needs
            fusion = make_fusion(recipe.fusion, dim=1, text_dim=1, patch_dim=1, concepts=1)
        self._pooled = ImageFeatures(recipe, cache_dir, "pooled", weights) if fusion.uses_picture else None
        self._patches = ImageFeatures(recipe, cache_dir, "patches", weights) if fusion.needs_patches else None
        self._texts = TextFeatures(recipe, cache_dir) if fusion.uses_text else None

    def compute(self, items: Sequence[Item], views: Sequence[str], share: Share | None = None) -> None:
        """Compute this share's features that are not in the cache."""
        if self._pooled:
            hashes = _hashes(items)
            for features in filter(None, (self._pooled, self._patches)):
                features.compute(hashes, views, share)
        if self._texts:
            self._texts.compute([document_text(item) for item in items], share)

    def read(self, items: Sequence[Item], views: Sequence[str]) -> DocumentArrays:
        """Features from the cache; a missing or broken picture is zeros, with `has_picture` false."""
        keys = self._picture_keys(items, views)
        tokens_NTE = torch.zeros(len(items), 1, self._text_dim)
        mask_NT = torch.zeros(len(items), 1, dtype=torch.bool)
        if self._texts:
            tokens, mask = self._texts.read([document_text(item) for item in items])
            tokens_NTE, mask_NT = torch.from_numpy(tokens), torch.from_numpy(mask)
        pooled_NV1F = _scatter(self._pooled, keys, views)
        empty_NVF = torch.zeros(len(items), len(views), self._image_dim)
        return DocumentArrays(
            pictures_NVF=empty_NVF if pooled_NV1F is None else pooled_NV1F[:, :, 0],
            patches_NVPF=_scatter(self._patches, keys, views),
            has_picture_N=torch.tensor([key is not None for key in keys]),
            tokens_NTE=tokens_NTE,
            mask_NT=mask_NT,
        )

    def _picture_keys(self, items: Sequence[Item], views: Sequence[str]) -> list[str | None]:
        if not self._pooled:
            return [None] * len(items)
        hashes = _hashes(items)
        known = self._pooled.known(list(hashes.values()), views)
        keys = [hashes.get(item.image) for item in items]
        return [key if key in known else None for key in keys]


def _scatter(
    features: ImageFeatures | None, keys: Sequence[str | None], views: Sequence[str]
) -> Tensor | None:
    """(N, V, L, F), zeros for rows without a key."""
    if features is None:
        return None
    there = [row for row, key in enumerate(keys) if key]
    if not there:
        return torch.zeros(len(keys), len(views), 1, features.dim)
    found_NVLF = features.read([key for key in keys if key], views)
    whole_NVLF = np.zeros((len(keys), *found_NVLF.shape[1:]), dtype=found_NVLF.dtype)
    whole_NVLF[there] = found_NVLF
    return torch.from_numpy(whole_NVLF)


def _hashes(items: Sequence[Item]) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for item in items:
        try:
            hashes |= image_hashes([item.image]) if item.image else {}
        except DataError as error:
            _log.warning("using item %s without its picture: %s", item.item_id, error)
    return hashes
