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

from immr.errors import DataError
from immr.machine.progress_bar import ProgressBar
from immr.machine.wording import counted
from immr.model.encoders.by_name import text_encoder_spec
from immr.model.encoders.loading import FRESH, Loading
from immr.model.encoders.transformers_text import TransformersText
from immr.model.features.image_features import Share
from immr.model.model_recipe import ModelRecipe
from immr.storage import fingerprint
from immr.storage.array_store import ArrayStore
from immr.storage.stored_arrays import StoredArrays
from immr.types import HalfArray, Item

_SHARD_TEXTS = 64
_SORTED_SHARDS = 32  # the time left is estimated from shards of all lengths: do not sort all texts at once
_COPIED_TEXTS = 1024
_log = logging.getLogger(__name__)


def document_text(item: Item) -> str:
    """An item's text for the encoder: title, category and description; empty if it has none of them."""
    parts = (item.title, item.category.replace("/", ", "), item.description)
    return ". ".join(part.strip().rstrip(".") for part in parts if part.strip())


@dataclass(frozen=True)
class Tokens:
    """Token features of texts in a device's memory, one after the other without padding."""

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


@dataclass(frozen=True)
class StoredTokens:
    """Token features of texts, read from the cache when they are needed."""

    stored: StoredArrays  # (T, E) of each distinct text
    text_N: Tensor  # which of them
    lengths_N: Tensor  # 0 for an empty text
    longest: int  # T
    dim: int  # E

    def to(self, device: str) -> StoredTokens | Tokens:
        """On another device they have to fit into its memory."""
        return self if torch.device(device).type == "cpu" else self._copied(device)

    def _copied(self, device: str) -> Tokens:
        lengths_M = torch.from_numpy(self.stored.lengths())
        starts_M = lengths_M.cumsum(0) - lengths_M
        values_RE = torch.zeros(max(1, int(lengths_M.sum())), self.dim, dtype=torch.float16, device=device)
        for rows_B in torch.split(lengths_M.nonzero().flatten(), _COPIED_TEXTS):
            self.stored.read_ahead(rows_B.tolist())
            part_RE = np.concatenate([self.stored.read(row) for row in rows_B.tolist()])
            start = int(starts_M[rows_B[0]])
            values_RE[start : start + len(part_RE)] = torch.from_numpy(part_RE).to(device)
        starts_N = starts_M[self.text_N].to(device)
        return Tokens(values_RE, starts_N, self.lengths_N.to(device), self.longest)

    def read_ahead(self, rows_B: Tensor) -> None:
        """Start to read the tokens of a batch."""
        self.stored.read_ahead(self.text_N[rows_B].tolist())

    def batch(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Tokens`."""
        self.read_ahead(rows_B)
        lengths_B = self.lengths_N[rows_B]
        mask_BT = torch.arange(self.longest) < lengths_B[:, None]
        tokens_BTE = np.zeros((len(rows_B), self.longest, self.dim), np.float32)
        for at, (text, length) in enumerate(
            zip(self.text_N[rows_B].tolist(), lengths_B.tolist(), strict=True)
        ):
            if length:
                tokens_BTE[at, :length] = self.stored.read(text)
        return torch.from_numpy(tokens_BTE), mask_BT


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

    def known(self, texts: Sequence[str]) -> int:
        """How many of the texts are in the cache."""
        return int(self._store.find([_key(text) for text in texts]).there_N.sum())

    def read(self, texts: Sequence[str]) -> StoredTokens:
        """The tokens of each text; texts may repeat.

        Raises:
            DataError: a text is not in the cache.
        """
        distinct = list(dict.fromkeys(texts))
        number_of = {text: number for number, text in enumerate(distinct)}
        stored = self._store.find([_key(text) for text in distinct])
        text_N = torch.tensor([number_of[text] for text in texts], dtype=torch.int64)
        lengths_M = torch.from_numpy(stored.lengths())
        if lost := sum(1 for text, there in zip(distinct, stored.there_N, strict=True) if text and not there):
            raise DataError(f"{counted(lost, 'text')} not in the cache of features: run the step again")
        longest = max([1, *lengths_M.tolist()])
        return StoredTokens(stored, text_N, lengths_M[text_N], longest, self.dim)

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
