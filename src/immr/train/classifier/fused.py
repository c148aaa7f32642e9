"""The classifier's step on a GPU, with `kernels`: same results as `MarginSoftmax` and `LazyRows`.

Shapes: A examples of all ranks, R rows of this rank, S sampled rows, D embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from immr.train.classifier.lazy_rows import LazyRows
from immr.train.classifier.row_optimizers import AdamW, RowAdagrad, Sgd
from immr.train.classifier.sampling import Sample
from immr.train.classifier.softmax import MarginSoftmax, Targets, hardened, log_sum_over_ranks
from immr.train.seeds import derived_seed

if TYPE_CHECKING:
    from immr.train.classifier.kernels import rows as row_kernels


@dataclass
class UnitRows:
    """The rows of a step, as the kernels read them, and their gradient after the backward pass."""

    unit_SD: Tensor
    length_S: Tensor
    count: Tensor | None  # rows from here on are padding
    gradient_SD: Tensor | None = None


@dataclass(frozen=True)
class FusedSoftmax:
    """`MarginSoftmax` without a logit in memory."""

    softmax: MarginSoftmax
    dtype: torch.dtype  # of the matrix products; sums are float32

    def read(self, rows_RD: Tensor) -> UnitRows:
        """All rows, for an exact softmax."""
        from immr.train.classifier.kernels import rows as row_kernels

        every_R = torch.arange(len(rows_RD), device=rows_RD.device)
        stored = row_kernels.Stored(rows_RD, rows_RD, rows_RD, every_R, every_R, row_kernels.ADAGRAD, 0.0)
        return UnitRows(*row_kernels.read(stored, every_R, self.dtype), count=None)

    def __call__(self, embeddings_AD: Tensor, rows: UnitRows, targets: Targets) -> Tensor:
        """−log softmax of the right class, (A,), equal on all ranks; the backward pass sets the rows' gradient."""
        loss_A: Tensor = _Function.apply(embeddings_AD, rows, targets, self)  # type: ignore[no-untyped-call]
        return loss_A


class FusedRows:
    """Reads and steps sampled rows in one kernel each."""

    def __init__(self, rows: LazyRows, dtype: torch.dtype):
        self.rows, self.dtype = rows, dtype

    def read(self, sample: Sample) -> UnitRows:
        """The sampled rows, as a dense optimizer would have them now."""
        from immr.train.classifier.kernels import rows as row_kernels

        unit_SD, length_S = row_kernels.read(self._stored(), sample.rows_S, self.dtype)
        return UnitRows(unit_SD, length_S, sample.count)

    def step(self, sample: Sample, gradient_SD: Tensor, learning_rate: float) -> None:
        """One optimizer step of the rows just read."""
        from immr.train.classifier.kernels import rows as row_kernels

        rows, seed = self.rows, derived_seed(self.rows.seed, self.rows.done, 0) & 0x3FFFFFFF
        step, since = self._step(learning_rate), rows.since + 1
        row_kernels.update(self._stored(), sample.rows_S, gradient_SD, step, since, seed, sample.count)
        rows.finish_step(learning_rate)

    def _stored(self) -> row_kernels.Stored:
        from immr.train.classifier.kernels import rows as row_kernels

        rows, optimizer = self.rows, self.rows.optimizer
        first_R, second_RD, factors_H4 = rows.slots[0], rows.slots[-1], rows.touched_R
        kind, epsilon = row_kernels.ADAGRAD, 0.0
        if isinstance(optimizer, Sgd):
            kind, factors_H4 = row_kernels.SGD, optimizer.factors_H4
        if isinstance(optimizer, AdamW):
            kind, factors_H4 = row_kernels.ADAMW, optimizer.factors_H4
            epsilon = optimizer.catch_up_epsilon(torch.float32)
        return row_kernels.Stored(rows.rows_RD, first_R, second_RD, rows.touched_R, factors_H4, kind, epsilon)

    def _step(self, learning_rate: float) -> row_kernels.Step:
        from immr.train.classifier.kernels.rows import Step

        match self.rows.optimizer:
            case Sgd(momentum, weight_decay):
                return Step(learning_rate, momentum, decay=weight_decay)
            case AdamW((first, second), epsilon, weight_decay) as optimizer:
                bias, root_bias = optimizer.corrections(self.rows.done + 1)
                return Step(learning_rate, first, second, weight_decay, bias, root_bias, epsilon)
            case RowAdagrad(epsilon):
                return Step(learning_rate, epsilon=epsilon)
        raise TypeError(f"there is no kernel for {type(self.rows.optimizer).__name__}")


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings_AD: Tensor, rows: UnitRows, targets: Targets, fused: FusedSoftmax
    ) -> Tensor:
        from immr.train.classifier.kernels import softmax as kernels

        softmax, unit_SD = fused.softmax, rows.unit_SD
        embeddings_AD = embeddings_AD.float().contiguous()
        lowest_A = torch.full_like(embeddings_AD[:, 0], torch.finfo(torch.float32).min)
        ctx.fused, ctx.rows, ctx.problem = fused, rows, None
        if not len(unit_SD):  # a rank without classes
            log_sum_A, target_A = log_sum_over_ranks(
                lowest_A, torch.zeros_like(lowest_A), torch.zeros_like(lowest_A), softmax.world
            )
            ctx.save_for_backward(log_sum_A, lowest_A)
            return log_sum_A - target_A
        cosine_A = torch.linalg.vecdot(embeddings_AD, unit_SD[targets.column_A].float())
        hardened_A, slope_A = hardened(softmax.margin, cosine_A)
        target_A = torch.where(targets.is_own_A, softmax.scale * hardened_A, 0.0)
        ctx.problem = problem = kernels.Problem(
            scaled_AD=(softmax.scale * embeddings_AD).to(fused.dtype),
            unit_SD=unit_SD,
            column_A=torch.where(targets.is_own_A, targets.column_A, -1).int(),
            hardened_A=target_A,
            limit=softmax.scale * softmax.conflict_cosine if softmax.conflict_cosine < 1.0 else math.inf,
            count=rows.count,
        )
        highest_A, sum_A = kernels.highest_and_sum(problem)
        log_sum_A, target_A = log_sum_over_ranks(highest_A, sum_A, target_A, softmax.world)
        ctx.save_for_backward(log_sum_A, slope_A.contiguous())  # a constant slope is an expanded scalar
        return log_sum_A - target_A

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        from immr.train.classifier.kernels import softmax as kernels

        log_sum_A, slope_A = ctx.saved_tensors
        rows, upstream_A = ctx.rows, gradients[0].float().contiguous()
        if ctx.problem is None:
            rows.gradient_SD = rows.unit_SD.float()
            return upstream_A.new_zeros(len(upstream_A), rows.unit_SD.shape[1]), None, None, None
        at = ctx.problem, log_sum_A, upstream_A, slope_A
        rows.gradient_SD = kernels.gradient_of_rows(ctx.problem, rows.length_S, *at[1:])
        return kernels.gradient_of_embeddings(*at).mul_(ctx.fused.softmax.scale), None, None, None
