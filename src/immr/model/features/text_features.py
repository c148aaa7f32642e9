"""Frozen token features of texts, computed once per text, then read from the cache.

Shapes: N texts, B texts of a batch, T tokens of the longest, R tokens of all texts, E features.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from immr.machine.progress_bar import ProgressBar
from immr.machine.wording import counted
from immr.model.encoders.by_name import text_encoder_spec
from immr.model.encoders.loading import FRESH, Loading
from immr.model.encoders.transformers_text import TransformersText
from immr.model.features.image_features import Share
from immr.model.features.memory_mapped import HalfArray, filled
from immr.model.model_recipe import ModelRecipe
from immr.storage import fingerprint
from immr.storage.array_store import ArrayStore
from immr.types import Item

_SHARD_TEXTS = 64
_SORTED_SHARDS = 32  # the time left is estimated from shards of all lengths: do not sort all texts at once
_READ_TEXTS = 4096
_log = logging.getLogger(__name__)


def document_text(item: Item) -> str:
    """An item's text for the encoder: title, category and description; empty if it has none of them."""
    parts = (item.title, item.category.replace("/", ", "), item.description)
    return ". ".join(part.strip().rstrip(".") for part in parts if part.strip())


@dataclass(frozen=True)
class Tokens:
    """Token features of texts, one after the other without padding; a repeated text is kept once."""

    values_RE: Tensor  # float16
    starts_N: Tensor
    lengths_N: Tensor  # 0 for an empty text
    longest: int  # T

    def to(self, device: str) -> Tokens:
        """The same on a device."""
        return Tokens(
            self.values_RE.to(device), self.starts_N.to(device), self.lengths_N.to(device), self.longest
        )

    def batch(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, E) float32, zeros after the end of a text, and their mask (B, T).

        T is the longest of all texts, not of the batch: reading that would make a device wait for the host.
        """
        place_T = torch.arange(self.longest, device=self.lengths_N.device)
        mask_BT = place_T < self.lengths_N[rows_B][:, None]
        at_BT = (self.starts_N[rows_B][:, None] + place_T).where(mask_BT, 0)
        return self.values_RE[at_BT].float() * mask_BT[..., None], mask_BT


class TextFeatures:
    """Token features of a recipe's text encoder, cached under `cache_dir`."""

    def __init__(self, recipe: ModelRecipe, cache_dir: Path, loading: Loading = FRESH):
        self.recipe, self._loading = recipe, loading
        spec = text_encoder_spec(recipe.text_encoder)
        space = fingerprint.of_values(spec.hash, recipe.max_tokens)[:16]
        self._store = ArrayStore(cache_dir / "features" / f"{spec.name}-tokens-{space}", np.float16)
        self.dim = spec.dim

    def compute(self, texts: Sequence[str], share: Share | None = None) -> None:
        """Compute this share's features that are not in the cache; empty texts have no features."""
        share = share or Share()
        by_key = {_key(text): text for text in texts if text}
        mine = share.of(by_key)
        todo = sorted(set(mine) - self._store.has(mine))
        if not todo:
            return
        _log.info("computing frozen features of %s", counted(len(todo), "text"))
        encoder = self.load()
        with ProgressBar("text features", len(todo), "texts", share.rank == 0) as progress:
            for part in _of_similar_length(todo, by_key):
                self._store.add(self._encode(encoder, {key: by_key[key] for key in part}))
                progress.advance(len(part))

    def add(self, features: Mapping[str, HalfArray]) -> None:
        """Add features that were computed elsewhere, (T, E) of each text."""
        self._store.add({_key(text): tokens_TE for text, tokens_TE in features.items()})

    def load(self) -> TransformersText:
        """The encoder."""
        return self._loading.text(self.recipe.text_encoder)

    def read(self, texts: Sequence[str], file: Path | None = None) -> Tokens:
        """The tokens of each text.

        Args:
            texts: may be empty, and may repeat.
            file: keep the values there instead of in memory, see `mapped.filled`.

        Raises:
            KeyError: a text is not in the cache.
        """
        keys = [_key(text) if text else "" for text in texts]
        distinct = [key for key in dict.fromkeys(keys) if key]
        lengths = {key: rows for key, (rows, _) in self._store.shapes(distinct).items()}
        ends = np.cumsum([0, *(lengths[key] for key in distinct)])
        start_of = dict(zip(distinct, ends[:-1].tolist(), strict=True))

        def fill(values_RE: HalfArray) -> None:
            for at in range(0, len(distinct), _READ_TEXTS):
                part = distinct[at : at + _READ_TEXTS]
                found = self._store.get(part)
                for key in part:
                    values_RE[start_of[key] : start_of[key] + lengths[key]] = found[key]

        values_RE = filled((max(1, int(ends[-1])), self.dim), fill, file)
        return Tokens(
            torch.from_numpy(values_RE),
            torch.tensor([start_of.get(key, 0) for key in keys], dtype=torch.int64),
            torch.tensor([lengths.get(key, 0) for key in keys], dtype=torch.int64),
            longest=max([1, *lengths.values()]),
        )

    def _encode(self, encoder: TransformersText, texts: dict[str, str]) -> dict[str, HalfArray]:
        tokens_BTE, mask_BT = encoder.encode(list(texts.values()), self.recipe.max_tokens)
        return {
            key: tokens_TE[mask_T].numpy().astype(np.float16)
            for key, tokens_TE, mask_T in zip(texts, tokens_BTE, mask_BT, strict=True)
        }


def _of_similar_length(keys: Sequence[str], texts: Mapping[str, str]) -> Iterator[Sequence[str]]:
    """The keys in shards whose texts are about equally long, because an encoder pads a batch to its longest text."""
    window = _SORTED_SHARDS * _SHARD_TEXTS
    for start in range(0, len(keys), window):
        by_length = sorted(keys[start : start + window], key=lambda key: len(texts[key]))
        yield from (by_length[at : at + _SHARD_TEXTS] for at in range(0, len(by_length), _SHARD_TEXTS))


def _key(text: str) -> str:
    return fingerprint.of_bytes(text.encode())
