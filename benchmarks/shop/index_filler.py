"""Fills a catalogue up with copies of its items, so that an index of any size needs few pictures to be encoded.

A copy has the embedding of its original with noise, and texts, prices and features of its own.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from immr.data.contract import IMPRESSIONS
from immr.features.item_stats import item_stats
from immr.loop import govern
from immr.model.documents import encode_documents
from immr.settings import Settings
from immr.types import FloatArray, Item
from immr.wiring import connect

NOISE = 0.5  # length of the noise, where that of an embedding is 1


def pad(home: Path, documents: int, seed: int = 0) -> None:
    """Replace the champion's collection and the features by those of so many items."""
    with connect(Settings(home=home)) as parts:
        champion = parts.registry.role("champion")
        assert champion is not None, "`immr start` makes one"
        items = govern.training_set_of(parts, champion).items
        folder = parts.registry.fetch(champion, parts.settings.cache_dir)
        rows_ND = encode_documents(folder, items, parts.settings.cache_dir)
        many = [_copy(items[number % len(items)], number // len(items)) for number in range(documents)]
        parts.index.build(champion, many, _copies(rows_ND, documents, seed))
        parts.features.materialize(item_stats(many, IMPRESSIONS.columns.empty_table(), datetime.now(UTC)))


def _copy(item: Item, number: int) -> Item:
    """The item itself for number 0."""
    if not number:
        return item
    return replace(
        item,
        item_id=f"{item.item_id}-{number}",
        title=f"{item.title} {number}",
        price=item.price + number,
    )


def _copies(rows_ND: FloatArray, documents: int, seed: int) -> FloatArray:
    noise_MD = np.random.default_rng(seed).standard_normal((documents, rows_ND.shape[1]), dtype=np.float32)
    noise_MD *= NOISE / np.linalg.norm(noise_MD, axis=1, keepdims=True)
    noise_MD[: len(rows_ND)] = 0
    copies_MD = rows_ND[np.arange(documents) % len(rows_ND)] + noise_MD
    copies_MD /= np.linalg.norm(copies_MD, axis=1, keepdims=True)
    return copies_MD
