"""Encodes items with a version's document tower, for its index and for its evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr.data import images
from immr.errors import DataError
from immr.machine.progress_bar import ProgressBar
from immr.model.card import TOWERS, Card, tuned_weights
from immr.model.prototypes import Prototypes
from immr.types import FloatArray, Item

if TYPE_CHECKING:
    from immr.model.encoders.loading import Loading

_log = logging.getLogger(__name__)

_BATCH = 256
_SMALL_PX = 32


@dataclass(frozen=True)
class PictureEmbeddings:
    """A document for each picture of each item.

    Attributes:
        rows_PD: (P, D) unit rows; an item's pictures are one after the other, its main picture first.
        pictures_N: how many rows each item has, at least 1.
    """

    rows_PD: FloatArray
    pictures_N: list[int]


def encode_pictures(
    folder: Path, items: Sequence[Item], cache_dir: Path, loading: Loading | None = None
) -> PictureEmbeddings:
    """Embed items once for each of their pictures, so that searches can find them by the best one.

    A further picture that cannot be read is left out, with a warning. For the arguments, see `encode_documents`.
    """
    readable = [[uri for uri in item.images if _is_readable(uri, item.item_id)] for item in items]
    by_picture = [
        replace(item, image=uri, images=())
        for item, others in zip(items, readable, strict=True)
        for uri in (item.image, *others)
    ]
    rows_PD = encode_documents(folder, by_picture, cache_dir, loading=loading)
    return PictureEmbeddings(rows_PD, [1 + len(others) for others in readable])


def _is_readable(uri: str, item_id: str) -> bool:
    try:
        images.decode(images.read(uri), min_side_px=_SMALL_PX)
    except DataError as error:
        _log.warning("indexing item %s without a further picture: %s", item_id, error)
        return False
    return True


def load_encoders(folder: Path, cache_dir: Path, loading: Loading) -> None:
    """Load what `encode_documents` needs to embed items with the version in `folder`."""
    import torch

    from immr.model.features.document_features import DocumentFeatures

    features = DocumentFeatures(Card.read(folder).model, cache_dir, tuned_weights(folder), loading)
    features.load_encoders(torch.get_num_threads())


def encode_documents(
    folder: Path,
    items: Sequence[Item],
    cache_dir: Path,
    photo_weight: float | None = None,
    loading: Loading | None = None,
) -> FloatArray:
    """Embed items by their main picture and text, with the document tower of the version in `folder`.

    Where the version knows photos of an item, they move its document towards them, see `prototypes`.

    Args:
        folder: a version's folder.
        items: the documents; those without picture or text get an embedding as well.
        cache_dir: cache of frozen features; missing ones are computed and added.
        photo_weight: instead of the version's.
        loading: of the encoders; by default they are loaded if features are missing, and freed afterwards.

    Returns:
        (N, D) with unit rows, in the order of `items`.
    """
    import torch

    from immr.model.encoders.loading import FRESH
    from immr.model.features.document_features import DocumentFeatures
    from immr.model.features.image_features import Share
    from immr.model.towers import Towers

    recipe = Card.read(folder).model
    if not items:
        return np.zeros((0, recipe.embedding_dim), dtype=np.float32)
    features = DocumentFeatures(recipe, cache_dir, tuned_weights(folder), loading or FRESH)
    features.compute(items, ["fit"], Share(threads=torch.get_num_threads()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tower = Towers.read(recipe, folder / TOWERS).document.to(device)
    parts = []
    with torch.inference_mode(), ProgressBar("encoding", len(items), "documents") as progress:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            rows_B = torch.arange(len(batch))
            found = features.read(batch, ["fit"]).batch(rows_B, torch.zeros_like(rows_B))
            parts.append(tower(found.to(device)).cpu())
            progress.advance(len(batch))
    embeddings_ND: FloatArray = torch.cat(parts).numpy()
    weight = recipe.photo_weight if photo_weight is None else photo_weight
    prototypes = Prototypes.read(folder) if weight else None
    if prototypes is None:
        return embeddings_ND
    return prototypes.mixed([item.item_id for item in items], embeddings_ND, weight)
