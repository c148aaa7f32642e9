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
    """A shard's rows and their optimizer state; a step reads and writes only the sampled rows.

    Rows may be stored in bfloat16 at half the memory. Steps are then computed in float32 and rounded
    stochastically (`rounding`), so updates too small for bfloat16 count on average.
    """

    def __init__(self, rows_RD: Tensor, optimizer: RowOptimizer, seed: int = 0):
        """Args:
        rows_RD: float32, float64 or bfloat16; updated in place.
        optimizer: moves the rows.
        seed: of the rounding; must differ by rank.
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
        self._since = 0  # steps since all rows were up to date
        self._touched_R = torch.zeros(len(rows_RD), dtype=torch.int16, device=rows_RD.device)

    def read(self, sampled_S: Tensor) -> list[Tensor]:
        """Copies of these rows (S, D) and their slots, as a dense optimizer would have them now."""
        values = [_to_compute(whole.index_select(0, sampled_S)) for whole in (self.rows_RD, *self.slots)]
        self.optimizer.catch_up(values, self._touched_R.index_select(0, sampled_S).long())
        return values

    def step(
        self, sampled_S: Tensor, values: list[Tensor], gradient_SD: Tensor, learning_rate: float
    ) -> None:
        """One optimizer step, with a gradient for the rows just read and none for the others."""
        self.optimizer.steps(values, gradient_SD, learning_rate, self.done)
        self.optimizer.passed(learning_rate, self.done)
        self.done, self._since = self.done + 1, self._since + 1
        noise = self._noise(0)
        for whole, part in zip((self.rows_RD, *self.slots), values, strict=True):
            _write(whole, sampled_S, _to_store(part, whole.dtype, noise))
        self._touched_R[sampled_S] = self._since
        if self._since == HORIZON:
            self.settle()

    def settle(self) -> None:
        """Bring all rows up to date: a pass over the shard, every `HORIZON` steps and for a checkpoint."""
        noise = self._noise(1)
        for start in range(0, len(self.rows_RD), _BLOCK):
            block = slice(start, start + _BLOCK)
            values = [_to_compute(whole[block]) for whole in (self.rows_RD, *self.slots)]
            self.optimizer.catch_up(values, self._touched_R[block].long())
            if values[0].dtype != self.rows_RD.dtype:
                for whole, part in zip((self.rows_RD, *self.slots), values, strict=True):
                    whole[block] = _to_store(part, whole.dtype, noise)
        self.optimizer.forget()
        self._since = 0
        self._touched_R.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Rows and slots, all up to date, as a dense optimizer would have them."""
        self.settle()
        return {"rows": self.rows_RD, "slots": self.slots, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.optimizer.forget()
        self._since = 0
        self._touched_R.zero_()
        self.done = state["done"]
        for whole, saved in zip((self.rows_RD, *self.slots), (state["rows"], *state["slots"]), strict=True):
            whole.copy_(saved)

    def _noise(self, purpose: int) -> torch.Generator:
        """The random numbers for this step's rounding; a resumed run repeats them."""
        return torch.Generator().manual_seed(derived_seed(self.seed, self.done, purpose))


def _to_compute(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.bfloat16 else values


def _to_store(values: Tensor, dtype: torch.dtype, noise: torch.Generator) -> Tensor:
    return to_bfloat16(values, noise) if dtype == torch.bfloat16 else values


def _write(whole_RD: Tensor, at_S: Tensor, part_SD: Tensor) -> None:
    # numpy copies row by row in half the time of index_copy_, which copies element by element on a CPU
    if whole_RD.device.type == "cpu":
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[whole_RD.element_size()]
        whole_RD.view(bits).numpy()[at_S.numpy()] = part_SD.view(bits).numpy()
    else:
        whole_RD.index_copy_(0, at_S, part_SD)
