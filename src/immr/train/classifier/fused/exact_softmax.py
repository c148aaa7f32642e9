"""The exact softmax over rows with a dense optimizer, in kernels.

Shapes: A examples of all ranks, R rows of this rank, D embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from immr.train.classifier.fused.softmax import FusedSoftmax
from immr.train.classifier.sampling import Sample
from immr.train.classifier.softmax import Targets


class FusedExact:
    """−log softmax of the right class, (A,), equal on all ranks; differentiable in embeddings and rows."""

    def __init__(self, softmax: FusedSoftmax):
        self.softmax = softmax

    def __call__(self, embeddings_AD: Tensor, rows_RD: Tensor, targets: Targets) -> Tensor:
        """The gradient of the embeddings is this rank's term of the sum over ranks."""
        loss_A: Tensor = _Loss.apply(embeddings_AD, rows_RD, targets, self.softmax)  # type: ignore[no-untyped-call]
        return loss_A


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings_AD: Tensor, rows_RD: Tensor, targets: Targets, softmax: FusedSoftmax
    ) -> Tensor:
        from immr.train.classifier.kernels import rows as row_kernels

        every_R = torch.arange(len(rows_RD), device=rows_RD.device)
        # no row has missed a step, so what belongs to missed steps is never read
        stored = row_kernels.Stored(
            rows_RD, rows_RD, rows_RD, every_R, every_R, every_R, kind=row_kernels.ADAGRAD
        )
        rows = softmax.read(stored, Sample(every_R, None), targets)
        ctx.softmax, ctx.forward = softmax, softmax.forward(embeddings_AD.float().contiguous(), rows, targets)
        loss_A: Tensor = ctx.forward.loss_A
        return loss_A

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        upstream_A = gradients[0].float().contiguous()
        return *ctx.softmax.backward(ctx.forward, upstream_A), None, None
