"""How the encoder goes on learning once the towers have learned on its frozen features."""

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
    learning_rate: float = 1e-3  # of the towers; of the classifier times its factor
    encoder_share: float = 2.0  # of the learning rate, for the encoder's last stage
    stage_decay: float = 1.0  # the rate of a stage over that of the next one
    frozen_stages: int = 3  # the first of them do not learn: a third of the time, and hardly any of the gain
    weight_decay: float = 0.02  # of the encoder; the towers keep theirs
    warmup_share: float = 0.1
    average_decay: float = 0.98  # of the moving average that becomes the version
    autocast: bool = False  # bfloat16; on CPUs without AMX it halves the speed
    encoder_parallel: Literal["replicated", "fsdp2"] = "replicated"  # fsdp2: in shards, for big ones
