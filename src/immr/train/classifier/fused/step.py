"""A sampled step in kernels, recorded as CUDA graphs if there is only one process.

Three pieces: the loss, its gradients, the optimizer's step. The towers and autograd run in between.

Shapes: A examples of all ranks, R rows of this rank, S sampled rows, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from immr.train.classifier.class_shard import Shard
from immr.train.classifier.fused.cuda_graphs import GraphRecorder, Repeated
from immr.train.classifier.fused.rows import FusedRows
from immr.train.classifier.fused.softmax import Forward, FusedSoftmax
from immr.train.classifier.lazy_rows import LazyRows
from immr.train.classifier.sampling import Sample, draw_rows
from immr.train.classifier.softmax import Targets

_LOSS, _GRADIENTS, _UPDATE = 0, 1, 2


@dataclass(frozen=True)
class StepInputs:
    """The inputs of a step, in tensors at fixed addresses."""

    embeddings_AD: Tensor
    labels_A: Tensor  # relative to this rank's first row
    upstream_A: Tensor  # gradient of each example's loss
    seed: Tensor  # of the sample, int64

    @classmethod
    def like(cls, embeddings_AD: Tensor) -> StepInputs:
        """For as many examples."""
        count, device = len(embeddings_AD), embeddings_AD.device
        return cls(
            torch.empty(embeddings_AD.shape, device=device),
            torch.empty(count, dtype=torch.long, device=device),
            torch.empty(count, device=device),
            torch.empty((), dtype=torch.long, device=device),
        )


class FusedStep:
    """Losses and optimizer steps over sampled rows."""

    def __init__(
        self, shard: Shard, rows: LazyRows, rate: float, softmax: FusedSoftmax, recorder: GraphRecorder | None
    ):
        """Record nothing yet.

        Args:
            shard: the classes of this rank.
            rows: their rows and optimizer.
            rate: share of the rows in a step's softmax.
            softmax: of a step.
            recorder: records the pieces; ignored if there are several ranks, whose messages are not recorded.
        """
        self._shard, self._rate, self._softmax = shard, rate, softmax
        self._rows = FusedRows(rows)
        self._recorder = recorder if shard.world.size == 1 else None
        self._inputs = StepInputs.like(torch.empty(0, shard.dim, device=rows.rows_RD.device))
        self._pieces = Repeated([], None)
        self._number = 0  # of the last loss
        self._sample: Sample | None = None
        self._forward: Forward | None = None
        self._gradients: tuple[Tensor, Tensor] | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed as CUDA graphs by now."""
        return self._pieces.is_recorded

    def loss(self, embeddings_AD: Tensor, labels_A: Tensor, step: int) -> Tensor:
        """−log softmax of the right class, (A,), equal on all ranks; one backward pass, before the next loss."""
        if embeddings_AD.shape != self._inputs.embeddings_AD.shape:
            self._inputs = StepInputs.like(embeddings_AD)
            self._pieces = Repeated([self._lose, self._differentiate, self._step], self._recorder)
        self._inputs.labels_A.copy_(labels_A)
        self._inputs.seed.fill_(self._shard.sample_seed(step))
        self._number += 1
        loss_A: Tensor = _Loss.apply(embeddings_AD, self)  # type: ignore[no-untyped-call]
        return loss_A

    def update(self, learning_rate: float) -> None:
        """One optimizer step, after the backward pass."""
        if self._gradients is None:
            raise RuntimeError("update needs the backward pass of this step's loss")
        self._rows.set_numbers(learning_rate)
        self._pieces(_UPDATE)
        self._rows.finish_step()

    def forward(self, embeddings_AD: Tensor) -> Tensor:
        """For autograd: the losses, (A,)."""
        self._inputs.embeddings_AD.copy_(embeddings_AD)
        self._rows.set_numbers(0.0)
        self._pieces(_LOSS)
        assert self._forward is not None
        return self._forward.loss_A.clone()  # a replay would overwrite it

    def backward(self, number: int, upstream_A: Tensor) -> Tensor:
        """For autograd: the gradient of the embeddings, (A, D)."""
        if number != self._number:
            raise RuntimeError("a loss of the classifier supports a backward pass only before the next loss")
        self._inputs.upstream_A.copy_(upstream_A)
        self._pieces(_GRADIENTS)
        assert self._gradients is not None
        return self._gradients[0].clone()

    def _lose(self) -> None:
        inputs, count = self._inputs, self._shard.stop - self._shard.start
        sample = self._sample = draw_rows(inputs.labels_A, count, self._rate, inputs.seed)
        targets = Targets.among(inputs.labels_A, sample.rows_S, count)
        rows = self._softmax.read(self._rows.stored, sample, targets)
        self._forward = self._softmax.forward(inputs.embeddings_AD, rows, targets)

    def _differentiate(self) -> None:
        assert self._forward is not None
        self._gradients = self._softmax.backward(self._forward, self._inputs.upstream_A)

    def _step(self) -> None:
        assert self._sample is not None and self._gradients is not None
        self._rows.step(self._sample, self._gradients[1])


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings_AD: Tensor, step: FusedStep) -> Tensor:
        ctx.step, ctx.number = step, step._number
        return step.forward(embeddings_AD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.step.backward(ctx.number, gradients[0]), None
