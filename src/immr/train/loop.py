"""The training loop: both towers on frozen features, photos and documents in one step.

Shapes: B photos and documents of one rank, A those of all ranks, D embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from immr.errors import TrainingError
from immr.model.recipe import ModelRecipe
from immr.model.towers import Towers
from immr.train.batches import BatchPlan, Rows
from immr.train.checkpoint import Checkpoints
from immr.train.classifier import Shard, make_classifier
from immr.train.collectives import gather_rows, sum_gradients, sum_over_ranks
from immr.train.features import TrainingArrays
from immr.train.recipe import TrainRecipe
from immr.train.schedule import learning_rate
from immr.train.seeds import derived_seed
from immr.train.tracking import Tracker
from immr.train.world import World

Curves = dict[str, list[float]]
"""One number per epoch: loss, loss_query, loss_document, learning_rate."""

_NAMED_QUERIES = 5
_log = logging.getLogger(__name__)


@dataclass
class Losses:
    """Means of −log softmax over all ranks, before weighing them together."""

    query: Tensor
    document: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimized."""
        return self.query + self.document


@dataclass
class Trainer:
    """One rank's part of the training: its copy of the towers and its shard of the classifier."""

    arrays: TrainingArrays
    model: ModelRecipe
    recipe: TrainRecipe
    world: World
    curves: Curves = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipe, arrays = self.recipe, self.arrays
        torch.manual_seed(derived_seed(recipe.seed, 0))  # the same first towers on every rank
        self.towers = Towers(self.model, recipe.dropout, recipe.hide_modality)
        self.towers.query.transform.fit(_flat(arrays.photos_NVF))
        there_N = arrays.documents.has_picture_N
        if bool(there_N.any()):
            self.towers.document.transform.fit(_flat(arrays.documents.pictures_NVF[there_N]))
        shard = Shard(arrays.class_count, self.model.dim, self.world, recipe.seed)
        self.classifier = make_classifier(recipe, shard)
        self.optimizer = torch.optim.AdamW(
            self.towers.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.plan = BatchPlan(
            photos=len(arrays.query_ids),
            documents=len(arrays.document_classes_M),
            views=arrays.photos_NVF.shape[1],
            batch_size=recipe.batch_size,
            document_batch_size=recipe.document_batch_size,
            seed=recipe.seed,
            world=self.world,
        )

    def run(self, checkpoints: Checkpoints, tracker: Tracker | None) -> Towers:
        """Train to the last epoch, from the newest checkpoint on where there is one.

        Raises:
            TrainingError: the loss is no finite number; says at which step and with which photos.
        """
        for epoch in self._epochs(self._resume(checkpoints)):
            self._epoch(epoch)
            done = epoch + 1
            if tracker:
                tracker.metrics({name: values[-1] for name, values in self.curves.items()}, step=done)
            if done % self.recipe.checkpoint_every_epochs == 0 and done < self.recipe.epochs:
                checkpoints.save(done, self.state())
        return self.towers.eval()

    def losses(self, rows: Rows, step: int) -> Losses:
        """One step's losses, equal on all ranks.

        Raises:
            TrainingError: they are no finite numbers.
        """
        arrays = self.arrays
        query_BD = self.towers.query(arrays.photos_NVF[rows.photos_B, rows.photo_views_B].float())
        document_BD = self.towers.document(arrays.documents.batch(rows.documents_B, rows.document_views_B))
        labels_B = torch.cat(
            [arrays.photo_classes_N[rows.photos_B], arrays.document_classes_M[rows.documents_B]]
        )
        loss_A = self.classifier(torch.cat([query_BD, document_BD]), labels_B, step)
        self._check(loss_A, rows, step)
        weights_A = self._weights(rows)
        both_A2 = loss_A[:, None] * weights_A
        query, document = both_A2.sum(0) / weights_A.sum(0).clamp_min(1e-12)
        return Losses(query, document)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this rank."""
        return {
            "towers": self.towers.state_dict(),
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curves": self.curves,
        }

    def _resume(self, checkpoints: Checkpoints) -> int:
        newest = checkpoints.newest()
        if newest is None:
            return 0
        epoch, state = newest
        self.towers.load_state_dict(state["towers"])
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curves = state["curves"]
        return epoch

    def _epochs(self, start: int) -> Iterator[int]:
        quiet = None if self.world.leads else True
        return iter(
            tqdm(
                range(start, self.recipe.epochs),
                desc="training",
                unit="epoch",
                initial=start,
                total=self.recipe.epochs,
                disable=quiet,
                leave=False,
            )
        )

    def _epoch(self, epoch: int) -> None:
        self.towers.train()
        torch.manual_seed(derived_seed(self.recipe.seed, 1, epoch, self.world.rank))  # dropout
        sums = torch.zeros(2)
        for number, rows in enumerate(self.plan.epoch(epoch)):
            sums += self._step(rows, epoch * self.plan.steps_per_epoch + number)
        query, document = (sums / self.plan.steps_per_epoch).tolist()
        rate = float(self.optimizer.param_groups[0]["lr"])
        means = {"loss": query + document, "loss_query": query, "loss_document": document}
        for name, value in (means | {"learning_rate": rate}).items():
            self.curves.setdefault(name, []).append(value)
        if self.world.leads:
            _log.info("epoch %d of %d: loss %.4f", epoch + 1, self.recipe.epochs, query + document)

    def _step(self, rows: Rows, step: int) -> Tensor:
        rate = self._rate(step)
        self.optimizer.zero_grad()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self.losses(rows, step)
        torch.autograd.backward(losses.total)
        sum_gradients(self.towers.parameters(), self.world)
        self.optimizer.step()
        self.classifier.update(rate * self.recipe.classifier_rate_factor)
        return torch.stack([losses.query, losses.document]).detach()

    def _rate(self, step: int) -> float:
        steps = self.recipe.epochs * self.plan.steps_per_epoch
        return learning_rate(step, steps, self.recipe.learning_rate, self.recipe.warmup_share)

    def _weights(self, rows: Rows) -> Tensor:
        """(A, 2): each example's weight in the query loss and in the document loss."""
        photos, documents = len(rows.photos_B), len(rows.documents_B)
        weights_B2 = torch.zeros(photos + documents, 2)
        weights_B2[:photos, 0] = self.arrays.photo_weights_N[rows.photos_B]
        weights_B2[photos:, 1] = 1.0
        whole = torch.zeros(self.world.size, *weights_B2.shape)
        whole[self.world.rank] = weights_B2
        return sum_over_ranks(whole, self.world).flatten(0, 1)

    def _check(self, loss_A: Tensor, rows: Rows, step: int) -> None:
        if bool(loss_A.isfinite().all()):
            return
        photos_A = gather_rows(rows.photos_B, self.world)
        of_photos_A = loss_A.detach().view(self.world.size, -1)[:, : len(rows.photos_B)].flatten()
        culprits = photos_A[~of_photos_A.isfinite()][:_NAMED_QUERIES].tolist()
        names = ", ".join(self.arrays.query_ids[row] for row in culprits) or "none, so look at the documents"
        raise TrainingError(
            f"the loss is no finite number at step {step} (learning rate {self._rate(step):.2g}); "
            f"queries: {names}. Look at these photos, or take a lower learning_rate"
        )


def _flat(features_NVF: Tensor) -> Tensor:
    return features_NVF.flatten(0, 1).float()
