"""An exponential moving average of trained parameters: less noisy than the last step, and often better."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class Average:
    """The average of a module's state (Polyak & Juditsky 1992, with TensorFlow's warm-up).

    Update k moves it by 1 − min(decay, (1 + k) / (10 + k)), so the initial weights fade even in a short run.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move trained parameters towards the network; all others are constant and equal already."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        learning = [(name, fast) for name, fast in network.named_parameters() if fast.requires_grad]
        slow = [self.network[name] for name, _ in learning]
        if any(isinstance(each, DTensor) for each in slow):
            for own, (_, fast) in zip(slow, learning, strict=True):
                own.lerp_(fast, 1 - decay)
        elif slow:
            torch._foreach_lerp_(slow, [fast for _, fast in learning], 1 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The average and its number of updates."""
        return {"network": self.network, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for name, value in state_dict["network"].items():
            self.network[name].copy_(value)
        updates: Tensor = state_dict["updates"]
        self.updates = int(updates)
