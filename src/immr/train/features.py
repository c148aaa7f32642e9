"""What training reads: frozen features of photos and documents, computed by all ranks together, once.

Shapes: N photos, V views, F image features, M items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from immr.data.training_set import TrainingSet
from immr.errors import TrainingError
from immr.model.document_features import DocumentArrays, DocumentFeatures
from immr.model.encoder_graph import encoder_graph
from immr.model.image_features import ImageFeatures, Share, image_hashes
from immr.model.recipe import ModelRecipe
from immr.model.views import view_names
from immr.train.world import World


@dataclass(frozen=True)
class TrainingArrays:
    """The training set as the towers see it."""

    query_ids: list[str]
    photos_NVF: Tensor
    photo_classes_N: Tensor
    photo_weights_N: Tensor
    documents: DocumentArrays  # of M items
    document_classes_M: Tensor
    class_count: int


def training_arrays(
    training_set: TrainingSet, recipe: ModelRecipe, views: int, cache_dir: Path, world: World
) -> TrainingArrays:
    """Each rank computes its share of what the cache lacks; then all read everything.

    Raises:
        TrainingError: the training set has no photos or no items.
        ImageError: a photo is broken.
    """
    queries, items, names = training_set.queries, training_set.items, view_names(views)
    if not queries or not items:
        raise TrainingError(
            f"{training_set.folder} has {len(queries)} photos and {len(items)} items, but training needs "
            "both: look into its report.html for where they were lost"
        )
    hashes = image_hashes([query.image for query in queries])
    photos, documents = ImageFeatures(recipe, cache_dir), DocumentFeatures(recipe, cache_dir)
    if world.leads:
        encoder_graph(recipe, cache_dir)
    world.barrier()
    share = Share(world.rank, world.size, torch.get_num_threads())
    photos.compute(hashes, names, share)
    documents.compute(items, names, share)
    world.barrier()
    photos_NV1F = torch.from_numpy(photos.read([hashes[query.image] for query in queries], names))
    return TrainingArrays(
        query_ids=[query.query_id for query in queries],
        photos_NVF=photos_NV1F[:, :, 0],
        photo_classes_N=torch.tensor([query.class_id for query in queries]),
        photo_weights_N=torch.tensor([query.weight for query in queries], dtype=torch.float32),
        documents=documents.read(items, names),
        document_classes_M=torch.tensor(training_set.item_classes),
        class_count=training_set.class_count,
    )
