"""Whether an encoder's features in half precision are those in float32."""

from __future__ import annotations

from typing import Any

_LARGEST_DIFFERENCE = 1e-3  # 1 − cosine, of features in float16


def agree(found: Any, expected: Any) -> bool:
    """Whether the features (B, …) of every example have nearly the same direction; not if one is not finite."""
    import torch
    import torch.nn.functional as F

    cosine_B = F.cosine_similarity(found.flatten(1), expected.flatten(1), dim=1)
    return bool(torch.where(cosine_B.isfinite(), 1 - cosine_B, torch.inf).max() < _LARGEST_DIFFERENCE)
