"""The learning rate over training: a pure function, so that a resumed run goes on where it was."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """Linear warm-up to the peak, then half a cosine down to nearly zero. `step` counts from 0."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
