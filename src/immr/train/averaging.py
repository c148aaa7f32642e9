"""An exponential moving average of what learns: steadier than the last step, and often better."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """A module's state, moving slowly (Polyak & Juditsky 1992; with the warm-up of TensorFlow's average).

    After k updates it moves by 1 − min(decay, (1 + k) / (10 + k)), so a short run is not held at its start.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network, in what it learns; the rest was the same from the start and stays so."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, fast in network.named_parameters():
            if fast.requires_grad:
                self.network[name].lerp_(fast, 1 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The copy, and how often it moved."""
        return {"network": self.network, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        for name, value in state_dict["network"].items():
            self.network[name].copy_(value)
        updates: Tensor = state_dict["updates"]
        self.updates = int(updates)
