"""An exponential moving average of what learns: steadier than the last step, and often better."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """A slow copy of a module (Polyak & Juditsky 1992; with the warm-up of TensorFlow's moving average).

    After k updates it moves by 1 − min(decay, (1 + k) / (10 + k)), so a short run is not held at its start.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network, in what it learns; the rest was the same from the start and stays so."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for slow, fast in zip(self.network.parameters(), network.parameters(), strict=True):
            if fast.requires_grad:
                slow.lerp_(fast, 1 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The copy, and how often it moved."""
        return {"network": self.network.state_dict(), "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.network.load_state_dict(state_dict["network"])
        updates: Tensor = state_dict["updates"]
        self.updates = int(updates)
