"""Frozen features of pictures, computed once per content and view, then read from the cache.

Shapes: N pictures, V views, L rows per picture (1 pooled, P patches), F features.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from immr.data.pictures import picture_files
from immr.errors import DataError, ImageError
from immr.machine.progress_bar import ProgressBar
from immr.machine.wording import counted
from immr.machine.worker_processes import in_processes
from immr.model.encoders.by_name import image_encoder_spec, preprocessing_of
from immr.model.encoders.frozen_features import FrozenEncoder
from immr.model.encoders.loading import FRESH, Loading
from immr.model.encoders.onnx_graph import Output, Square, frozen_hash
from immr.model.features.stored_features import StoredFeatures
from immr.model.features.views import take_view
from immr.model.model_recipe import ModelRecipe
from immr.storage import fingerprint
from immr.storage.array_store import ArrayStore
from immr.types import FloatArray, HalfArray

_SHARD_IMAGES, _SHARD_BATCHES = 64, 4  # features that are kept together, at least
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """This process's share of the work: every `size`-th picture, starting at `rank`."""

    rank: int = 0
    size: int = 1
    threads: int = 1

    def of(self, keys: Iterable[str]) -> list[str]:
        """This process's keys, independent of what other processes have already written."""
        return sorted(keys)[self.rank :: self.size]


class _Read(NamedTuple):
    names: list[tuple[str, str]]  # hash and view of each
    batch: Any  # for the encoder; None without pictures


class ImageFeatures:
    """Features of a recipe's image encoder, pretrained or with fine-tuned weights, cached under `cache_dir`."""

    def __init__(
        self,
        recipe: ModelRecipe,
        cache_dir: Path,
        output: Output = "pooled",
        weights: Path | None = None,
        loading: Loading = FRESH,
    ):
        self.recipe = recipe
        self.output: Output = output
        spec = image_encoder_spec(recipe.image_encoder)
        self.dim = spec.dim if output == "pooled" else spec.patch_dim
        self._cache_dir, self._weights, self._loading = cache_dir, weights, loading
        self._preprocessing = preprocessing_of(recipe)
        space = f"{spec.name}-{output}-{frozen_hash(recipe, weights)}"
        self._folder = cache_dir / "features" / space
        self._stores: dict[str, ArrayStore] = {}

    def compute(self, hashes: dict[str, str], views: Sequence[str], share: Share | None = None) -> None:
        """Compute this share's features that are not in the cache. Broken or changed ones are logged and left out.

        Args:
            hashes: image URI → hash of its content.
            views: names of views.
            share: this process's share of the work.
        """
        share = share or Share()
        by_hash = {content: uri for uri, content in hashes.items()}
        mine = share.of(by_hash)
        missing = {view: set(mine) - self._store(view).has(mine) for view in views}
        todo = sorted(set().union(*missing.values()))
        if not todo:
            return
        count = sum(map(len, missing.values()))
        _log.info(
            "computing frozen features of %s, %s in all",
            counted(len(todo), "picture"),
            counted(count, "view"),
        )
        encoder = self.load(share.threads)
        pictures = max(1, encoder.batch // sum(bool(keys) for keys in missing.values()))
        groups = [todo[start : start + pictures] for start in range(0, len(todo), pictures)]

        def read(keys: list[str]) -> _Read:
            return self._read(encoder, keys, by_hash, missing)

        batches = in_processes(read, groups, encoder.workers)
        found: dict[str, dict[str, HalfArray]] = {view: {} for view in views}
        with ProgressBar("image features", count, "views", share.rank == 0) as progress:
            for names, batch in batches:
                for (key, view), rows_LF in zip(names, self._encode(encoder, batch), strict=True):
                    found[view][key] = rows_LF
                if max(map(len, found.values())) >= max(_SHARD_IMAGES, _SHARD_BATCHES * encoder.batch):
                    self._keep(found)
                progress.advance(len(names))
        self._keep(found)

    def add(self, view: str, features: Mapping[str, FloatArray]) -> None:
        """Add features that were computed elsewhere, (L, F) of each picture by its content hash."""
        self._store(view).add(features)

    def load(self, threads: int = 1) -> FrozenEncoder:
        """The encoder, with this many threads."""
        return self._loading.image(self.recipe, self._cache_dir, threads, self._weights)

    def read(self, hashes: Sequence[str], views: Sequence[str]) -> StoredFeatures:
        """(N, V, F), or (N, V, P, F) of patches, in the order of `hashes`; zeros for an empty hash.

        Args:
            hashes: of the pictures' content.
            views: names of views.

        Raises:
            ImageError: a picture has no features, because it is broken.
        """
        stored = [self._store(view).find(hashes) for view in views]
        there_N = np.logical_and.reduce([each.there_N for each in stored])
        if lost := sorted({key for key, there in zip(hashes, there_N, strict=True) if key and not there}):
            raise ImageError(
                f"{counted(len(lost), 'picture')} missing, broken or changed since `immr govern` read them, such "
                f"as the one with SHA-256 {lost[0]}: run `immr govern` again, with check_images on"
            )
        if self.output == "pooled":
            return StoredFeatures(stored, (self.dim,))
        some = np.flatnonzero(there_N)[:1].tolist()
        return StoredFeatures(stored, stored[0].read(some[0]).shape if some else (1, self.dim))

    def known(self, hashes: Sequence[str], views: Sequence[str]) -> set[str]:
        """The hashes that have features in every view."""
        return set(hashes).intersection(*(self._store(view).has(hashes) for view in views))

    def _store(self, view: str) -> ArrayStore:
        return self._stores.setdefault(view, ArrayStore(self._folder / view, np.float16))

    def _read(
        self,
        encoder: FrozenEncoder,
        keys: Sequence[str],
        uris: Mapping[str, str],
        missing: Mapping[str, set[str]],
    ) -> _Read:
        """The encoder's input for the missing views of these pictures, without the broken ones."""
        names, squares = list[tuple[str, str]](), list[Square]()
        for key in keys:
            try:
                picture = picture_files.load(uris[key], self._preprocessing.enough_px, sha256=key)
            except DataError as error:
                _log.warning("no features for %s: %s", uris[key], error)
                continue
            for view in (view for view in missing if key in missing[view]):
                square = take_view(picture, view, key, self._preprocessing.image_size_px)
                names.append((key, view))
                squares.append(encoder.prepare(square))
        return _Read(names, encoder.collate(squares) if squares else None)

    def _encode(self, encoder: FrozenEncoder, batch: Any) -> HalfArray:
        """(B, L, F)."""
        if batch is None:
            return np.zeros((0, 1, self.dim), np.float16)
        features = encoder.encode(batch, self.output).astype(np.float16)
        return features[:, None] if self.output == "pooled" else features

    def _keep(self, found: dict[str, dict[str, HalfArray]]) -> None:
        for view, entries in found.items():
            self._store(view).add(entries)
            entries.clear()


def image_hashes(uris: Sequence[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """URI → SHA-256 of the picture's content.

    Args:
        uris: the pictures.
        known: hashes by URI; these pictures are not read.

    Raises:
        DataError: a picture cannot be read.
    """
    known = known or {}
    return {
        uri: known.get(uri) or fingerprint.of_bytes(picture_files.read(uri)) for uri in dict.fromkeys(uris)
    }
