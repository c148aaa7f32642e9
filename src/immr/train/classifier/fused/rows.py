"""Reads and steps `LazyRows` in one kernel each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from immr.train.classifier.lazy_rows import LazyRows
from immr.train.classifier.row_optimizers import AdamW, RowAdagrad, Sgd
from immr.train.classifier.sampling import Sample
from immr.train.seeds import derived_seed

if TYPE_CHECKING:
    from immr.train.classifier.kernels import rows as row_kernels


class FusedRows:
    """Reads and steps rows in one kernel each."""

    def __init__(self, rows: LazyRows):
        from immr.train.classifier.kernels import rows as row_kernels

        self.rows = rows
        self._numbers = torch.zeros(row_kernels.NUMBERS, dtype=torch.float64, device=rows.rows_RD.device)
        self._stored = self._of(rows)

    @property
    def stored(self) -> row_kernels.Stored:
        """The rows with the numbers of the step."""
        return self._stored

    def set_numbers(self, learning_rate: float) -> None:
        """Copy this step's numbers to the device, before its rows are read and again before they are stepped."""
        self._step(learning_rate).copy_to(self._numbers)

    def step(self, sample: Sample, gradient_SD: Tensor) -> None:
        """One optimizer step of the rows just read; `finish_step` follows."""
        from immr.train.classifier.kernels import rows as row_kernels

        row_kernels.update(self._stored, sample.rows_S, gradient_SD, sample.count)
        row_kernels.record_missed(self._stored)

    def finish_step(self) -> None:
        """Count the step on the host."""
        self.rows.count_step()

    def _of(self, rows: LazyRows) -> row_kernels.Stored:
        from immr.train.classifier.kernels import rows as row_kernels

        optimizer = rows.optimizer
        factors_H4, kind = rows.touched_R, row_kernels.ADAGRAD
        if isinstance(optimizer, Sgd):
            factors_H4, kind = optimizer.factors_H4, row_kernels.SGD
        if isinstance(optimizer, AdamW):
            factors_H4, kind = optimizer.factors_H4, row_kernels.ADAMW
        first_R, second_RD = rows.slots[0], rows.slots[-1]
        return row_kernels.Stored(
            rows.rows_RD, first_R, second_RD, rows.touched_R, factors_H4, self._numbers, kind
        )

    def _step(self, learning_rate: float) -> row_kernels.StepNumbers:
        from immr.train.classifier.kernels.rows import StepNumbers

        rows = self.rows
        since, seed = rows.since + 1, derived_seed(rows.seed, rows.done, 0) & 0x3FFFFFFF
        match rows.optimizer:
            case Sgd(momentum, weight_decay):
                return StepNumbers(learning_rate, since, seed, momentum, decay=weight_decay)
            case AdamW((first, second), epsilon, weight_decay) as optimizer:
                bias, root_bias = optimizer.corrections(rows.done + 1)
                missed = optimizer.catch_up_epsilon(torch.float32)
                return StepNumbers(
                    learning_rate, since, seed, first, second, weight_decay, bias, root_bias, epsilon, missed
                )
            case RowAdagrad(epsilon):
                return StepNumbers(learning_rate, since, seed, epsilon=epsilon)
        raise TypeError(f"there is no kernel for {type(rows.optimizer).__name__}")
