"""How the image encoder is trained, after the towers were trained on its frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from immr.types import Count, CountOrZero, Pixels, Positive, Share, ShareBelowOne, Weight


@dataclass(frozen=True)
class FineTuneRecipe:
    """Sizes are per process; rates are per step."""

    epochs: CountOrZero = 10
    least_steps: CountOrZero = 200  # of these epochs: few photos have more epochs
    image_size_px: Pixels = 160  # below the model's: crops show things larger (FixRes, arXiv 1906.06423)
    batch_size: Count = 32  # photos
    document_batch_size: Count = 8
    learning_rate: Positive = 1e-3  # of the towers; the classifier's is multiplied by its factor
    encoder_share: Weight = 2.0  # of the learning rate, for the encoder's last stage
    stage_decay: Positive = 1.0  # ratio of a stage's rate to that of the next stage
    frozen_stages: CountOrZero = 3  # not training the first stages saves a third of the time and costs little
    augmentation: Literal["photos", "drawings"] = "photos"
    weight_decay: Weight = 0.02  # of the encoder's matrices; the towers keep theirs
    warmup_share: Share = 0.1
    average_decay: ShareBelowOne = 0.98  # of the moving average that becomes the version
    autocast: bool | None = None  # bfloat16; by default on a GPU: CPUs lack fast depthwise convolutions in it
    compile: bool | None = None  # the encoder, on a GPU, which takes a minute; None: if there are many steps
    encoder_parallel: Literal["replicated", "fsdp2"] = "replicated"  # fsdp2: for encoders larger than a rank
