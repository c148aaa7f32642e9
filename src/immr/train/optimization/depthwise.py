"""Depthwise convolutions whose weight gradient is fast on a CPU if the map is smaller than the kernel.

There oneDNN (3.12, AVX2) computes this gradient picture by picture. As dW[k] is the sum of
x[o·stride + k − padding] · dy[o] over the batch and all positions o, and such a map has few of them, one product per
element of the kernel is far faster (ours; `benchmarks.depthwise`).

Shapes: B pictures, C channels, H × W map, P × Q map of the output, K kernel side.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def use_fast_gradients(encoder: nn.Module) -> int:
    """Replace the depthwise convolutions of an encoder on a CPU.

    Outputs and names of parameters stay the same, and so do gradients, except for rounding.

    Args:
        encoder: changed in place.

    Returns:
        How many were replaced.
    """
    found = [
        (parent, name, layer)
        for parent in encoder.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Conv2d) and _is_plain(layer) and _is_supported(layer)
    ]
    for parent, name, layer in found:
        setattr(parent, name, _Depthwise(layer))
    return len(found)


def _is_plain(layer: nn.Conv2d) -> bool:
    """Whether it is torch's own or EfficientNet-Lite's; another subclass may compute something else."""
    return type(layer) is nn.Conv2d or isinstance(getattr(layer, "static_padding", None), nn.Module)


def _is_supported(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == layer.in_channels == layer.out_channels
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and all(len(set(sides)) == 1 for sides in (layer.kernel_size, layer.stride, layer.padding))
    )


class _Depthwise(nn.Module):
    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.before = getattr(layer, "static_padding", nn.Identity())  # of EfficientNet-Lite: not symmetric
        self._stride, self._padding = int(layer.stride[0]), int(layer.padding[0])

    def forward(self, map_BCHW: Tensor) -> Tensor:
        map_BCHW = self.before(map_BCHW)
        kernel, stride, padding = self.weight.shape[-1], self._stride, self._padding
        if (max(map_BCHW.shape[2:]) + 2 * padding - kernel) // stride + 1 >= kernel:
            return F.conv2d(map_BCHW, self.weight, self.bias, stride, padding, groups=len(self.weight))
        output: Tensor = _Function.apply(map_BCHW, self.weight, self.bias, stride, padding)  # type: ignore[no-untyped-call]
        return output


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, map_BCHW: Tensor, weight_C1KK: Tensor, bias_C: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(map_BCHW, weight_C1KK)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(map_BCHW, weight_C1KK, bias_C, stride, padding, groups=len(weight_C1KK))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        [grad_BCPQ] = grads
        map_BCHW, weight_C1KK = ctx.saved_tensors
        to_map, to_weight, to_bias, *_ = ctx.needs_input_grad
        map_grad = weight_grad = bias_grad = None
        if to_map:
            map_grad = _map_gradient(map_BCHW, grad_BCPQ, weight_C1KK, ctx.stride, ctx.padding)
        if to_weight:
            weight_grad = weight_gradient(map_BCHW, grad_BCPQ, weight_C1KK.shape[-1], ctx.stride, ctx.padding)
        if to_bias:
            bias_grad = grad_BCPQ.sum((0, 2, 3))
        return map_grad, weight_grad, bias_grad, None, None


def _map_gradient(
    map_BCHW: Tensor, grad_BCPQ: Tensor, weight_C1KK: Tensor, stride: int, padding: int
) -> Tensor:
    sides = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0]
    mask = True, False, False
    found: Tensor = torch.ops.aten.convolution_backward(
        grad_BCPQ, map_BCHW, weight_C1KK, None, *sides, len(weight_C1KK), mask
    )[0]
    return found


def weight_gradient(map_BCHW: Tensor, grad_BCPQ: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The gradient of a depthwise convolution's weight, of shape (C, 1, K, K).

    Args:
        map_BCHW: its input, (B, C, H, W).
        grad_BCPQ: the gradient of its output, (B, C, P, Q).
        kernel: its side in pixels.
        stride: in pixels.
        padding: in pixels, the same on all sides.
    """
    map_BHWC, grad_BPQC = map_BCHW.permute(0, 2, 3, 1), grad_BCPQ.permute(0, 2, 3, 1)
    (_, height, width, channels), (_, rows, columns, _) = map_BHWC.shape, grad_BPQC.shape
    found_KKC = map_BCHW.new_zeros(kernel, kernel, channels)
    for i in range(kernel):
        from_rows, to_rows = _met(i - padding, height, rows, stride)
        for j in range(kernel):
            from_columns, to_columns = _met(j - padding, width, columns, stride)
            products_BPQC = map_BHWC[:, from_rows, from_columns] * grad_BPQC[:, to_rows, to_columns]
            found_KKC[i, j] = products_BPQC.sum((0, 1, 2))
    return found_KKC.permute(2, 0, 1).unsqueeze(1)


def _met(offset: int, side: int, positions: int, stride: int) -> tuple[slice, slice]:
    """Where one element of the kernel meets the map, and the output's positions where it does; both may be empty."""
    first = max(0, -(offset // stride))
    last = min(positions, (side - 1 - offset) // stride + 1)
    begin = first * stride + offset
    return slice(begin, begin + stride * max(0, last - first), stride), slice(first, max(first, last))
