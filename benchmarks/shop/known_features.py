"""Fills a home's cache with features of a shop's pictures and texts, as if they had been computed elsewhere.

Computing them takes some 5 core-milliseconds a picture and 10 a text: most of the time of a shop of a million items.
These features are random around a centre for each item, so a photo resembles its item. They have nothing to do with
the pixels, so a search in such a shop finds anything.

Shapes: N pictures, B pictures of a block, F image features, K centres, T tokens of a text, W words, E text features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq

from immr.model.features.document_features import fusion_of
from immr.model.features.image_features import ImageFeatures
from immr.model.features.text_features import TextFeatures, document_text
from immr.model.features.views import view_names
from immr.recipes import Recipe
from immr.storage import fingerprint
from immr.types import FloatArray, Item

TOKENS = 12
_NOISE = 0.5  # a picture's own, where centres of items have 1
_KINDS = 1000  # centres that items mix, and words
_AT_ONCE = 8192
_ANY_TIME = datetime(2025, 1, 1, tzinfo=UTC)
_T = TypeVar("_T")


def fill(shop: Path, cache_dir: Path, recipe: Recipe, seed: int = 0) -> None:
    """Write features of the pictures and texts of all items, and of all photos.

    Args:
        shop: a folder that `tables.write` has written.
        cache_dir: the home's cache.
        recipe: its encoders' features, in the views that it trains on.
        seed: of everything random.
    """
    table = pq.read_table(shop / "items.parquet")
    images = ImageFeatures(recipe.model, cache_dir)
    centre_KF = np.random.default_rng([seed, 5]).standard_normal((2 * _KINDS, images.dim), dtype=np.float32)
    truth = pq.read_table(shop / "truth.parquet")["item_id"].to_pylist()
    for folder, item_N in (("catalogue", range(len(table))), ("photos", [int(each[1:]) for each in truth])):
        for start, item_B in _blocks(item_N):
            paths = [shop / folder / f"{start + row}.jpg" for row in range(len(item_B))]
            hashes = [fingerprint.of_file(path) for path in paths]
            for number, view in enumerate(view_names(recipe.train.views)):
                rng = np.random.default_rng([seed, 6, len(folder), start, number])
                images.add(view, dict(zip(hashes, _pictures(centre_KF, item_B, rng), strict=True)))
    if fusion_of(recipe.model).uses_text:
        texts = TextFeatures(recipe.model, cache_dir)
        word_WE = np.random.default_rng([seed, 7]).standard_normal((_KINDS, texts.dim)).astype(np.float16)
        for start, rows in _blocks(table.select(["title", "category", "description"]).to_pylist()):
            rng = np.random.default_rng([seed, 8, start])
            values_BTE = word_WE[rng.integers(_KINDS, size=(len(rows), TOKENS))]
            texts.add({_text(**row): values_TE for row, values_TE in zip(rows, values_BTE, strict=True)})


def _pictures(centre_KF: FloatArray, item_B: Sequence[int], rng: np.random.Generator) -> FloatArray:
    """(B, 1, F): an item mixes two centres, in the same shares in each of its pictures."""
    number_B = np.array(item_B)
    share_B1 = 0.5 + (number_B // _KINDS**2 % 10)[:, None] / 20
    one_BF, other_BF = centre_KF[number_B % _KINDS], centre_KF[_KINDS + number_B // _KINDS % _KINDS]
    mixed_BF = share_B1 * one_BF + (1 - share_B1) * other_BF
    noise_BF = rng.standard_normal(mixed_BF.shape, dtype=np.float32)
    return (mixed_BF + _NOISE * noise_BF)[:, None]


def _text(title: str, category: str, description: str) -> str:
    return document_text(Item("", title, description, category, "", 0.0, _ANY_TIME))


def _blocks(values: Sequence[_T]) -> Iterator[tuple[int, Sequence[_T]]]:
    for start in range(0, len(values), _AT_ONCE):
        yield start, values[start : start + _AT_ONCE]
