"""The classifier's matrix product: oneDNN for float32 on a CPU, torch's default otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def product(left_MK: Tensor, right_KN: Tensor) -> Tensor:
    """left @ right, (M, N); not differentiable.

    torch uses MKL for float32, which takes more than twice the time of oneDNN on AMD CPUs. Both compute in float32.
    """
    if _for_onednn(left_MK) and left_MK.numel() and right_KN.numel():
        found: Tensor = torch.ops.mkldnn._linear_pointwise(left_MK, right_KN.T, None, "none", [], "")
        return found
    return left_MK @ right_KN


def _for_onednn(values: Tensor) -> bool:
    on_cpu = values.device.type == "cpu" and values.dtype == torch.float32
    return on_cpu and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
