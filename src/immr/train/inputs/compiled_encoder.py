"""The encoder compiled for a GPU and one batch size."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import torch
from torch import Tensor, nn

from immr.train.inputs.augmented_inputs import Encoder, autocast

_SHOWN = 400  # characters of an error
_log = logging.getLogger(__name__)


def compiled(encoder: nn.Module, pixels_B3SS: Tensor, in_bfloat16: bool, **options: Any) -> Encoder:
    """The encoder through torch.compile; if that fails, logs a warning and returns it uncompiled.

    Encoders with many equal layers compile one of them, which takes a tenth of the time.

    Args:
        encoder: on its device, with `requires_grad` set.
        pixels_B3SS: of the size of a step; forward and backward pass are compiled now, so that errors show here.
        in_bfloat16: as in `AugmentedInputs`.
        options: of torch.compile.
    """
    layers = _equal_layers(encoder)
    faster = encoder if layers else torch.compile(encoder, dynamic=False, **options)
    for layer in layers:
        layer.compile(dynamic=False, **options)
    try:
        _try(faster, pixels_B3SS, in_bfloat16)
    except Exception as error:  # compilers raise many types
        _log.warning(
            "the encoder runs without torch.compile, and is slower: %s", " ".join(str(error).split())[:_SHOWN]
        )
        for layer in layers:
            layer._compiled_call_impl = None
        return encoder
    finally:
        encoder.zero_grad(set_to_none=True)
    return faster


def use_fast_kernels(encoder: nn.Module) -> None:
    """Let cuDNN choose kernels by measuring them, and transformers use fused attention."""
    torch.backends.cudnn.benchmark = True
    for module in encoder.modules():
        choose = getattr(module, "set_attn_implementation", None)
        if choose is not None:
            with contextlib.suppress(ValueError):  # this model has none
                choose("sdpa")


def _try(encoder: Encoder, pixels_B3SS: Tensor, in_bfloat16: bool) -> None:
    with autocast(pixels_B3SS.device, in_bfloat16):
        pooled_BF, _ = encoder(pixels_B3SS)
    if pooled_BF.requires_grad:
        torch.autograd.backward(pooled_BF.float().sum())


def _equal_layers(encoder: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: all of one class with parameters of the same shapes."""
    lists = [list(module) for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    longest = max(lists, key=len, default=[])
    shapes = {(type(layer), tuple(parameter.shape for parameter in layer.parameters())) for layer in longest}
    return longest if len(longest) > 1 and len(shapes) == 1 else []
