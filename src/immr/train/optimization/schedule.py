"""The learning rate as a pure function of the step, so a resumed run continues with the right rate."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """Linear warm-up to the peak, then a half cosine to nearly zero; `step` counts from 0."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
