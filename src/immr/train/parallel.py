"""Encoders too big for one rank: parameters, and all that is kept of each, in shards (arXiv 2304.11277).

A sharded parameter is a `DTensor`, others are plain tensors; optimizer, average and checkpoints take both.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from immr.train.world import World


def shard(encoder: nn.Module, world: World) -> None:
    """Cut each parameter into one piece per rank, in place; whole ones exist for one block at a time.

    The gradient of a piece is the sum over ranks, as `sum_gradients` makes it for replicated parameters: each
    rank's loss is already that of all. In a world of one nothing is cut.

    Args:
        encoder: its parameters are contiguous, and optimizers are made after this.
        world: all of it calls this together.
    """
    if world.size == 1:
        return
    # patch features are a view; nobody changes features in place
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    device = next(encoder.parameters()).device.type
    mesh = init_device_mesh(device, (world.size,))
    for module in (*_blocks(encoder), encoder):  # what is in no block goes with the whole
        sharded = fully_shard(module, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def whole_state(module: nn.Module) -> dict[str, Any]:
    """Its state on the CPU in plain whole tensors, on the leader; what others get is of no use.

    All ranks call it together.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(module, options=options)


def _blocks(encoder: nn.Module) -> list[nn.Module]:
    """The layers: every encoder here keeps them in its longest list."""
    lists = (list(module) for module in encoder.modules() if isinstance(module, nn.ModuleList))
    return max(lists, key=lambda blocks: len(blocks), default=[])
