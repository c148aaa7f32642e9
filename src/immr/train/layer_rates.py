"""Layer-wise learning rates: what is near the pixels serves any picture, and changes least."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import nn

from immr.errors import RecipeError


@runtime_checkable
class Staged(Protocol):
    """An encoder that says in which parts it learns."""

    def stages(self) -> list[nn.Module]:
        """From the part that sees pixels to the one that gives features."""


def encoder_groups(
    encoder: nn.Module, share: float, decay: float, frozen_stages: int
) -> list[dict[str, Any]]:
    """Groups for an optimizer, each with its `share` of the learning rate (arXiv 1801.06146).

    Args:
        encoder: gives its `stages()`; what is in none of them does not learn.
        share: of its last stage.
        decay: the share of a stage over that of the next one.
        frozen_stages: the first of them, which do not learn at all.

    Raises:
        RecipeError: the encoder does not say what its stages are, or has none left to learn.
    """
    if not isinstance(encoder, Staged):
        raise RecipeError(
            f"{type(encoder).__name__} has no stages(), so it cannot be fine-tuned: take another encoder"
        )
    stages = encoder.stages()
    if frozen_stages >= len(stages):
        raise RecipeError(
            f"frozen_stages is {frozen_stages}, but the encoder has {len(stages)} in all: "
            "take fewer, or no fine-tuning"
        )
    encoder.requires_grad_(False)
    groups = []
    for depth, stage in enumerate(reversed(stages[frozen_stages:])):
        stage.requires_grad_(True)
        groups.append({"params": list(stage.parameters()), "share": share * decay**depth})
    return groups
