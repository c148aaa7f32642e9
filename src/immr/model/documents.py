"""Encodes items with a version's document tower, for its index and for its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from immr.machine.progress_bar import ProgressBar
from immr.model.model_card import TOWERS, Card, tuned_weights
from immr.storage.scratch import rows_at, scratch
from immr.types import FloatArray, Item

if TYPE_CHECKING:
    from torch import Tensor

    from immr.model.encoders.loading import Loading
    from immr.model.model_recipe import ModelRecipe
    from immr.model.towers import DocumentBatch, Towers

_BATCH = 256


@dataclass(frozen=True)
class PictureEmbeddings:
    """A document for each picture of each item.

    Attributes:
        rows_PD: (P, D) unit rows; an item's pictures are one after the other, its main picture first, the
            photos of its class last.
        pictures_N: how many rows each item has, at least 1.
        photo_P: the place of each row's photo in `photos_KD`, −1 for a picture; None without class photos.
        photos_KD: the class photos as searches embed them.
    """

    rows_PD: FloatArray
    pictures_N: list[int]
    photo_P: npt.NDArray[np.int64] | None = None
    photos_KD: FloatArray | None = None

    @classmethod
    def one_each(cls, rows_ND: FloatArray) -> PictureEmbeddings:
        """Of items with one picture."""
        return cls(rows_ND, [1] * len(rows_ND))


def encode_pictures(
    folder: Path,
    items: Sequence[Item],
    cache_dir: Path,
    loading: Loading | None = None,
    hashes: Mapping[str, str] | None = None,
) -> PictureEmbeddings:
    """Embed items once for each of their pictures, so that searches can find them by the best one.

    If the version has photos of an item's class, the item is found by them, too, see `class_photos`. A further
    picture that cannot be read is left out. For the arguments, see `encode_documents`; `hashes` are those of pictures
    that are known already, by URI.
    """
    from immr.model.encoders.loading import FRESH

    by_picture = [replace(item, image=uri, images=()) for item in items for uri in (item.image, *item.images)]
    is_main_P = np.array([place == 0 for item in items for place in range(1 + len(item.images))], dtype=bool)
    rows_PD, pictured_P = encode_each(folder, by_picture, cache_dir, loading=loading, hashes=hashes)
    kept_P = is_main_P | pictured_P
    number_P = np.cumsum(is_main_P)[kept_P] - 1  # of the item
    if not kept_P.all():
        rows_PD = rows_at(rows_PD, np.flatnonzero(kept_P))
    found = PictureEmbeddings(rows_PD, np.bincount(number_P, minlength=len(items)).tolist())
    photos = (loading or FRESH).class_photos(folder)
    if photos is None:
        return found
    added = photos.added([item.item_id for item in items], found.rows_PD, found.pictures_N)
    return PictureEmbeddings(*added, photos.rows_PD)


def load_encoders(folder: Path, cache_dir: Path, loading: Loading) -> None:
    """Load what `encode_documents` needs to embed items with the version in `folder`."""
    import torch

    from immr.model.features.document_features import DocumentFeatures

    recipe = Card.read(folder).model
    DocumentFeatures(recipe, cache_dir, tuned_weights(folder), loading).load_encoders(torch.get_num_threads())
    loading.towers(recipe, folder / TOWERS)


def encode_documents(
    folder: Path,
    items: Sequence[Item],
    cache_dir: Path,
    loading: Loading | None = None,
) -> FloatArray:
    """Embed items by their main picture and text, with the document tower of the version in `folder`.

    With `picture_as_photo` w, it is norm((1 − w) · document + w · its picture embedded as a photo) (ours): the
    projection of photos has learned from more pictures, so new items are found more often. With several
    `document_views`, it is the mean over them (test-time augmentation).

    Args:
        folder: a version's folder.
        items: the documents; those without picture or text get an embedding as well.
        cache_dir: cache of frozen features; missing ones are computed and added.
        loading: of the encoders; by default they are loaded if features are missing, and freed afterwards.

    Returns:
        (N, D) with unit rows, in the order of `items`.
    """
    return encode_each(folder, items, cache_dir, loading)[0]


def encode_each(
    folder: Path,
    items: Sequence[Item],
    cache_dir: Path,
    loading: Loading | None = None,
    hashes: Mapping[str, str] | None = None,
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """`encode_documents`, and for each item whether its picture is part of its embedding (N,)."""
    import torch
    from torch.nn.functional import normalize

    from immr.model.encoders.loading import FRESH
    from immr.model.features.document_features import DocumentFeatures
    from immr.model.features.image_features import Share
    from immr.model.features.views import document_view_names

    recipe = Card.read(folder).model
    if not items:
        return np.zeros((0, recipe.embedding_dim), dtype=np.float32), np.zeros(0, dtype=bool)
    loading = loading or FRESH
    features = DocumentFeatures(recipe, cache_dir, tuned_weights(folder), loading, hashes)
    share = Share(threads=torch.get_num_threads())
    views = document_view_names(recipe)
    features.compute(items, views, share)
    if hashes:
        features.compute_replaced(items, views, share)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    towers = loading.towers(recipe, folder / TOWERS).to(device)
    rows_ND = scratch((len(items), recipe.embedding_dim))
    pictured_N = np.zeros(len(items), dtype=bool)
    with torch.inference_mode(), ProgressBar("encoding", len(items), "documents") as progress:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            arrays, rows_B = features.read(batch, views), torch.arange(len(batch))
            seen = (arrays.batch(rows_B, torch.full_like(rows_B, view)) for view in range(len(views)))
            rows_BD = torch.stack([_embedded(towers, each.to(device), recipe) for each in seen]).mean(0)
            rows_ND[start : start + len(batch)] = normalize(rows_BD, dim=-1).cpu()
            pictured_N[start : start + len(batch)] = arrays.has_picture_N
            progress.advance(len(batch))
    return rows_ND, pictured_N


def _embedded(towers: Towers, batch: DocumentBatch, recipe: ModelRecipe) -> Tensor:
    """(B, D) unit rows of one view."""
    from torch.nn.functional import normalize

    rows_BD: Tensor = towers.document(batch)
    if weight := recipe.picture_as_photo:
        as_photos_BD = towers.query(batch.pictures_BF) * batch.has_picture_B[:, None]
        rows_BD = normalize((1 - weight) * rows_BD + weight * as_photos_BD, dim=-1)
    return rows_BD
