"""A training set of random features, and trainers of it on devices that have no values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from immr.model.encoders.by_name import image_encoder_spec, text_encoder_spec
from immr.model.features.document_features import DocumentArrays
from immr.model.features.image_features import image_hashes
from immr.model.features.text_features import Tokens
from immr.model.towers import Towers
from immr.train import stages
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import make_classifier
from immr.train.inputs.features import TrainingArrays
from immr.train.inputs.tower_inputs import FrozenInputs
from immr.train.loop import Trainer
from immr.train.world import World
from tests.support.tiny_training_set import MODEL, TRAIN

KINDS: list[dict[str, Any]] = [
    {"negative_rate": 1.0, "classifier_optimizer": "sgd"},
    {"negative_rate": 1.0, "classifier_optimizer": "adamw"},
    {"negative_rate": 1.0, "classifier_optimizer": "adagrad"},
    {"negative_rate": 0.3, "classifier_optimizer": "sgd"},
    {"negative_rate": 0.3, "classifier_optimizer": "adamw", "conflict_cosine": 0.5},
    {"negative_rate": 0.3, "classifier_optimizer": "adagrad", "classifier_rows": "bfloat16"},
    {"negative_rate": 0.3, "margin_kind": "arcface", "pair_weight": 0.5, "picture_weight": 0.5},
    {
        "class_weight": 0.0,
        "picture_weight": 0.5,
        "pair_weight": 1.0,
        "pair_photo_weight": 0.5,
        "pair_memory": 8,
    },
]
"""Changes of a recipe, which together use every kind of classifier and loss."""


def random_arrays(folder: Path) -> TrainingArrays:
    """Six classes, each with six photos and a document, whose pictures are written to the folder."""
    generator = torch.Generator().manual_seed(0)

    def pictures(count: int, kind: str) -> list[str]:
        paths = [folder / f"{kind}-{number}.png" for number in range(count)]
        for number, path in enumerate(paths):
            Image.new("RGB", (48, 56), (10 * number % 256, 90, 200)).save(path)
        return [str(path) for path in paths]

    image, text = image_encoder_spec(MODEL.image_encoder), text_encoder_spec(MODEL.text_encoder)
    photos, documents = pictures(36, "photo"), pictures(6, "document")
    return TrainingArrays(
        query_ids=[f"q{number}" for number in range(36)],
        photo_images=photos,
        photos_NVF=torch.randn(36, TRAIN.views, image.dim, generator=generator).half(),
        photo_classes_N=torch.arange(36) % 6,
        photo_weights_N=torch.rand(36, generator=generator),
        documents=DocumentArrays(
            pictures_NVF=torch.randn(6, TRAIN.views, image.dim, generator=generator).half(),
            patches_NVPF=None,
            has_picture_N=torch.arange(6) < 6,
            tokens=Tokens(
                torch.randn(24, text.dim, generator=generator).half(),
                torch.arange(0, 24, 4),
                torch.full((6,), 4),
                longest=4,
            ),
        ),
        document_classes_M=torch.arange(6),
        document_images=documents,
        picture_hashes=image_hashes([*photos, *documents]),
        class_count=6,
    )


def in_memory(arrays: TrainingArrays) -> TrainingArrays:
    """The same with features in memory, as on a GPU, so that a test can change them."""
    documents = arrays.documents
    copied = {name: getattr(documents, name)._copied("cpu") for name in ("pictures_NVF", "tokens")}
    documents = dataclasses.replace(documents, **copied)
    return dataclasses.replace(arrays, photos_NVF=arrays.photos_NVF._copied("cpu"), documents=documents)


def move_to(trainer: Trainer, world: World) -> None:
    """Move it as if `Trainer` had been created there, without the towers' statistics, which need values."""
    trainer.world, trainer.arrays = world, trainer.arrays.to(world.device)
    trainer.towers = Towers(MODEL, trainer.recipe.dropout, trainer.recipe.hide_modality)
    trainer.towers.to(world.device).train()
    trainer.stage = dataclasses.replace(
        trainer.stage,
        network=trainer.towers,
        inputs=FrozenInputs(trainer.arrays),
        optimizer=stages._adamw([{"params": [*trainer.towers.parameters()]}], 1e-3, world),
    )
    shard = Shard(trainer.arrays.class_count, MODEL.dim, world, trainer.recipe.seed)
    trainer.classifier = make_classifier(trainer.recipe, shard)
    trainer._empty_memory()
