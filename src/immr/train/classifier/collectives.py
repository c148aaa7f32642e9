"""Differentiable collectives; with one rank they do nothing.

A loss computed with these is the same on every rank, and every rank calls backward on it. So the gradient of a sum
over ranks is passed back unchanged, and that of a gather is summed over ranks before each takes its own part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from immr.train.world import World

# torch 2.11 knows them by their older names, which are deprecated since
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def gather_rows(rows_BD: Tensor, world: World) -> Tensor:
    """All ranks' rows in rank order, (size·B, D); every rank must have the same B. Differentiable."""
    if world.size == 1:
        return rows_BD
    gathered: Tensor = _GatherRows.apply(rows_BD, world)  # type: ignore[no-untyped-call]
    return gathered


def sum_over_ranks(values: Tensor, world: World) -> Tensor:
    """Elementwise sum over ranks. Differentiable."""
    if world.size == 1:
        return values
    total: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return total


def gather_values(values: Tensor, world: World) -> Tensor:
    """All ranks' values stacked in rank order, (size, …), without a gradient."""
    if world.size == 1:
        return values.detach()[None]
    return _gathered(values.detach(), world).view(world.size, *values.shape)


def sum_gradients(parameters: Iterable[torch.nn.Parameter], world: World) -> None:
    """Sum the gradients of replicated parameters in one message per device; a missing gradient becomes zero.

    With one rank missing gradients become zero as well, so the optimizer does not depend on the number of ranks.
    Gradients of sharded parameters have been summed by FSDP.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if world.size == 1:
        return
    replicated: dict[torch.device, list[torch.nn.Parameter]] = {}
    for parameter in learning:
        if not isinstance(parameter, DTensor):
            replicated.setdefault(parameter.device, []).append(parameter)
    for together in replicated.values():
        _sum_gradients(together)


def _sum_gradients(parameters: list[torch.nn.Parameter]) -> None:
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    dist.all_reduce(flat)
    start = 0
    for parameter in parameters:
        count = parameter.numel()
        parameter.grad = flat[start : start + count].view_as(parameter).clone()
        start += count


def _gathered(values: Tensor, world: World) -> Tensor:
    whole = values.new_empty(world.size * len(values), *values.shape[1:])
    _all_gather(whole, values.contiguous())
    return whole


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_BD: Tensor, world: World) -> Tensor:
        ctx.world, ctx.count = world, len(rows_BD)
        return _gathered(rows_BD, world)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient_AD = gradients[0].contiguous()
        own_BD = gradient_AD.new_empty(ctx.count, *gradient_AD.shape[1:])
        _reduce_scatter(own_BD, gradient_AD)
        return own_BD, None


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]
