"""The least that an encoder needs: bytes and FLOPs of its layers, if everything between them is fused."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.rows import peak

_BYTES = 2  # of a value in float16 or bfloat16
_MODULES = (nn.Conv2d, nn.Linear)


def photos_per_s(encoder: nn.Module, side: int, trained: bool) -> float:
    """Pictures per second at the GPU's bandwidth and FLOP/s, whichever allows fewer.

    Every layer reads its input and writes its output once. If trained, its gradient is read, its input is read again,
    and the input's gradient is written, and a product is computed three times. Frozen layers do only the former.

    Args:
        encoder: on the CPU, with `requires_grad` set.
        side: of a picture in pixels.
        trained: whether there is a backward pass.
    """
    moved = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal moved
        learns = trained and any(parameter.requires_grad for parameter in module.parameters())
        moved += (inputs[0].numel() + output.numel()) * _BYTES * (3 if learns else 1)

    hooks = [
        module.register_forward_hook(count) for module in encoder.modules() if isinstance(module, _MODULES)
    ]
    pixels = torch.randn(1, 3, side, side)
    with FlopCounterMode(display=False) as flops, torch.set_grad_enabled(trained):
        pooled, _ = encoder(pixels)
        if trained:
            torch.autograd.backward(pooled.float().sum())
    for hook in hooks:
        hook.remove()
    encoder.zero_grad(set_to_none=True)
    return 1 / max(moved / peak().bytes_per_s, flops.get_total_flops() / peak().flops)
