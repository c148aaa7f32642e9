"""How training is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.types import (
    Count,
    CountOrZero,
    Difference,
    Positive,
    Seed,
    Share,
    ShareAboveZero,
    ShareBelowOne,
    Weight,
)

_STANDARDIZED_ON = 8192
_SAMPLED_CLASSES = 20_000


@dataclass(frozen=True)
class TrainRecipe:
    """Sizes are per process; rates are per step."""

    processes: Count = 2
    epochs: CountOrZero = 25  # on frozen features
    least_steps: CountOrZero = 300  # of these epochs: few photos have more epochs
    batch_size: Count = 64  # photos
    document_batch_size: Count = 16
    learning_rate: Positive = 3e-3
    weight_decay: Weight = 1e-4  # of matrices; biases and normalization have none
    warmup_share: Share = 0.1
    class_weight: Weight = 1.0  # of the classifier's loss
    picture_weight: Weight = 0.0  # of catalogue pictures as photos of their items, in the classifier's loss
    pair_weight: Weight = 0.0  # of the pair loss; above 0 a step's photos come in pairs with a document
    pair_photo_weight: Weight = 0.0  # of the part between photos, in the pair loss
    pair_memory: CountOrZero = 0  # documents of earlier steps that count as wrong, in the pair loss
    margin_kind: Literal["cosface", "arcface"] = "cosface"
    margin: Weight = 0.2
    scale: Positive | None = None  # None: from the number of classes
    negative_rate: ShareAboveZero | None = None  # share of the classes in a step; None: see `rate_of`
    conflict_cosine: Difference = 1.0  # negatives above this cosine are left out; 1 keeps all
    classifier_optimizer: Literal["adagrad", "adamw", "sgd"] = "adagrad"
    classifier_rows: Literal["float32", "bfloat16"] = "float32"  # bfloat16: half the memory
    classifier_products: Literal["float16", "bfloat16", "float32"] = "float16"  # on a GPU; sums are float32
    classifier_rate_factor: Weight = 10.0  # of learning_rate, for the classifier's rows
    momentum: ShareBelowOne = 0.9  # of SGD
    views: Count = 4  # augmented views of each photo whose frozen features are cached
    dropout: ShareBelowOne = 0.5  # of the frozen, standardized features
    hide_modality: Share = 0.1  # share of documents whose picture or text is hidden in a step
    fine_tune: FineTuneRecipe | None = None  # a second stage that also trains the encoder
    checkpoint_every_steps: Count = 200  # a checkpoint may be written
    checkpoint_every_s: Weight = 30.0  # and is written if the last one is this old
    seed: Seed = 0

    def rate_of(self, class_count: int) -> float:
        """Share of the classes in a step's softmax; 1 is the exact softmax.

        The default is exact up to `_SAMPLED_CLASSES`. Beyond that, this number is drawn for each step: an epoch over
        ten times the shop would otherwise take a hundred times as long.
        """
        return self.negative_rate or min(1.0, _SAMPLED_CLASSES / max(1, class_count))

    @property
    def frozen_photos(self) -> int | None:
        """How many photos need frozen features.

        None: all of them, to train towers on. A number: the size of an even sample, to standardize towers that
        only fine-tuning trains.
        """
        return None if self.epochs else _STANDARDIZED_ON
