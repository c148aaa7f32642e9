"""Embeddings of photos for governance: the port, and the pretrained encoder behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from immr.model.model_recipe import ModelRecipe
from immr.storage.scratch import scratch
from immr.types import FloatArray

_READ_ROWS = 4096


class Embedder(Protocol):
    """Embeds photos."""

    @property
    def name(self) -> str:
        """Part of the manifest; equal names mean equal embeddings."""

    def embed(self, uris: Mapping[str, str], hashes: Sequence[str]) -> FloatArray:
        """(N, F) in the order of `hashes`; a row of NaN where a picture cannot be read.

        Args:
            uris: URI of each picture, by content hash.
            hashes: N content hashes.
        """


class FrozenEmbedder:
    """The recipe's pretrained image encoder, through the cache that training reads afterwards."""

    def __init__(self, recipe: ModelRecipe, cache_dir: Path, threads: int = 1):
        self._recipe = recipe
        self._cache_dir = cache_dir
        self._threads = threads

    @property
    def name(self) -> str:
        """Encoder and image size. The weights are pinned by the encoder's package."""
        return f"{self._recipe.image_encoder} at {self._recipe.image_size_px} px"

    def embed(self, uris: Mapping[str, str], hashes: Sequence[str]) -> FloatArray:
        """See the port."""
        from immr.model.features.image_features import ImageFeatures, Share
        from immr.model.features.views import view_names

        features, views = ImageFeatures(self._recipe, self._cache_dir), view_names(1)
        features.compute({uri: content for content, uri in uris.items()}, views, Share(threads=self._threads))
        known = features.known(hashes, views)
        found_NF = scratch((len(hashes), features.dim))
        found_NF[[row for row, content in enumerate(hashes) if content not in known]] = np.nan
        rows = [row for row, content in enumerate(hashes) if content in known]
        for start in range(0, len(rows), _READ_ROWS):
            part = rows[start : start + _READ_ROWS]
            found_NF[part] = features.read([hashes[row] for row in part], views).in_view(0)
        return found_NF
