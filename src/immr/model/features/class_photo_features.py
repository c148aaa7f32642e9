"""The class photos of a version, embedded from the photos of its training set."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from immr.data.training_set import LabelledPhoto, TrainingSet
from immr.model.class_photos import ClassPhotos
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.model_card import tuned_weights
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import QueryTower

_BATCH = 4096


def class_photos_of(
    training_set: TrainingSet, recipe: ModelRecipe, tower: QueryTower, folder: Path, cache_dir: Path
) -> ClassPhotos:
    """Embeddings of a training set's photos, of each class those whose labels are believed most.

    Args:
        training_set: its photos and items; classes held out as unseen get none.
        recipe: the version's; it says how many photos a class may have.
        tower: encodes photos, on the CPU.
        folder: the version's; its fine-tuned encoder is used if it has one.
        cache_dir: cache of features; missing ones are computed and added.

    Raises:
        ImageError: a photo cannot be read.
    """
    by_class = _chosen(training_set, recipe.photos_per_class)
    photos = [photo for group in by_class.values() for photo in group]
    hashes = image_hashes([photo.image for photo in photos], training_set.image_hashes())
    features = ImageFeatures(recipe, cache_dir, weights=tuned_weights(folder))
    features.compute(hashes, ["fit"], Share(threads=torch.get_num_threads()))
    rows_PD = np.zeros((len(photos), recipe.embedding_dim), dtype=np.float32)
    tower.eval()
    with torch.inference_mode():
        for start in range(0, len(photos), _BATCH):
            part = photos[start : start + _BATCH]
            read_BF = features.read([hashes[photo.image] for photo in part], ["fit"]).in_view(0).float()
            rows_PD[start : start + len(part)] = tower(read_BF).numpy()
    number_of = {class_id: number for number, class_id in enumerate(by_class)}
    classes = zip(training_set.items, training_set.item_classes, strict=True)
    return ClassPhotos(
        {item.item_id: number_of[class_id] for item, class_id in classes if class_id in number_of},
        [len(group) for group in by_class.values()],
        rows_PD,
    )


def _chosen(training_set: TrainingSet, most: int) -> dict[int, list[LabelledPhoto]]:
    """At most `most` photos of each class."""
    of_class: dict[int, list[LabelledPhoto]] = defaultdict(list)
    for photo in training_set.queries:
        if photo.class_id not in training_set.unseen_classes:
            of_class[photo.class_id].append(photo)
    return {
        class_id: sorted(of_class[class_id], key=lambda each: (-each.weight, each.query_id))[:most]
        for class_id in sorted(of_class)
    }
