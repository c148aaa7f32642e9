"""The classifier with its rows sharded over the ranks: no rank ever holds all classes or all logits.

Hybrid parallel training as in arXiv 2305.03972 and sampled rows as in Partial FC (arXiv 2010.05222), but with
an optimizer that touches only the sampled rows (`row_optimizers`).

Shapes: B examples of this rank, A examples of all ranks, R rows (classes) of this rank, S sampled rows,
D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from immr.errors import RecipeError
from immr.train.classifier import margins
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.fused.cuda_graphs import GraphRecorder, cuda_graph
from immr.train.classifier.fused.exact_softmax import FusedExact
from immr.train.classifier.fused.softmax import FusedSoftmax
from immr.train.classifier.fused.step import FusedStep
from immr.train.classifier.kernels import usable
from immr.train.classifier.lazy_rows import LazyRows
from immr.train.classifier.row_optimizers import AdamW, RowAdagrad, RowOptimizer, Sgd
from immr.train.classifier.sampling import Sample
from immr.train.classifier.scale import logit_scale
from immr.train.classifier.softmax import MarginSoftmax, Targets
from immr.train.seeds import derived_seed
from immr.train.train_recipe import TrainRecipe

DenseOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Classifier(Protocol):
    """One rank's shard of the classes with its optimizer, on `World.device`."""

    def __call__(self, embeddings_BD: Tensor, labels_B: Tensor, step: int) -> Tensor:
        """−log softmax of the right class for every rank's examples, (A,) in rank order, equal on all ranks.

        Args:
            embeddings_BD: unit rows of photos and documents; every rank has the same B.
            labels_B: class ids.
            step: seeds the sample of negatives.
        """

    def begin_with(self, rows_RD: Tensor) -> None:
        """Replace this rank's rows before the first step."""

    def update(self, learning_rate: float) -> None:
        """One optimizer step, after the backward pass of the last loss."""

    def state_dict(self) -> dict[str, Any]:
        """Rows and optimizer state, as parts of tensors over all ranks (`Shard.whole`).

        Sampled rows are saved as they are, with the steps that each has missed.
        """

    def settled_rows(self) -> Tensor:
        """This rank's rows, all up to date, (R, D): a pass over the shard if they are sampled."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


class ShardedClassifier:
    """The exact softmax over all classes, with a dense optimizer."""

    def __init__(
        self,
        shard: Shard,
        softmax: MarginSoftmax,
        optimizer: DenseOptimizer,
        fused: FusedSoftmax | None = None,
    ):
        self.shard, self.softmax = shard, softmax
        self.rows_RD = nn.Parameter(shard.first_rows())
        self.optimizer = optimizer([self.rows_RD])
        self._fused = FusedExact(fused) if fused else None

    def __call__(self, embeddings_BD: Tensor, labels_B: Tensor, step: int) -> Tensor:
        """See `Classifier`; `step` has no effect."""
        self.optimizer.zero_grad()
        embeddings_AD, labels_A = self.shard.gather(embeddings_BD, labels_B)
        count = len(self.rows_RD)
        targets = Targets.among(labels_A, torch.arange(count, device=labels_A.device), count)
        if self._fused:
            return self._fused(embeddings_AD, self.rows_RD, targets)
        return self.softmax(embeddings_AD, self.rows_RD, targets)

    def begin_with(self, rows_RD: Tensor) -> None:
        """See `Classifier`."""
        self.rows_RD.data.copy_(rows_RD)

    def update(self, learning_rate: float) -> None:
        """One dense optimizer step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Rows and optimizer state."""
        slots = self._slots()
        rowwise = {name for name, slot in slots.items() if slot.shape == self.rows_RD.shape}
        return {
            "rows": self.shard.whole(self.rows_RD.detach()),
            "slots": {
                name: self.shard.whole(slot) if name in rowwise else slot for name, slot in slots.items()
            },
        }

    def settled_rows(self) -> Tensor:
        """The rows, which miss no step."""
        return self.rows_RD.detach()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        with torch.no_grad():
            self.rows_RD.copy_(_own(state["rows"]))
            for name, slot in self._slots().items():
                slot.copy_(_own(state["slots"][name]))

    def _slots(self) -> dict[str, Tensor]:
        """The optimizer's state; before its first step, the zeros with which that would start."""
        if self.rows_RD not in self.optimizer.state:
            self.rows_RD.grad = torch.zeros_like(self.rows_RD)
            for group in self.optimizer.param_groups:
                group["lr"] = 0.0
            self.optimizer.step()
            self.optimizer.zero_grad()
            for slot in self.optimizer.state[self.rows_RD].values():
                slot.zero_()
        slots: dict[str, Tensor] = self.optimizer.state[self.rows_RD]
        return slots


class SampledClassifier:
    """The softmax over the batch's classes and sampled negatives; a step's cost does not depend on R."""

    def __init__(
        self,
        shard: Shard,
        softmax: MarginSoftmax,
        rows: LazyRows,
        negative_rate: float,
        fused: FusedStep | None = None,
    ):
        self.shard, self.softmax, self.rows = shard, softmax, rows
        self.negative_rate = negative_rate
        self._sample = Sample(torch.zeros(0, dtype=torch.long), None)
        self._values: list[Tensor] = []
        self._fused = fused

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed as CUDA graphs by now."""
        return bool(self._fused and self._fused.is_recorded)

    def __call__(self, embeddings_BD: Tensor, labels_B: Tensor, step: int) -> Tensor:
        """See `Classifier`; the softmax is over the step's sample."""
        embeddings_AD, labels_A = self.shard.gather(embeddings_BD, labels_B)
        if self._fused:
            return self._fused.loss(embeddings_AD, labels_A, step)
        sample = self._sample = self.shard.sample(labels_A, self.negative_rate, step)
        targets = Targets.among(labels_A, sample.rows_S, self.shard.stop - self.shard.start)
        self._values = self.rows.read(sample.rows_S)
        self._values[0].requires_grad_()
        return self.softmax(embeddings_AD, self._values[0], targets, sample.is_padding())

    def begin_with(self, rows_RD: Tensor) -> None:
        """See `Classifier`."""
        self.rows.rows_RD.copy_(rows_RD)

    def update(self, learning_rate: float) -> None:
        """One step of the lazy optimizer."""
        if self._fused:
            self._fused.update(learning_rate)
            return
        sample, gradient_SD = self._sample, self._values[0].grad
        if gradient_SD is None:
            raise RuntimeError("update needs the backward pass of this step's loss")
        rows_SD, values = self._values[0].detach(), self._values[1:]
        self.rows.step(sample.rows_S, [rows_SD, *values], gradient_SD, learning_rate, sample.source())
        self._values = []

    def state_dict(self) -> dict[str, Any]:
        """Rows and slots, with the steps they have missed."""
        state = self.rows.state_dict()
        slots = {str(number): self.shard.whole(slot) for number, slot in enumerate(state["slots"])}
        whole = {name: self.shard.whole(state[name]) for name in ("rows", "touched") if name in state}
        return state | whole | {"slots": slots}

    def settled_rows(self) -> Tensor:
        """The rows, all up to date."""
        self.rows.settle()
        return self.rows.rows_RD

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        slots = [_own(state["slots"][str(number)]) for number in range(len(state["slots"]))]
        own = {name: _own(state[name]) for name in ("rows", "touched") if name in state}
        self.rows.load_state_dict(state | own | {"slots": slots})


def make_classifier(
    recipe: TrainRecipe, shard: Shard, kernels: bool | None = None, recorder: GraphRecorder | None = None
) -> Classifier:
    """The classifier of a recipe: a dense optimizer if it is exact with SGD or AdamW, else lazy rows.

    Args:
        recipe: margin, sampling and optimizer.
        shard: the classes of this rank.
        kernels: whether to use Triton's; by default where they run.
        recorder: of the kernels of a sampled step; by default CUDA graphs on a GPU.

    Raises:
        RecipeError: unknown margin, or bfloat16 rows with a dense optimizer.
    """
    softmax = MarginSoftmax(
        margins.by_name(recipe.margin_kind, recipe.margin),
        recipe.scale or logit_scale(shard.class_count),
        shard.world,
        recipe.conflict_cosine,
    )
    fused = None
    if usable(torch.device(shard.world.device), shard.dim) if kernels is None else kernels:
        fused = FusedSoftmax(softmax, getattr(torch, recipe.classifier_products))
    rate = recipe.rate_of(shard.class_count)
    if rate >= 1.0 and recipe.classifier_optimizer != "adagrad":
        if recipe.classifier_rows != "float32":
            raise RecipeError(
                f"{recipe.classifier_rows} rows need adagrad or the sampled classifier: choose "
                "classifier_optimizer adagrad or a negative_rate below 1"
            )
        return ShardedClassifier(shard, softmax, dense_optimizer(recipe), fused)
    first_rows_RD = shard.first_rows(getattr(torch, recipe.classifier_rows))
    rows = LazyRows(first_rows_RD, _row_optimizer(recipe), derived_seed(recipe.seed, 2, shard.world.rank))
    if not fused:
        return SampledClassifier(shard, softmax, rows, rate)
    if recorder is None and rows.rows_RD.device.type == "cuda":
        recorder = cuda_graph
    step = FusedStep(shard, rows, rate, fused, recorder)
    return SampledClassifier(shard, softmax, rows, rate, step)


def _row_optimizer(recipe: TrainRecipe) -> RowOptimizer:
    match recipe.classifier_optimizer:
        case "adagrad":
            return RowAdagrad()
        case "adamw":
            return AdamW(weight_decay=recipe.weight_decay)
        case "sgd":
            return Sgd(recipe.momentum, recipe.weight_decay)


def _own(rows_CD: Tensor) -> Tensor:
    """This rank's part of a tensor from `Shard.whole`."""
    return rows_CD.to_local() if isinstance(rows_CD, DTensor) else rows_CD


def dense_optimizer(recipe: TrainRecipe) -> DenseOptimizer:
    """torch's SGD or AdamW over all rows."""
    rate, decay = recipe.learning_rate, recipe.weight_decay

    def optimizer(rows: list[nn.Parameter]) -> torch.optim.Optimizer:
        fused = True if rows[0].device.type == "cuda" else None
        if recipe.classifier_optimizer == "adamw":
            return torch.optim.AdamW(rows, lr=rate, weight_decay=decay, fused=fused)
        return torch.optim.SGD(rows, lr=rate, momentum=recipe.momentum, weight_decay=decay, fused=fused)

    return optimizer
