"""The softmax on a GPU, with `kernels`: the results of `MarginSoftmax` without logits in memory.

Shapes: A examples of all ranks, S rows of this rank, D embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from immr.train.classifier.sampling import Sample
from immr.train.classifier.softmax import MarginSoftmax, Targets, log_sum_over_ranks

if TYPE_CHECKING:
    from immr.train.classifier.kernels import rows as row_kernels
    from immr.train.classifier.kernels import softmax as softmax_kernels


@dataclass(frozen=True)
class UnitRows:
    """The rows of a step, as the kernels read them."""

    unit_SD: Tensor  # in the type of the products
    length_S: Tensor
    count: Tensor | None  # rows from here on are padding
    target_AD: Tensor  # each example's right class, float32; another row if another rank has it
    target_length_A: Tensor


@dataclass(frozen=True)
class Forward:
    """Saved by the forward pass for the backward pass."""

    loss_A: Tensor
    embeddings_AD: Tensor
    rows: UnitRows
    targets: Targets
    log_sum_A: Tensor
    target_logit_A: Tensor
    cosine_A: Tensor
    slope_A: Tensor  # derivative of the margin at each right class
    problem: softmax_kernels.Logits | None  # None on a rank without classes


@dataclass(frozen=True)
class FusedSoftmax:
    """`MarginSoftmax` without logits in memory.

    Matrix products have the type `dtype`. The correct class dominates the gradient, so it is computed in float32.
    """

    softmax: MarginSoftmax
    dtype: torch.dtype  # of the matrix products; sums are float32

    def read(self, stored: row_kernels.Stored, sample: Sample, targets: Targets) -> UnitRows:
        """The sampled rows and those of the right classes, with norm 1."""
        from immr.train.classifier.kernels import rows as row_kernels

        unit_SD, length_S = row_kernels.read(stored, sample.rows_S, self.dtype)
        if not len(sample.rows_S):
            empty_AD = unit_SD.new_zeros(len(targets.column_A), unit_SD.shape[1], dtype=torch.float32)
            return UnitRows(unit_SD, length_S, sample.count, empty_AD, empty_AD[:, 0])
        at_target = row_kernels.read(stored, sample.rows_S[targets.column_A], torch.float32)
        return UnitRows(unit_SD, length_S, sample.count, *at_target)

    def forward(self, embeddings_AD: Tensor, rows: UnitRows, targets: Targets) -> Forward:
        """The loss of every example, equal on all ranks; not differentiable, but see `backward`."""
        from immr.train.classifier.kernels import softmax as kernels

        softmax, problem = self.softmax, None
        cosine_A = torch.linalg.vecdot(embeddings_AD, rows.target_AD)
        own_logit_A = torch.where(targets.is_own_A, softmax.scale * softmax.margin(cosine_A), 0.0)
        highest_A = torch.full_like(cosine_A, torch.finfo(torch.float32).min)
        sum_A = torch.zeros_like(cosine_A)
        if len(rows.unit_SD):
            problem = kernels.Logits(
                scaled_AD=(softmax.scale * embeddings_AD).to(self.dtype),
                unit_SD=rows.unit_SD,
                column_A=torch.where(targets.is_own_A, targets.column_A, -1).int(),
                hardened_A=own_logit_A,
                limit=softmax.scale * softmax.conflict_cosine if softmax.conflict_cosine < 1.0 else math.inf,
                count=rows.count,
            )
            highest_A, sum_A = kernels.highest_and_sum(problem)
        log_sum_A, target_logit_A = log_sum_over_ranks(highest_A, sum_A, own_logit_A, softmax.world)
        return Forward(
            loss_A=log_sum_A - target_logit_A,
            embeddings_AD=embeddings_AD,
            rows=rows,
            targets=targets,
            log_sum_A=log_sum_A,
            target_logit_A=target_logit_A,
            cosine_A=cosine_A,
            slope_A=softmax.margin.slope(cosine_A),
            problem=problem,
        )

    def backward(self, forward: Forward, upstream_A: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of the embeddings (A, D) and of the rows (S, D), float32.

        The former is this rank's term of the sum over ranks.
        """
        from immr.train.classifier.kernels import softmax as kernels

        rows, scale, problem = forward.rows, self.softmax.scale, forward.problem
        if problem is None:
            return torch.zeros_like(forward.embeddings_AD), rows.unit_SD.float()
        embeddings_AD = kernels.gradient_of_embeddings(problem, forward.log_sum_A, upstream_A)
        rows_SD = kernels.gradient_of_rows(problem, rows.length_S, forward.log_sum_A, upstream_A)
        share_A = (forward.target_logit_A - forward.log_sum_A).exp()
        logit_A = torch.where(forward.targets.is_own_A, (share_A - 1) * forward.slope_A * upstream_A, 0.0)
        embeddings_AD.addcmul_(rows.target_AD, logit_A[:, None]).mul_(scale)
        across_AD = forward.embeddings_AD.addcmul(rows.target_AD, forward.cosine_A[:, None], value=-1)
        rows_SD.index_add_(
            0, forward.targets.column_A, across_AD.mul_((scale * logit_A / rows.target_length_A)[:, None])
        )
        return embeddings_AD, rows_SD
