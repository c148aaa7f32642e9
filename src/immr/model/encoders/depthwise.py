"""Depthwise convolutions whose weight gradient is fast on a CPU.

For this gradient, oneDNN 3.12 took 2 to 5 times as long as it could if the kernel had five pixels or more and the map
was small (one CPU, a script of its own; `benchmarks.depthwise` measures whole steps). It is fast at depthwise
convolutions, and the gradient can be written as one: dW[k] is the sum of x[o·stride + k - padding] · dy[o] over o and
the batch, which convolves the map x of each picture and channel with its own dy (ours).

Shapes: B pictures, C channels, H × W map, P × Q map of the output, K kernel side.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SMALLEST_KERNEL = 5  # oneDNN is fast for three pixels


def use_fast_gradients(encoder: nn.Module) -> int:
    """Replace the depthwise convolutions of an encoder on a CPU that have large kernels.

    Outputs and names of parameters stay the same, and so do gradients, except for rounding.

    Args:
        encoder: Changed in place.

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
        and min(layer.kernel_size) >= _SMALLEST_KERNEL
        and all(len(set(sides)) == 1 for sides in (layer.kernel_size, layer.stride, layer.padding))
    )


class _Depthwise(nn.Module):
    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.before = getattr(layer, "static_padding", nn.Identity())  # of EfficientNet-Lite: not symmetric
        self._stride, self._padding = int(layer.stride[0]), int(layer.padding[0])

    def forward(self, map_BCHW: Tensor) -> Tensor:
        output: Tensor = _Function.apply(  # type: ignore[no-untyped-call]
            self.before(map_BCHW), self.weight, self.bias, self._stride, self._padding
        )
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
        map_BCHW: Its input, (B, C, H, W).
        grad_BCPQ: The gradient of its output, (B, C, P, Q).
        kernel: Its side in pixels.
        stride: In pixels.
        padding: In pixels, the same on all sides.
    """
    pictures, channels, height, width = map_BCHW.shape
    if not pictures:  # torch refuses a convolution of no channels
        return map_BCHW.new_zeros(channels, 1, kernel, kernel)
    farthest = max(grad_BCPQ.shape[2:]) - 1
    reach = min(padding, farthest) if stride == 1 else padding  # beyond it, the weight only meets padding
    each_1NHW = (
        map_BCHW.permute(2, 3, 0, 1).reshape(1, height, width, pictures * channels).permute(0, 3, 1, 2)
    )
    grads_N1PQ = grad_BCPQ.reshape(pictures * channels, 1, *grad_BCPQ.shape[2:])
    found_1Nkk = F.conv2d(each_1NHW, grads_N1PQ, None, 1, reach, dilation=stride, groups=len(grads_N1PQ))
    side = kernel - 2 * (padding - reach)
    found_BCkk = found_1Nkk[..., :side, :side].reshape(pictures, channels, side, side)
    return F.pad(found_BCkk.sum(0).unsqueeze(1), [padding - reach] * 4)
