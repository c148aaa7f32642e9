"""Softmax over rows on several ranks, with a hand-written backward pass: one buffer of logits, no copies.

Shapes: A examples of all ranks, S rows of this rank, T examples whose class is among them, D embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from immr.train.classifier.collectives import max_over_ranks, sum_over_ranks
from immr.train.classifier.conflicts import drop_conflicts
from immr.train.classifier.margins import Margin
from immr.train.classifier.matmul import product
from immr.train.world import World

_SHORTEST = 1e-12  # as in torch.nn.functional.normalize


@dataclass(frozen=True)
class Targets:
    """The examples whose class is on this rank, and its column; both (T,)."""

    example_T: Tensor
    column_T: Tensor

    @classmethod
    def among(cls, labels_A: Tensor, rows_S: Tensor) -> Targets:
        """The examples whose label is in the sorted `rows_S`."""
        if not len(rows_S):
            return cls(labels_A[:0], labels_A[:0])
        column_A = torch.searchsorted(rows_S, labels_A).clamp_max_(len(rows_S) - 1)
        example_T = (rows_S[column_A] == labels_A).nonzero().flatten()
        return cls(example_T, column_A[example_T])


@dataclass(frozen=True)
class MarginSoftmax:
    """Cosine softmax with a margin on the right class (CosFace, ArcFace)."""

    margin: Margin
    scale: float
    world: World
    conflict_cosine: float = 1.0  # negatives above this cosine are left out; 1 keeps all

    def __call__(self, embeddings_AD: Tensor, rows_SD: Tensor, targets: Targets) -> Tensor:
        """−log softmax of the right class, (A,), equal on all ranks.

        Differentiable once in both tensors. The gradient of the embeddings is this rank's term of the sum over
        ranks, as `gather_rows` expects.

        Args:
            embeddings_AD: unit rows, the same on all ranks.
            rows_SD: this rank's classes, of any length.
            targets: each example must appear on exactly one rank.
        """
        loss_A: Tensor = _Function.apply(embeddings_AD, rows_SD, targets, self)  # type: ignore[no-untyped-call]
        return loss_A


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings_AD: Tensor, rows_SD: Tensor, targets: Targets, softmax: MarginSoftmax
    ) -> Tensor:
        length_S1 = rows_SD.norm(dim=1, keepdim=True).clamp_min_(_SHORTEST)
        unit_SD = rows_SD / length_S1
        place = (targets.example_T, targets.column_T)
        logits_AS = product(softmax.scale * embeddings_AD, unit_SD.T)
        hardened_T, slope_T = _hardened(softmax.margin, logits_AS[place] / softmax.scale)
        if softmax.conflict_cosine < 1.0:
            drop_conflicts(logits_AS, softmax.scale * softmax.conflict_cosine)
        logits_AS[place] = softmax.scale * hardened_T
        highest_A = max_over_ranks(_row_max(logits_AS), softmax.world)
        target_A = torch.zeros_like(highest_A)
        target_A[targets.example_T] = softmax.scale * hardened_T
        exponents_AS = logits_AS.sub_(highest_A[:, None]).exp_()
        sums_2A = sum_over_ranks(torch.stack([exponents_AS.sum(1), target_A]), softmax.world)
        ctx.save_for_backward(embeddings_AD, unit_SD, length_S1, sums_2A[0], slope_T)
        # not a saved tensor, because the backward pass overwrites it
        ctx.exponents_AS, ctx.place, ctx.scale = exponents_AS, place, softmax.scale
        return sums_2A[0].log() + highest_A - sums_2A[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        embeddings_AD, unit_SD, length_S1, sum_A, slope_T = ctx.saved_tensors
        if ctx.exponents_AS is None:
            raise RuntimeError("this loss supports one backward pass, which overwrites its buffer")
        scaled_A = gradients[0] * ctx.scale
        cosine_gradient_AS = ctx.exponents_AS.mul_((scaled_A / sum_A)[:, None])
        ctx.exponents_AS = None
        at_T = cosine_gradient_AS[ctx.place] - scaled_A[ctx.place[0]]
        cosine_gradient_AS[ctx.place] = at_T * slope_T
        unit_gradient_SD = product(cosine_gradient_AS.T, embeddings_AD)
        along_S1 = torch.linalg.vecdot(unit_gradient_SD, unit_SD)[:, None]
        rows_gradient_SD = unit_gradient_SD.addcmul_(unit_SD, along_S1, value=-1).div_(length_S1)
        return product(cosine_gradient_AS, unit_SD), rows_gradient_SD, None, None


def _hardened(margin: Margin, cosine_T: Tensor) -> tuple[Tensor, Tensor]:
    """The margin's value and its derivative."""
    with torch.enable_grad():
        cosine_T = cosine_T.detach().requires_grad_()
        hardened_T = margin(cosine_T)
        (slope_T,) = torch.autograd.grad(hardened_T.sum(), cosine_T)
    return hardened_T.detach(), slope_T


def _row_max(logits_AS: Tensor) -> Tensor:
    if logits_AS.shape[1]:
        return logits_AS.amax(1)
    return torch.full((len(logits_AS),), -math.inf, dtype=logits_AS.dtype, device=logits_AS.device)
