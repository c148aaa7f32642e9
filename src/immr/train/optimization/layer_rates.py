"""Parameter groups: learning rates by layer, and weight decay for matrices only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from torch import nn

from immr.errors import RecipeError


@runtime_checkable
class Staged(Protocol):
    """An encoder that can be fine-tuned."""

    def stages(self) -> list[nn.Module]:
        """The encoder's parts in order, from the one that sees pixels to the one that returns features."""


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, share: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for an optimizer; biases and normalization (vectors) get no weight decay.

    Args:
        parameters: those of one layer or module.
        weight_decay: of the matrices and convolutions among them.
        share: of the learning rate.
    """
    matrices, vectors = list[nn.Parameter](), list[nn.Parameter]()
    for parameter in parameters:
        (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [(matrices, weight_decay), (vectors, 0.0)]
    return [
        {"params": members, "weight_decay": decay, "share": share} for members, decay in groups if members
    ]


def encoder_groups(
    encoder: nn.Module, share: float, decay: float, frozen_stages: int, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimizer, each with its `share` of the learning rate (arXiv 1801.06146).

    Layers near the pixels are generic, so they need to change least.

    Args:
        encoder: must have `stages()`; parameters outside of them are not trained.
        share: of its last stage.
        decay: ratio of a stage's rate to that of the next stage.
        frozen_stages: how many of the first stages are not trained.
        weight_decay: of matrices and convolutions.

    Raises:
        RecipeError: the encoder has no stages, or all of them would be frozen.
    """
    if not isinstance(encoder, Staged):
        raise RecipeError(
            f"{type(encoder).__name__} has no stages(), so it cannot be fine-tuned: choose another"
        )
    stages = encoder.stages()
    if frozen_stages >= len(stages):
        raise RecipeError(
            f"frozen_stages is {frozen_stages}, but the encoder has {len(stages)} stages: "
            "freeze fewer, or do not fine-tune"
        )
    encoder.requires_grad_(False)
    groups = []
    for depth, stage in enumerate(reversed(stages[frozen_stages:])):
        stage.requires_grad_(True)
        groups += parameter_groups(stage.parameters(), weight_decay, share * decay**depth)
    return groups
