"""Prototypes: what shoppers' photos of a class look like, mixed into the documents of its items.

A prototype is the sum of the embeddings of a class's training photos. To classify by it alone is nearest class mean
(Mensink et al. 2013); to add it to the embedding from the catalogue is ours. An item without photos keeps its own.
It helps where documents were not trained against class rows, and costs recall of items without photos.

Shapes: N items, C classes with photos, D embedding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr.data.training_set import LabelledPhoto, TrainingSet
from immr.model.card import PROTOTYPES, tuned_weights
from immr.model.model_recipe import ModelRecipe
from immr.types import FloatArray

if TYPE_CHECKING:
    from immr.model.towers import QueryTower

_PHOTOS_PER_CLASS = 32  # the rest would hardly change the direction
_BATCH = 4096


@dataclass(frozen=True)
class Prototypes:
    """The prototypes of a version.

    Attributes:
        row_of: the class of each item that has photos, by item_id.
        sums_CD: the sum of each class's photo embeddings, weighted by how much their labels are believed.
    """

    row_of: dict[str, int]
    sums_CD: FloatArray

    @classmethod
    def read(cls, folder: Path) -> Prototypes | None:
        """The prototypes in a version's folder; None if it has none."""
        if not (folder / PROTOTYPES).is_file():
            return None
        with np.load(folder / PROTOTYPES) as arrays:
            row_of = dict(zip(arrays["item_ids"].tolist(), arrays["rows"].tolist(), strict=True))
            return cls(row_of, arrays["sums"].astype(np.float32))

    def write(self, folder: Path) -> None:
        """Write the file that `read` reads."""
        np.savez(
            folder / PROTOTYPES,
            item_ids=np.array(list(self.row_of), dtype=str),
            rows=np.array(list(self.row_of.values()), dtype=np.int32),
            sums=self.sums_CD.astype(np.float16),
        )

    def mixed(self, item_ids: Sequence[str], documents_ND: FloatArray, photo_weight: float) -> FloatArray:
        """Documents with the photos of their items: norm(document + photo_weight × prototype).

        Args:
            item_ids: N ids.
            documents_ND: their embeddings, unit rows.
            photo_weight: of one photo; the document itself counts as 1.

        Returns:
            (N, D) with unit rows.
        """
        rows_N = np.array([self.row_of.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
        known_N = rows_N >= 0
        mixed_ND = documents_ND.copy()
        mixed_ND[known_N] += photo_weight * self.sums_CD[rows_N[known_N]]
        norm_N1 = np.linalg.norm(mixed_ND, axis=1, keepdims=True)
        unit_ND: FloatArray = mixed_ND / np.maximum(norm_N1, np.float32(1e-12))
        return unit_ND


def prototypes_of(
    training_set: TrainingSet, recipe: ModelRecipe, tower: QueryTower, folder: Path, cache_dir: Path
) -> Prototypes:
    """Prototypes from a training set's photos, of at most 32 photos per class.

    Args:
        training_set: its photos and items; classes held out as unseen get none.
        recipe: the version's.
        tower: encodes photos, on the CPU.
        folder: the version's; its fine-tuned encoder is used if it has one.
        cache_dir: cache of features; missing ones are computed and added.

    Raises:
        ImageError: a photo cannot be read.
    """
    import torch

    from immr.model.features.image_features import ImageFeatures, Share, image_hashes

    photos = _chosen(training_set)
    known = training_set.image_hashes()
    hashes = {photo.image: known[photo.image] for photo in photos if photo.image in known}
    hashes |= image_hashes([photo.image for photo in photos if photo.image not in known])
    features = ImageFeatures(recipe, cache_dir, weights=tuned_weights(folder))
    features.compute(hashes, ["fit"], Share(threads=torch.get_num_threads()))
    row_of = {class_id: row for row, class_id in enumerate(sorted({photo.class_id for photo in photos}))}
    sums_CD = np.zeros((len(row_of), recipe.embedding_dim), dtype=np.float32)
    tower.eval()
    with torch.inference_mode():
        for start in range(0, len(photos), _BATCH):
            part = photos[start : start + _BATCH]
            read_BF = features.read([hashes[photo.image] for photo in part], ["fit"])[:, 0, 0]
            embedded_BD = tower(torch.from_numpy(read_BF).float()).numpy()
            weights_B1 = np.array([[photo.weight] for photo in part], dtype=np.float32)
            np.add.at(sums_CD, [row_of[photo.class_id] for photo in part], weights_B1 * embedded_BD)
    classes = zip(training_set.items, training_set.item_classes, strict=True)
    return Prototypes(
        {item.item_id: row_of[class_id] for item, class_id in classes if class_id in row_of}, sums_CD
    )


def _chosen(training_set: TrainingSet) -> list[LabelledPhoto]:
    """Of each class, the photos whose labels are believed most."""
    of_class: dict[int, list[LabelledPhoto]] = defaultdict(list)
    for photo in training_set.queries:
        if photo.class_id not in training_set.unseen_classes:
            of_class[photo.class_id].append(photo)
    return [
        photo
        for photos in of_class.values()
        for photo in sorted(photos, key=lambda each: (-each.weight, each.query_id))[:_PHOTOS_PER_CLASS]
    ]
