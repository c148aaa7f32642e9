"""Rows that an optimizer touches only when a step samples them; what they missed is made up for then.

A dense optimizer moves every row in every step, also those without a gradient: momentum carries them on and
weight decay shrinks them. Both are known in advance, so a row can wait until it is next read and take all the
missed steps at once. The result is the dense optimizer's:

- SGD (momentum, weight decay, any learning rates): a missed step is the linear map
  (w, b) ↦ (w − η(μb + λw), μb + λw); the product of these 2 × 2 maps is exact.
- AdamW: m and v fade by powers of β₁ and β₂, and w takes Σ η·(β₁/√β₂)ʲ·√c₂/c₁ · m/√v. Exact for ε = 0; with
  ε > 0 the missed steps hold ε against √v as it was when last touched, a relative error below ε/√v̂ of steps
  that have nearly faded by then.

Ours; equal to torch.optim.SGD and torch.optim.AdamW over the whole shard in exact arithmetic.

Shapes: R rows of this rank, S sampled rows, D embedding, H steps since all rows were last made current.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from immr.machine.allocator import empty_rows
from immr.train.classifier.rounding import to_bfloat16
from immr.train.seeds import derived_seed

HORIZON = 4096  # steps; after so many all rows are made current, which bounds the tables of missed steps
_BLOCK = 8192  # rows that are made current at once


class Rule(Protocol):
    """How one optimizer moves rows. `values` are the rows and their slots (momentum, …), all (S, D)."""

    slots: int

    def steps(self, values: list[Tensor], gradient_SD: Tensor, learning_rate: float, done: int) -> None:
        """One step with a gradient, in place, after `done` steps before."""

    def passed(self, learning_rate: float, done: int) -> None:
        """Note that a step passed, for the rows that missed it."""

    def catch_up(self, values: list[Tensor], touched_S: Tensor) -> None:
        """Take the missed steps, in place; `touched_S` counts steps since `forget`."""

    def forget(self) -> None:
        """All rows are current."""


@dataclass
class Sgd:
    """torch.optim.SGD with momentum and (coupled) weight decay."""

    momentum: float = 0.9
    weight_decay: float = 0.0
    slots: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """All rows are current."""
        self._count = 0
        self._maps_H22 = torch.eye(2, dtype=torch.float64).repeat(HORIZON + 1, 1, 1)

    def passed(self, learning_rate: float, done: int) -> None:
        """Note that a step passed, for the rows that missed it."""
        rate, decay, momentum = learning_rate, self.weight_decay, self.momentum
        missed = torch.tensor([[1 - rate * decay, -rate * momentum], [decay, momentum]], dtype=torch.float64)
        self._count += 1
        self._maps_H22[: self._count] = missed @ self._maps_H22[: self._count]

    def catch_up(self, values: list[Tensor], touched_S: Tensor) -> None:
        """Take the missed steps, in place."""
        rows_SD, momentum_SD = values
        maps_4S1 = self._maps_H22[touched_S.cpu()].flatten(1).to(rows_SD).T[:, :, None]
        if not self.weight_decay:
            rows_SD.addcmul_(momentum_SD, maps_4S1[1])
            momentum_SD.mul_(maps_4S1[3])
            return
        before_SD = rows_SD.clone()
        rows_SD.mul_(maps_4S1[0]).addcmul_(momentum_SD, maps_4S1[1])
        momentum_SD.mul_(maps_4S1[3]).addcmul_(before_SD, maps_4S1[2])

    def steps(self, values: list[Tensor], gradient_SD: Tensor, learning_rate: float, done: int) -> None:
        """One step with a gradient, in place."""
        rows_SD, momentum_SD = values
        momentum_SD.mul_(self.momentum).add_(gradient_SD)
        if self.weight_decay:
            momentum_SD.add_(rows_SD, alpha=self.weight_decay)
        rows_SD.add_(momentum_SD, alpha=-learning_rate)


@dataclass
class AdamW:
    """torch.optim.AdamW: both moments, bias correction by all steps, decoupled weight decay."""

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    slots: int = field(default=2, init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """All rows are current."""
        self._count, self._done = 0, 0
        # for rows touched after so many steps: decay of w, share of m/√v, powers of the betas
        self._factors_H4 = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64).repeat(HORIZON + 1, 1)

    def passed(self, learning_rate: float, done: int) -> None:
        """Note that a step passed, for the rows that missed it."""
        first, second = self.betas
        self._count, self._done = self._count + 1, done + 1
        bias, root_bias = self._corrections(done + 1)
        decay_H, share_H, first_H, second_H = self._factors_H4[: self._count].unbind(1)
        first_H *= first
        second_H *= second
        kept = 1 - learning_rate * self.weight_decay
        decay_H *= kept
        share_H *= kept
        share_H += learning_rate * root_bias / bias * first_H / second_H.sqrt()

    def catch_up(self, values: list[Tensor], touched_S: Tensor) -> None:
        """Take the missed steps, in place."""
        rows_SD, mean_SD, square_SD = values
        factors_4S1 = self._factors_H4[touched_S.cpu()].to(rows_SD).T[:, :, None]
        tiny = torch.finfo(rows_SD.dtype).tiny
        epsilon = max(self.epsilon * self._corrections(max(1, self._done))[1], tiny)
        direction_SD = square_SD.sqrt().add_(epsilon).reciprocal_().mul_(mean_SD)
        if self.weight_decay:
            rows_SD.mul_(factors_4S1[0])
        rows_SD.addcmul_(direction_SD, factors_4S1[1], value=-1)
        mean_SD.mul_(factors_4S1[2])
        square_SD.mul_(factors_4S1[3])

    def steps(self, values: list[Tensor], gradient_SD: Tensor, learning_rate: float, done: int) -> None:
        """One step with a gradient, in place."""
        rows_SD, mean_SD, square_SD = values
        first, second = self.betas
        bias, root_bias = self._corrections(done + 1)
        if self.weight_decay:
            rows_SD.mul_(1 - learning_rate * self.weight_decay)
        mean_SD.lerp_(gradient_SD, 1 - first)
        square_SD.mul_(second).addcmul_(gradient_SD, gradient_SD, value=1 - second)
        root_SD = square_SD.sqrt().div_(root_bias).add_(self.epsilon)
        rows_SD.addcdiv_(mean_SD, root_SD, value=-learning_rate / bias)

    def _corrections(self, steps: int) -> tuple[float, float]:
        return 1 - self.betas[0] ** steps, math.sqrt(1 - self.betas[1] ** steps)


class LazyRows:
    """A shard's rows and their optimizer's state. A step reads and writes the rows it samples, no others.

    Rows may be kept in bfloat16, and their slots with them: half the memory. Steps are then computed in
    float32 and what they give is rounded at random (`rounding`), so that one which is too small for bfloat16
    still counts on average.
    """

    def __init__(self, rows_RD: Tensor, rule: Rule, seed: int = 0):
        """Take over the rows.

        Args:
            rows_RD: float32, float64 or bfloat16.
            rule: of the optimizer.
            seed: of the rounding; differs by rank.
        """
        self.rows_RD, self.rule, self.seed = rows_RD, rule, seed
        (count, dim), dtype, device = rows_RD.shape, rows_RD.dtype, rows_RD.device
        self.slots = [empty_rows(count, dim, dtype).zero_().to(device) for _ in range(rule.slots)]
        self.done = 0
        self._since = 0  # steps since all rows were current
        self._touched_R = torch.zeros(len(rows_RD), dtype=torch.int16, device=rows_RD.device)

    def read(self, sampled_S: Tensor) -> list[Tensor]:
        """Copies of these rows and their slots, as the dense optimizer would have them now; each (S, D)."""
        values = [_to_compute(whole.index_select(0, sampled_S)) for whole in (self.rows_RD, *self.slots)]
        self.rule.catch_up(values, self._touched_R.index_select(0, sampled_S).long())
        return values

    def step(
        self, sampled_S: Tensor, values: list[Tensor], gradient_SD: Tensor, learning_rate: float
    ) -> None:
        """One optimizer step: with a gradient for the rows just read, without one for all others."""
        self.rule.steps(values, gradient_SD, learning_rate, self.done)
        self.rule.passed(learning_rate, self.done)
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
            self.rule.catch_up(values, self._touched_R[block].long())
            if values[0].dtype != self.rows_RD.dtype:
                for whole, part in zip((self.rows_RD, *self.slots), values, strict=True):
                    whole[block] = _to_store(part, whole.dtype, dice)
        self.rule.forget()
        self._since = 0
        self._touched_R.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Rows and slots, all current: what the dense optimizer would have."""
        self.settle()
        return {"rows": self.rows_RD, "slots": self.slots, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.rule.forget()
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
