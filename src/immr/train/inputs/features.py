"""Frozen features of photos and documents, computed once by all ranks together.

Shapes: N photos, V views, F image features, M items.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from immr.data.training_set import LabelledPhoto, TrainingSet
from immr.errors import TrainingError
from immr.machine.wording import counted
from immr.model.encoders.onnx_graph import encoder_graph
from immr.model.features.document_features import DocumentArrays, DocumentFeatures, fusion_of
from immr.model.features.image_features import ImageFeatures, Share
from immr.model.features.stored_features import Features, StoredFeatures
from immr.model.features.views import view_names
from immr.model.model_recipe import ModelRecipe
from immr.train.inputs.batches import Rows
from immr.train.inputs.hashes import shared_hashes
from immr.train.world import World
from immr.types import Item

_log = logging.getLogger(__name__)


_FEW_PHOTOS = 10  # a class, on average


@dataclass(frozen=True)
class TrainingArrays:
    """The training set as tensors."""

    query_ids: list[str]
    photo_images: list[str]  # URIs
    photos_NVF: Features  # of all photos, or of a sample
    photo_classes_N: Tensor
    photo_weights_N: Tensor
    documents: DocumentArrays  # of M items
    document_classes_M: Tensor
    document_images: list[str]  # URIs; empty if an item has none
    picture_hashes: Mapping[str, str]  # URI → hash of the content, of photos and of documents with pictures
    class_count: int

    @property
    def has_few_photos(self) -> bool:
        """Whether classes have so few photos that random first weights are memorized with them (ours)."""
        return len(self.photo_classes_N) < _FEW_PHOTOS * self.class_count

    def read_ahead(self, rows: Rows) -> None:
        """Start to read the features of a step that are in files."""
        if isinstance(self.photos_NVF, StoredFeatures):
            self.photos_NVF.read_ahead(rows.photos_B, rows.photo_views_B)
        self.documents.read_ahead(rows.documents_B, rows.document_views_B)

    def to(self, device: str) -> TrainingArrays:
        """The same with all tensors on a device, where they must fit: 2 bytes a feature."""
        return replace(
            self,
            photos_NVF=self.photos_NVF.to(device),
            photo_classes_N=self.photo_classes_N.to(device),
            photo_weights_N=self.photo_weights_N.to(device),
            documents=self.documents.to(device),
            document_classes_M=self.document_classes_M.to(device),
        )


def training_arrays(
    training_set: TrainingSet,
    recipe: ModelRecipe,
    views: int,
    cache_dir: Path,
    world: World,
    sample: int | None = None,
) -> TrainingArrays:
    """Each rank computes its share of the missing features, then all ranks read all of them from the cache's files.

    Unseen classes of the training set are left out with their documents, as if they were not in the catalogue yet.
    The remaining classes are renumbered without gaps.

    Args:
        training_set: photos and items.
        recipe: its encoders are used.
        views: of each picture.
        cache_dir: the cache of features.
        world: this rank.
        sample: `photos_NVF` holds the features of at most this many photos, evenly spaced, which are enough to
            standardize towers that only fine-tuning trains. None: of all photos.

    Raises:
        TrainingError: there are no photos, no items, or only one class.
        ImageError: a photo cannot be read.
    """
    row_of = _rows_of_classes(training_set)
    queries = [query for query in training_set.queries if query.class_id in row_of]
    learned = [
        (item, row_of[class_id])
        for item, class_id in zip(training_set.items, training_set.item_classes, strict=True)
        if class_id in row_of
    ]
    items, names = [item for item, _ in learned], view_names(views)
    _check(training_set, queries, items, row_of)
    if world.leads and len({query.class_id for query in queries}) == 1:
        _log.warning(
            "all photos show the same class: collect clicks on other items, or it will be found too often"
        )
    images = [query.image for query in queries]
    of_documents = [item.image for item in items] if fusion_of(recipe).uses_picture else []
    hashes = shared_hashes(images, world, of_documents, known=training_set.image_hashes())
    step = -(-len(images) // sample) if sample else 1
    photos_NVF, documents = _features(images[::step], items, hashes, names, recipe, cache_dir, world)
    return TrainingArrays(
        query_ids=[query.query_id for query in queries],
        photo_images=images,
        photos_NVF=photos_NVF,
        photo_classes_N=torch.tensor([row_of[query.class_id] for query in queries]),
        photo_weights_N=torch.tensor([query.weight for query in queries], dtype=torch.float32),
        documents=documents,
        document_classes_M=torch.tensor([row for _, row in learned]),
        document_images=[item.image for item in items],
        picture_hashes=hashes,
        class_count=len(row_of),
    )


def _check(
    training_set: TrainingSet,
    queries: Sequence[LabelledPhoto],
    items: Sequence[Item],
    row_of: Mapping[int, int],
) -> None:
    if not queries or not items:
        raise TrainingError(
            f"{training_set.folder} has {counted(len(queries), 'photo')} and {counted(len(items), 'item')}, but "
            "training needs both: its report.html shows where they were dropped"
        )
    if len(row_of) < 2:
        raise TrainingError(
            f"all items of {training_set.folder} are in one class, but training learns to tell classes apart: add "
            "other items, or search without training (`immr start`)"
        )


def _features(
    images: Sequence[str],
    items: Sequence[Item],
    hashes: Mapping[str, str],
    names: Sequence[str],
    recipe: ModelRecipe,
    cache_dir: Path,
    world: World,
) -> tuple[Features, DocumentArrays]:
    """Features of photos, (N, V, F), and of documents."""
    photos, documents = ImageFeatures(recipe, cache_dir), DocumentFeatures(recipe, cache_dir, hashes=hashes)
    if world.leads and world.device == "cpu":  # a GPU runs the module, and fine-tuning exports it later
        encoder_graph(recipe, cache_dir)
    world.barrier()
    share = Share(world.rank, world.size, torch.get_num_threads())
    photos.compute({image: hashes[image] for image in images}, names, share)
    documents.compute(items, names, share)
    world.barrier()
    return photos.read([hashes[image] for image in images], names), documents.read(items, names)


def _rows_of_classes(training_set: TrainingSet) -> dict[int, int]:
    """class_id → classifier row, without unseen classes."""
    learned = sorted(set(training_set.item_classes) - training_set.unseen_classes)
    return {class_id: row for row, class_id in enumerate(learned)}
