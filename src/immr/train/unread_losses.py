"""Losses that a device has computed and the host has not read, because each read waits for the device.

Shapes: B photos of one rank, A examples of all ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from immr.train.inputs.batches import Rows


@dataclass(frozen=True)
class StepLosses:
    """What one step leaves on the device."""

    step: int
    rows: Rows  # on the host
    means_3: Tensor  # query, document, pair
    examples_A: Tensor


@dataclass
class UnreadLosses:
    """The steps since the last read."""

    steps: list[StepLosses] = field(default_factory=list)

    def add(self, losses: StepLosses) -> None:
        """Keep a step's losses until they are read."""
        self.steps.append(losses)

    def read(self) -> tuple[list[list[float]], StepLosses | None]:
        """The means of each step since the last read, and the first step in which one is not finite.

        This is the only place where training waits for its device.
        """
        steps, self.steps = self.steps, []
        if not steps:
            return [], None
        means_K3 = torch.stack([each.means_3 for each in steps]).cpu()
        finite_K = means_K3.isfinite().all(1).tolist()
        broken = next((each for each, finite in zip(steps, finite_K, strict=True) if not finite), None)
        return means_K3.tolist(), broken
