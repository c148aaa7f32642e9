"""Softmax over rows on several ranks, with a hand-written backward pass that never holds more than one buffer.

Few logits are kept for the backward pass in the buffer of the forward pass. Many are computed in chunks of
columns, and again in the backward pass (as in arXiv 2411.09009), so memory does not grow with the classes.
The host reads nothing here.

Shapes: A examples of all ranks, S rows of this rank, K of these rows in one chunk, D embedding, N ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from immr.train.classifier.collectives import gather_values
from immr.train.classifier.conflicts import drop_conflicts
from immr.train.classifier.margins import Margin
from immr.train.classifier.matmul import product
from immr.train.world import World

LARGEST_BUFFER = 1 << 28  # logits
_SHORTEST = 1e-12  # as in torch.nn.functional.normalize


@dataclass(frozen=True)
class Targets:
    """The column of each example's class, and whether this rank has it; both (A,)."""

    column_A: Tensor
    is_own_A: Tensor

    @classmethod
    def among(cls, labels_A: Tensor, rows_S: Tensor, row_count: int) -> Targets:
        """Columns of the labels in the sorted `rows_S`, which are below `row_count`."""
        if not len(rows_S):
            return cls(torch.zeros_like(labels_A), torch.zeros_like(labels_A, dtype=torch.bool))
        column_A = torch.searchsorted(rows_S, labels_A).clamp_max_(len(rows_S) - 1)
        is_own_A = (rows_S[column_A] == labels_A) & (labels_A >= 0) & (labels_A < row_count)
        return cls(column_A, is_own_A)


@dataclass(frozen=True)
class MarginSoftmax:
    """Cosine softmax with a margin on the right class (CosFace, ArcFace)."""

    margin: Margin
    scale: float
    world: World
    conflict_cosine: float = 1.0  # negatives above this cosine are left out; 1 keeps all
    largest_buffer: int = LARGEST_BUFFER  # logits

    def __call__(
        self, embeddings_AD: Tensor, rows_SD: Tensor, targets: Targets, is_padding_S: Tensor | None = None
    ) -> Tensor:
        """−log softmax of the right class, (A,), equal on all ranks.

        Differentiable once in both tensors. The gradient of the embeddings is this rank's term of the sum over
        ranks, as `gather_rows` expects.

        Args:
            embeddings_AD: unit rows, the same on all ranks.
            rows_SD: this rank's classes, of any length.
            targets: each example must appear on exactly one rank.
            is_padding_S: rows that take no part.
        """
        chunks = _Chunks(embeddings_AD, rows_SD, targets, is_padding_S, self)
        loss_A: Tensor = _Function.apply(embeddings_AD, rows_SD, chunks)  # type: ignore[no-untyped-call]
        return loss_A


class _Chunks:
    """The logits, some columns at a time."""

    def __init__(
        self,
        embeddings_AD: Tensor,
        rows_SD: Tensor,
        targets: Targets,
        is_padding_S: Tensor | None,
        softmax: MarginSoftmax,
    ):
        self.scaled_AD = softmax.scale * embeddings_AD.detach()
        self.rows_SD, self.targets, self.is_padding_S = rows_SD.detach(), targets, is_padding_S
        self.softmax = softmax
        self.width = max(1, softmax.largest_buffer // max(1, len(embeddings_AD)))

    def __iter__(self) -> Iterator[slice]:
        for start in range(0, len(self.rows_SD), self.width):
            yield slice(start, min(start + self.width, len(self.rows_SD)))

    @property
    def fits(self) -> bool:
        """Whether one chunk holds all."""
        return len(self.rows_SD) <= self.width

    def unit(self, part: slice) -> tuple[Tensor, Tensor]:
        """The chunk's rows with norm 1, (K, D), and their norms, (K, 1)."""
        rows_KD = self.rows_SD[part]
        length_K1 = rows_KD.norm(dim=1, keepdim=True).clamp_min_(_SHORTEST)
        return rows_KD / length_K1, length_K1

    def place(self, part: slice) -> tuple[Tensor, Tensor]:
        """Each example's column in the chunk, (A, 1), and whether its class is there, (A,)."""
        column_A, is_own_A = self.targets.column_A - part.start, self.targets.is_own_A
        if not self.fits:
            is_own_A = is_own_A & (column_A >= 0) & (column_A < part.stop - part.start)
            column_A = column_A.clamp(0, part.stop - part.start - 1)
        return column_A[:, None], is_own_A

    def logits(self, part: slice, unit_KD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The chunk's logits (A, K), each right class's logit, and the margin's derivative there; both (A,)."""
        softmax, (column_A1, is_own_A) = self.softmax, self.place(part)
        logits_AK = product(self.scaled_AD, unit_KD.T)
        cosine_A = logits_AK.gather(1, column_A1)[:, 0] / softmax.scale
        target_A = softmax.scale * softmax.margin(cosine_A)
        if softmax.conflict_cosine < 1.0:
            drop_conflicts(logits_AK, softmax.scale * softmax.conflict_cosine)
        if self.is_padding_S is not None:
            logits_AK.masked_fill_(self.is_padding_S[part], -math.inf)
        other_A = logits_AK.gather(1, column_A1)[:, 0]
        logits_AK.scatter_(1, column_A1, torch.where(is_own_A, target_A, other_A)[:, None])
        return logits_AK, torch.where(is_own_A, target_A, 0.0), softmax.margin.slope(cosine_A)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings_AD: Tensor, rows_SD: Tensor, chunks: _Chunks) -> Tensor:
        lowest = torch.finfo(embeddings_AD.dtype).min
        highest_A = torch.full_like(embeddings_AD[:, 0], lowest)
        sum_A, target_A = torch.zeros_like(highest_A), torch.zeros_like(highest_A)
        ctx.kept = None
        for part in chunks:
            unit_KD, length_K1 = chunks.unit(part)
            logits_AK, own_target_A, slope_A = chunks.logits(part, unit_KD)
            before_A, highest_A = highest_A, torch.maximum(highest_A, logits_AK.amax(1))
            exponents_AK = logits_AK.sub_(highest_A[:, None]).exp_()
            sum_A = sum_A * (before_A - highest_A).exp() + exponents_AK.sum(1)
            target_A = target_A + own_target_A
            if chunks.fits:
                ctx.kept = unit_KD, length_K1, exponents_AK, slope_A
        log_sum_A, target_A = log_sum_over_ranks(highest_A, sum_A, target_A, chunks.softmax.world)
        # turns an exponent in the buffer into a probability
        ctx.share_A = (highest_A - log_sum_A).exp()
        ctx.chunks, ctx.log_sum_A, ctx.spent = chunks, log_sum_A, False
        ctx.save_for_backward(embeddings_AD, rows_SD)
        return log_sum_A - target_A

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        if ctx.spent:
            raise RuntimeError("this loss supports one backward pass, which overwrites its buffer")
        ctx.spent = True
        embeddings_AD, rows_SD = ctx.saved_tensors
        chunks, kept = ctx.chunks, ctx.kept
        ctx.kept = None
        scaled_A = gradients[0] * chunks.softmax.scale
        parts = list(chunks)
        embeddings_gradient_AD = torch.zeros_like(embeddings_AD)
        rows_gradient_SD = torch.empty_like(rows_SD) if len(parts) != 1 else None
        for part in parts:
            if kept is None:
                unit_KD, length_K1 = chunks.unit(part)
                logits_AK, _, slope_A = chunks.logits(part, unit_KD)
                gradient_AK = logits_AK.sub_(ctx.log_sum_A[:, None]).exp_().mul_(scaled_A[:, None])
            else:
                unit_KD, length_K1, exponents_AK, slope_A = kept
                gradient_AK = exponents_AK.mul_((scaled_A * ctx.share_A)[:, None])
            column_A1, is_own_A = chunks.place(part)
            at_A = gradient_AK.gather(1, column_A1)[:, 0]
            own_A = torch.where(is_own_A, (at_A - scaled_A) * slope_A, at_A)
            gradient_AK.scatter_(1, column_A1, own_A[:, None])
            rows_gradient_KD = _of_rows(product(gradient_AK.T, embeddings_AD), unit_KD, length_K1)
            if rows_gradient_SD is None:
                return product(gradient_AK, unit_KD), rows_gradient_KD, None
            rows_gradient_SD[part] = rows_gradient_KD
            embeddings_gradient_AD += product(gradient_AK, unit_KD)
        assert rows_gradient_SD is not None
        return embeddings_gradient_AD, rows_gradient_SD, None


def _of_rows(unit_gradient_KD: Tensor, unit_KD: Tensor, length_K1: Tensor) -> Tensor:
    """From the gradient of unit rows to that of the rows."""
    along_K1 = torch.linalg.vecdot(unit_gradient_KD, unit_KD)[:, None]
    return unit_gradient_KD.addcmul_(unit_KD, along_K1, value=-1).div_(length_K1)


def log_sum_over_ranks(
    highest_A: Tensor, sum_A: Tensor, target_A: Tensor, world: World
) -> tuple[Tensor, Tensor]:
    """Log of the sum of exponents over all ranks, and each right class's logit, in one message; both (A,).

    Args:
        highest_A: this rank's largest logit of each example.
        sum_A: this rank's sum of exponents relative to it.
        target_A: logit of the right class; zero if another rank has it.
        world: all ranks call this together.
    """
    highest_NA, sum_NA, target_NA = gather_values(torch.stack([highest_A, sum_A, target_A]), world).unbind(1)
    whole_A = highest_NA.amax(0)
    return (sum_NA * (highest_NA - whole_A).exp()).sum(0).log() + whole_A, target_NA.sum(0)
