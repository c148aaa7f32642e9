"""How training goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from immr.train.fine_tune_recipe import FineTuneRecipe


@dataclass(frozen=True)
class TrainRecipe:
    """Sizes are per process; rates are per step."""

    processes: int = 2
    epochs: int = 25
    batch_size: int = 64  # photos
    document_batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    warmup_share: float = 0.1
    margin_kind: Literal["cosface", "arcface"] = "cosface"
    margin: float = 0.2
    scale: float = 10.0
    negative_rate: float = 1.0  # share of the classes that a step's softmax sees; 1.0 is the exact softmax
    classifier_optimizer: Literal["adamw", "sgd"] = "adamw"
    classifier_rows: Literal["float32", "bfloat16"] = (
        "float32"  # bfloat16: half the memory, rounded at random
    )
    classifier_rate_factor: float = 1.0  # of learning_rate; SGD wants a larger one
    momentum: float = 0.9  # of SGD
    views: int = 4  # augmented views of each training photo whose frozen features are cached
    dropout: float = 0.5  # of the frozen, standardized features
    hide_modality: float = 0.1  # share of documents whose picture or text a step hides
    fine_tune: FineTuneRecipe | None = None  # a second stage, in which the encoder learns as well
    checkpoint_every_steps: int = 200
    seed: int = 0
