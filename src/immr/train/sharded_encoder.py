"""Encoders too large for one rank: parameters, gradients and optimizer state in shards (FSDP, arXiv 2304.11277).

A sharded parameter is a `DTensor`, all others are plain tensors. Optimizer, average and checkpoints accept both.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.modules.batchnorm import _BatchNorm

from immr.train.world import World


def shard(encoder: nn.Module, world: World, in_bfloat16: bool = False) -> None:
    """Split each parameter into one piece per rank, in place; whole ones exist for one block at a time.

    The gradient of a piece is the sum over ranks, as `sum_gradients` computes it for replicated parameters,
    because every rank's loss is already the loss of all. With one rank nothing is split.

    Args:
        encoder: its parameters must be contiguous; create its optimizer afterwards.
        world: all ranks call this together.
        in_bfloat16: ranks send parameters in bfloat16 and compute with these; pieces, gradients' sums and moments
            stay float32. Ignored if the encoder has batch normalization, whose statistics are float32: autocast alone
            then reduces its products.
    """
    if world.size == 1:
        return
    # patch features are a view, and nothing modifies features in place
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    device = next(encoder.parameters()).device.type
    mesh = init_device_mesh(device, (world.size,))
    precision = MixedPrecisionPolicy()
    if in_bfloat16 and not any(isinstance(module, _BatchNorm) for module in encoder.modules()):
        precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for module in (
        *_blocks(encoder),
        encoder,
    ):  # parameters outside of the blocks are gathered with the whole
        sharded = fully_shard(module, mesh=mesh, mp_policy=precision)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo supports nothing else


def whole_state(module: nn.Module) -> dict[str, Any]:
    """The module's state in whole tensors on the CPU; valid on the leading rank only.

    All ranks call it together.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(module, options=options)


def _blocks(encoder: nn.Module) -> list[nn.Module]:
    """The layers; every supported encoder keeps them in its longest `ModuleList`."""
    lists = (list(module) for module in encoder.modules() if isinstance(module, nn.ModuleList))
    return max(lists, key=lambda blocks: len(blocks), default=[])
