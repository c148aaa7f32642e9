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

_BLOCK, _DEVICE_BLOCK = 1 << 13, 1 << 20  # rows brought up to date at once, on a CPU and on a GPU


class LazyRows:
    """A shard's rows and their optimizer state; a step reads and writes only the sampled rows.

    Rows may be stored in bfloat16 at half the memory. Steps are then computed in float32 and rounded
    stochastically (`rounding`), so updates too small for bfloat16 count on average.
    """

    def __init__(self, rows_RD: Tensor, optimizer: RowOptimizer, seed: int = 0):
        """Begin with rows that have missed no step.

        Args:
            rows_RD: float32, float64 or bfloat16; updated in place.
            optimizer: moves the rows.
            seed: of the rounding; must differ by rank.
        """
        self.rows_RD, self.optimizer, self.seed = rows_RD, optimizer, seed
        (count, dim), dtype, device = rows_RD.shape, rows_RD.dtype, rows_RD.device
        self.slots = [
            _zeros(count, dim, dtype, device) if width is None else torch.zeros(count, width, device=device)
            for width in optimizer.slot_widths
        ]
        self.done = 0
        self.since = 0  # steps since all rows were up to date
        optimizer.forget(device)
        self.touched_R = torch.zeros(len(rows_RD), dtype=torch.int16, device=rows_RD.device)

    def read(self, sampled_S: Tensor) -> list[Tensor]:
        """Copies of these rows (S, D) and their slots, as a dense optimizer would have them now."""
        values = [_to_compute(whole.index_select(0, sampled_S)) for whole in (self.rows_RD, *self.slots)]
        self.optimizer.catch_up(values, self.touched_R.index_select(0, sampled_S).long())
        return values

    def step(
        self,
        sampled_S: Tensor,
        values: list[Tensor],
        gradient_SD: Tensor,
        learning_rate: float,
        source_S: Tensor | None = None,
    ) -> None:
        """One optimizer step, with a gradient for the rows just read and none for the others.

        Args:
            sampled_S: the rows just read.
            values: as `read` returned them.
            gradient_SD: of the rows.
            learning_rate: of this step.
            source_S: where a row repeats, the place whose result counts (`Sample.source`).
        """
        self.optimizer.steps(values, gradient_SD, learning_rate, self.done)
        for number, (whole, part) in enumerate(zip((self.rows_RD, *self.slots), values, strict=True)):
            stored = _to_store(part, whole.dtype, self._noise(number))
            _write(whole, sampled_S, stored if source_S is None else stored[source_S])
        self.touched_R.index_fill_(0, sampled_S, self.since + 1)
        self.finish_step(learning_rate)

    def finish_step(self, learning_rate: float) -> None:
        """Record the step for the rows that missed it."""
        self.optimizer.passed(learning_rate, self.done)
        self.count_step()

    def count_step(self) -> None:
        """Count a step that is recorded for the rows that missed it."""
        self.optimizer.counted(self.done)
        self.done, self.since = self.done + 1, self.since + 1
        if self.since == HORIZON:
            self.settle()

    def settle(self) -> None:
        """Bring all rows up to date: a pass over the shard, every `HORIZON` steps."""
        stored = (self.rows_RD, *self.slots)
        height = _BLOCK if self.rows_RD.device.type == "cpu" else _DEVICE_BLOCK
        for start in range(0, len(self.rows_RD), height):
            block = slice(start, start + height)
            values = [_to_compute(whole[block]) for whole in stored]
            self.optimizer.catch_up(values, self.touched_R[block].long())
            if values[0].dtype != self.rows_RD.dtype:
                for number, (whole, part) in enumerate(zip(stored, values, strict=True)):
                    whole[block] = _to_store(part, whole.dtype, self._noise(number, start + 1))
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        """Rows and slots as they are, with the steps they have missed. No pass over the shard; changes nothing."""
        state = {"rows": self.rows_RD, "slots": self.slots, "done": self.done, "since": self.since}
        missed_H4 = self.optimizer.missed_steps()
        return state if missed_H4 is None else state | {"touched": self.touched_R, "missed": missed_H4}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._forget()
        self.done, self.since = state["done"], state["since"]
        pairs = [(self.rows_RD, state["rows"]), *zip(self.slots, state["slots"], strict=True)]
        missed_H4 = self.optimizer.missed_steps()
        if missed_H4 is not None:
            pairs += [(self.touched_R, state["touched"]), (missed_H4, state["missed"])]
        for whole, saved in pairs:
            whole.copy_(saved)
        self.optimizer.resume(self.since, self.done)

    def _forget(self) -> None:
        self.optimizer.forget(self.rows_RD.device)
        self.since = 0
        self.touched_R.zero_()

    def _noise(self, number: int, block: int = 0) -> int:
        """The seed of the rounding of a stored tensor in this step; a resumed run repeats it."""
        return derived_seed(self.seed, self.done, number, block)


def _zeros(count: int, dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return empty_rows(count, dim, dtype).zero_()
    return torch.zeros(count, dim, dtype=dtype, device=device)


def _to_compute(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.bfloat16 else values


def _to_store(values: Tensor, dtype: torch.dtype, seed: int) -> Tensor:
    return to_bfloat16(values, seed) if dtype == torch.bfloat16 else values


def _write(whole_RD: Tensor, at_S: Tensor, part_SD: Tensor) -> None:
    # numpy copies row by row in half the time of index_copy_, which copies element by element on a CPU
    if whole_RD.device.type == "cpu":
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[whole_RD.element_size()]
        whole_RD.view(bits).numpy()[at_S.numpy()] = part_SD.view(bits).numpy()
    else:
        whole_RD.index_copy_(0, at_S, part_SD)
