"""Classifier rows of which a step reads and writes only the sampled ones.

Shapes: R rows of this rank, S sampled rows, D embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immr.machine.allocator import empty_rows
from immr.train.classifier.rounding import to_bfloat16
from immr.train.classifier.row_optimizers import HORIZON, RowOptimizer
from immr.train.seeds import derived_seed

_BLOCK = 8192  # rows brought up to date at once


class LazyRows:
    """A shard's rows and their optimizer's state. A step reads and writes the rows it samples, no others.

    Rows may be kept in bfloat16, and their slots with them: half the memory. Steps are then computed in
    float32 and what they give is rounded at random (`rounding`), so that one which is too small for bfloat16
    still counts on average.
    """

    def __init__(self, rows_RD: Tensor, optimizer: RowOptimizer, seed: int = 0):
        """Take over the rows.

        Args:
            rows_RD: float32, float64 or bfloat16.
            rule: of the optimizer.
            seed: of the rounding; differs by rank.
        """
        self.rows_RD, self.optimizer, self.seed = rows_RD, optimizer, seed
        (count, dim), dtype, device = rows_RD.shape, rows_RD.dtype, rows_RD.device
        self.slots = [
            empty_rows(count, dim, dtype).zero_().to(device)
            if width is None
            else torch.zeros(count, width, device=device)
            for width in optimizer.slot_widths
        ]
        self.done = 0
        self._since = 0  # steps since all rows were current
        self._touched_R = torch.zeros(len(rows_RD), dtype=torch.int16, device=rows_RD.device)

    def read(self, sampled_S: Tensor) -> list[Tensor]:
        """Copies of these rows and their slots, as the dense optimizer would have them now; each (S, D)."""
        values = [_to_compute(whole.index_select(0, sampled_S)) for whole in (self.rows_RD, *self.slots)]
        self.optimizer.catch_up(values, self._touched_R.index_select(0, sampled_S).long())
        return values

    def step(
        self, sampled_S: Tensor, values: list[Tensor], gradient_SD: Tensor, learning_rate: float
    ) -> None:
        """One optimizer step: with a gradient for the rows just read, without one for all others."""
        self.optimizer.steps(values, gradient_SD, learning_rate, self.done)
        self.optimizer.passed(learning_rate, self.done)
        self.done, self._since = self.done + 1, self._since + 1
        dice = self._dice(0)
        for whole, part in zip((self.rows_RD, *self.slots), values, strict=True):
            _write(whole, sampled_S, _to_store(part, whole.dtype, dice))
        self._touched_R[sampled_S] = self._since
        if self._since == HORIZON:
            self.settle()

    def settle(self) -> None:
        """Make all rows current: one pass over the shard, once in thousands of steps and for a checkpoint."""
        dice = self._dice(1)
        for start in range(0, len(self.rows_RD), _BLOCK):
            block = slice(start, start + _BLOCK)
            values = [_to_compute(whole[block]) for whole in (self.rows_RD, *self.slots)]
            self.optimizer.catch_up(values, self._touched_R[block].long())
            if values[0].dtype != self.rows_RD.dtype:
                for whole, part in zip((self.rows_RD, *self.slots), values, strict=True):
                    whole[block] = _to_store(part, whole.dtype, dice)
        self.optimizer.forget()
        self._since = 0
        self._touched_R.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Rows and slots, all current: what the dense optimizer would have."""
        self.settle()
        return {"rows": self.rows_RD, "slots": self.slots, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.optimizer.forget()
        self._since = 0
        self._touched_R.zero_()
        self.done = state["done"]
        for whole, saved in zip((self.rows_RD, *self.slots), (state["rows"], *state["slots"]), strict=True):
            whole.copy_(saved)

    def _dice(self, purpose: int) -> torch.Generator:
        """For this step's rounding, so that a resume repeats it."""
        return torch.Generator().manual_seed(derived_seed(self.seed, self.done, purpose))


def _to_compute(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.bfloat16 else values


def _to_store(values: Tensor, dtype: torch.dtype, dice: torch.Generator) -> Tensor:
    return to_bfloat16(values, dice) if dtype == torch.bfloat16 else values


def _write(whole_RD: Tensor, at_S: Tensor, part_SD: Tensor) -> None:
    # index_copy_ goes element by element on a CPU, numpy row by row: half the time
    if whole_RD.device.type == "cpu":
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[whole_RD.element_size()]
        whole_RD.view(bits).numpy()[at_S.numpy()] = part_SD.view(bits).numpy()
    else:
        whole_RD.index_copy_(0, at_S, part_SD)
