"""A GPU without a GPU: tensors that say they are on `cuda` and have no values, by torch's FakeTensorMode.

Work on tensors of two devices fails, as on a GPU, and so does every read of a value. What needs a driver (streams,
events, pinned memory, graphs, launches of kernels) is replaced by checks of its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import MagicMock

import torch
import torch._dynamo  # before `_make_subclass` is replaced, whose signature it compares
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_leaves, tree_map

from immr.train.classifier import sharded_classifier
from immr.train.inputs import augmented_pictures

GPU = "cuda:0"


class _FakeGpu(FakeTensorMode):
    """torch's C++ takes the GPU's tensors for those of `meta`, because without CUDA it has no autograd for them."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(self._without_values, (args, dict(kwargs or {})))
        if kwargs.get("device") == torch.device("meta"):
            kwargs["device"] = torch.device(GPU)
        if func is torch.ops.aten._fused_sgd_.default:  # torch computes no shapes for it
            tensors = [value for value in tree_leaves(args) if isinstance(value, Tensor)]
            assert all(value.device.type == "cuda" for value in tensors)
            return None
        return super().dispatch(func, types, args, kwargs)

    def _without_values(self, value: object) -> object:
        is_real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return self.from_tensor(value) if is_real else value


@contextmanager
def fake_gpu(monkeypatch: Any) -> Iterator[FakeTensorMode]:
    """In the block, tensors have no values. Autocast has no effect, because C++ decides on it."""
    make, mode = Tensor._make_subclass, _FakeGpu()

    def made(cls: Any, elem: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if torch.device(options.get("device_for_backend_keys") or "cpu").type == "cuda":
            options["dispatch_device"] = False
        return make(cls, elem, *arguments, **options)

    def pinned(values: Tensor) -> Tensor:
        assert values.device.type == "cpu", "only memory of the host can be pinned"
        return values

    def created(create: Any) -> Any:
        def creating(*args: Any, pin_memory: bool = False, **options: Any) -> Tensor:
            assert not pin_memory or torch.device(options.get("device") or "cpu").type == "cpu"
            values: Tensor = create(*args, **options)
            return values

        return creating

    def on_the_host(work: Any) -> Any:
        def working(*args: Any, **options: Any) -> Any:
            with unset_fake_temporarily():
                return work(*args, **options)

        return working

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "_make_subclass", staticmethod(made))
        patch.setattr(Tensor, "pin_memory", pinned)
        patch.setattr(nn.Module, "_apply", _applied)
        for name in ("tensor", "empty"):
            patch.setattr(torch, name, created(getattr(torch, name)))
        for name in ("is_available", "is_bf16_supported"):
            patch.setattr(torch.cuda, name, lambda *_, **__: True)
        patch.setattr(torch.cuda, "Stream", MagicMock())
        for name in ("current_stream", "synchronize"):
            patch.setattr(torch.cuda, name, MagicMock())
        patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        patch.setattr(FakeTensor, "record_stream", lambda *_: None, raising=False)
        for owner, name in ((augmented_pictures.Drawing, "of"), (augmented_pictures, "sheets")):
            patch.setattr(owner, name, on_the_host(getattr(owner, name)))
        patch.setattr(sharded_classifier, "cuda_graph", _recorded)
        patch.setattr("triton.runtime.interpreter.GridExecutor.__call__", _launched)
        with mode:
            yield mode


def _applied(module: nn.Module, function: Any, recurse: bool = True) -> nn.Module:
    """As torch's, which cannot give a module parameters of another device without values."""
    found: dict[Tensor, nn.Parameter] = {}
    for each in module.modules():
        for name, old in each._parameters.items():
            if old is not None and old not in found:
                found[old] = nn.Parameter(function(old.detach()), old.requires_grad)
            each._parameters[name] = None if old is None else found[old]
        for name, buffer in each._buffers.items():
            each._buffers[name] = None if buffer is None else function(buffer)
    return module


def _recorded(work: Any) -> Any:
    work()
    return MagicMock()


def _launched(executor: Any, *args: Any, **kwargs: Any) -> None:
    """Triton checks neither devices nor strides: a kernel would read whatever is at an address of the host."""
    for value in tree_leaves((args, kwargs)):
        if isinstance(value, Tensor):
            assert value.device.type == "cuda" and value.is_contiguous(), f"{executor.fn} with {value}"
