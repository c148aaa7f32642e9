"""Encodes items with a version's document tower, for its index and for its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from immr.model.card import TOWERS, Card, tuned_weights
from immr.types import FloatArray, Item

_BATCH = 256


def encode_documents(folder: Path, items: Sequence[Item], cache_dir: Path) -> FloatArray:
    """Embed items with the document tower of the version in `folder`.

    Args:
        folder: a version's folder.
        items: the documents; those without picture or text get an embedding as well.
        cache_dir: cache of frozen features; missing ones are computed and added.

    Returns:
        (N, D) with unit rows, in the order of `items`.
    """
    import torch

    from immr.model.features.document_features import DocumentFeatures
    from immr.model.features.image_features import Share
    from immr.model.towers import Towers

    recipe = Card.read(folder).model
    if not items:
        return np.zeros((0, recipe.embedding_dim), dtype=np.float32)
    features = DocumentFeatures(recipe, cache_dir, tuned_weights(folder))
    features.compute(items, ["fit"], Share(threads=torch.get_num_threads()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tower = Towers.read(recipe, folder / TOWERS).document.to(device)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            rows_B = torch.arange(len(batch))
            found = features.read(batch, ["fit"]).batch(rows_B, torch.zeros_like(rows_B))
            parts.append(tower(found.to(device)).cpu())
    embeddings_ND: FloatArray = torch.cat(parts).numpy()
    return embeddings_ND
