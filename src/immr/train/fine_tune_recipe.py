"""How the image encoder is trained, after the towers were trained on its frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FineTuneRecipe:
    """Sizes are per process; rates are per step."""

    epochs: int = 10
    image_size_px: int = 160  # below the model's: crops show things larger (FixRes, arXiv 1906.06423)
    batch_size: int = 32  # photos
    document_batch_size: int = 8
    learning_rate: float = 1e-3  # of the towers; the classifier's is multiplied by its factor
    encoder_share: float = 2.0  # of the learning rate, for the encoder's last stage
    stage_decay: float = 1.0  # ratio of a stage's rate to that of the next stage
    frozen_stages: int = 3  # not training the first stages saves a third of the time and costs little
    augmentation: Literal["photos", "drawings"] = "photos"
    weight_decay: float = 0.02  # of the encoder's matrices; the towers keep theirs
    warmup_share: float = 0.1
    average_decay: float = 0.98  # of the moving average that becomes the version
    autocast: bool | None = None  # bfloat16; by default on a GPU: CPUs lack fast depthwise convolutions in it
    encoder_parallel: Literal["replicated", "fsdp2"] = "replicated"  # fsdp2: for encoders larger than a rank
