"""How an optimizer moves classifier rows that only some steps sample; missed steps are made up later.

A dense optimizer moves every row in every step, also those without a gradient: momentum carries them on and
weight decay shrinks them. Both are known in advance, so a row can wait until it is next read and take all its
missed steps at once:

- SGD (momentum, weight decay, any learning rates): a missed step is the linear map
  (w, b) ↦ (w − η(μb + λw), μb + λw). The product of these 2 × 2 maps is exact.
- AdamW: m and v fade by powers of β₁ and β₂, and w takes Σ η·(β₁/√β₂)ʲ·√c₂/c₁ · m/√v. Exact for ε = 0. With
  ε > 0 the missed steps add ε to √v as it was at the last visit, a relative error below ε/√v̂ of steps that
  have nearly faded by then.
- Row-wise Adagrad: a row without a gradient does not move, so there is nothing to make up.

The catch-up is ours; the results equal torch.optim.SGD and torch.optim.AdamW over the whole shard in exact
arithmetic.

Shapes: S sampled rows, D embedding, H steps since all rows were last brought up to date.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

HORIZON = 4096  # steps after which all rows are brought up to date; bounds the tables of missed steps


class RowOptimizer(Protocol):
    """How one optimizer moves rows. `values` are the rows (S, D) and their slots (momentum, …), as read."""

    @property
    def slot_widths(self) -> tuple[int | None, ...]:
        """Columns of each slot; None means D."""

    def steps(self, values: list[Tensor], gradient_SD: Tensor, learning_rate: float, done: int) -> None:
        """One step with a gradient, in place; `done` steps came before it."""

    def passed(self, learning_rate: float, done: int) -> None:
        """Record a step for the rows that missed it; `counted` follows."""

    def counted(self, done: int) -> None:
        """Count a step, which `done` others came before."""

    def missed_steps(self) -> Tensor | None:
        """The table of missed steps (H, 4), float64, for a checkpoint; None if there is nothing to make up."""

    def resume(self, since: int, done: int) -> None:
        """Continue with a table that was loaded into `missed_steps`, of `since` steps, after `done` in all."""

    def catch_up(self, values: list[Tensor], touched_S: Tensor) -> None:
        """Take the missed steps, in place; `touched_S` counts steps since `forget`."""

    def forget(self, device: torch.device) -> None:
        """Reset: all rows, which are on this device, are up to date."""


@dataclass
class Sgd:
    """torch.optim.SGD with momentum and (coupled) weight decay."""

    momentum: float = 0.9
    weight_decay: float = 0.0
    slot_widths: tuple[int | None, ...] = field(default=(None,), init=False)

    def forget(self, device: torch.device) -> None:
        """Reset: all rows are up to date."""
        self._count = 0
        # for rows touched after a number of steps: the map's entries row by row
        self.factors_H4 = _table(getattr(self, "factors_H4", None), device)
        self.factors_H4.zero_()
        self.factors_H4[:, ::3] = 1.0

    def passed(self, learning_rate: float, done: int) -> None:
        """Record a step for the rows that missed it."""
        rate, decay, momentum = learning_rate, self.weight_decay, self.momentum
        of_rows_H2, of_momentum_H2 = self.factors_H4[: self._count + 1].chunk(2, dim=1)
        before_H2 = of_rows_H2.clone()
        of_rows_H2.mul_(1 - rate * decay).add_(of_momentum_H2, alpha=-rate * momentum)
        of_momentum_H2.mul_(momentum).add_(before_H2, alpha=decay)

    def counted(self, done: int) -> None:
        """Count a step."""
        self._count += 1

    def missed_steps(self) -> Tensor | None:
        """The table of missed steps."""
        return self.factors_H4

    def resume(self, since: int, done: int) -> None:
        """Continue with a loaded table."""
        self._count = since

    def catch_up(self, values: list[Tensor], touched_S: Tensor) -> None:
        """Take the missed steps, in place."""
        rows_SD, momentum_SD = values
        maps_4S1 = self.factors_H4[touched_S].to(rows_SD).T[:, :, None]
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
    slot_widths: tuple[int | None, ...] = field(default=(None, None), init=False)

    def forget(self, device: torch.device) -> None:
        """Reset: all rows are up to date."""
        self._count, self._done = 0, 0
        # for rows touched after a number of steps: decay of w, share of m/√v, powers of the betas
        self.factors_H4 = _table(getattr(self, "factors_H4", None), device)
        self.factors_H4.fill_(1.0)
        self.factors_H4[:, 1] = 0.0

    def passed(self, learning_rate: float, done: int) -> None:
        """Record a step for the rows that missed it."""
        first, second = self.betas
        bias, root_bias = self.corrections(done + 1)
        decay_H, share_H, first_H, second_H = self.factors_H4[: self._count + 1].unbind(1)
        first_H *= first
        second_H *= second
        kept = 1 - learning_rate * self.weight_decay
        decay_H *= kept
        share_H *= kept
        share_H += learning_rate * root_bias / bias * first_H / second_H.sqrt()

    def counted(self, done: int) -> None:
        """Count a step."""
        self._count, self._done = self._count + 1, done + 1

    def missed_steps(self) -> Tensor | None:
        """The table of missed steps."""
        return self.factors_H4

    def resume(self, since: int, done: int) -> None:
        """Continue with a loaded table."""
        self._count, self._done = since, done if since else 0

    def catch_up(self, values: list[Tensor], touched_S: Tensor) -> None:
        """Take the missed steps, in place."""
        rows_SD, mean_SD, square_SD = values
        factors_4S1 = self.factors_H4[touched_S].to(rows_SD).T[:, :, None]
        epsilon = self.catch_up_epsilon(rows_SD.dtype)
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
        bias, root_bias = self.corrections(done + 1)
        if self.weight_decay:
            rows_SD.mul_(1 - learning_rate * self.weight_decay)
        mean_SD.lerp_(gradient_SD, 1 - first)
        square_SD.mul_(second).addcmul_(gradient_SD, gradient_SD, value=1 - second)
        root_SD = square_SD.sqrt().div_(root_bias).add_(self.epsilon)
        rows_SD.addcdiv_(mean_SD, root_SD, value=-learning_rate / bias)

    def catch_up_epsilon(self, dtype: torch.dtype) -> float:
        """ε of the missed steps, relative to √v without its bias correction."""
        return max(self.epsilon * self.corrections(max(1, self._done))[1], torch.finfo(dtype).tiny)

    def corrections(self, steps: int) -> tuple[float, float]:
        """Bias of the mean, and root of the bias of the squares, after a number of steps."""
        return 1 - self.betas[0] ** steps, math.sqrt(1 - self.betas[1] ** steps)


@dataclass
class RowAdagrad:
    """Adagrad with one accumulator per row (Duchi et al. 2011; per row as in arXiv 1906.00091).

    w ← w − η g/√a with a ← a + mean(g²). Each row's rate falls with its own visits, so rare and frequent
    classes, few and millions of them, and any sampling rate get by with one learning rate. Gradients of a
    unit-norm classifier row are orthogonal to the row and scale with its inverse norm, and dividing by √a
    cancels that scale.
    """

    epsilon: float = 1e-12
    slot_widths: tuple[int | None, ...] = field(default=(1,), init=False)

    def forget(self, device: torch.device) -> None:
        """Nothing to forget: no row misses a step."""

    def passed(self, learning_rate: float, done: int) -> None:
        """Nothing to note: no row misses a step."""

    def counted(self, done: int) -> None:
        """Nothing to count: no row misses a step."""

    def missed_steps(self) -> Tensor | None:
        """None: no row misses a step."""
        return None

    def resume(self, since: int, done: int) -> None:
        """Nothing to resume."""

    def catch_up(self, values: list[Tensor], touched_S: Tensor) -> None:
        """Nothing to catch up on."""

    def steps(self, values: list[Tensor], gradient_SD: Tensor, learning_rate: float, done: int) -> None:
        """One step with a gradient, in place."""
        rows_SD, squares_S1 = values
        squares_S1.add_(gradient_SD.square().mean(1, keepdim=True))
        rows_SD.addcdiv_(gradient_SD, squares_S1.sqrt().add_(self.epsilon), value=-learning_rate)


def _table(before_H4: Tensor | None, device: torch.device) -> Tensor:
    """Room for four numbers of each of the last steps; a recorded CUDA graph needs it to stay in its place."""
    if before_H4 is not None and before_H4.device == device:
        return before_H4
    return torch.empty(HORIZON + 1, 4, dtype=torch.float64, device=device)
