"""The training loop: both towers on frozen features, photos and documents in one step.

Shapes: B photos and documents of one rank, A those of all ranks, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from immr.errors import TrainingError
from immr.model.recipe import ModelRecipe
from immr.model.towers import Towers
from immr.train.batches import BatchPlan, Rows
from immr.train.checkpoint import Checkpoints, Learned, Parts
from immr.train.classifier import Shard, make_classifier
from immr.train.collectives import gather_rows, sum_gradients, sum_over_ranks
from immr.train.features import TrainingArrays
from immr.train.progress import Curves, Display, Progress
from immr.train.recipe import TrainRecipe
from immr.train.schedule import learning_rate
from immr.train.seeds import derived_seed
from immr.train.tracking import Tracker
from immr.train.world import World

_NAMED_QUERIES = 5


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
    progress: Progress = field(default_factory=Progress)

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

    @property
    def curves(self) -> Curves:
        """What the epochs so far came to."""
        return self.progress.curves

    def run(self, checkpoints: Checkpoints, tracker: Tracker | None) -> Towers:
        """Train to the last epoch, from the newest checkpoint on where there is one.

        Raises:
            TrainingError: the loss is no finite number; says at which step and with which photos.
        """
        self._resume(checkpoints)
        epochs, photos = self.recipe.epochs, self.plan.steps_per_epoch * self._photos_per_step
        with Display(epochs, photos, self.progress, shown=self.world.leads) as display:
            while self.progress.epoch < epochs:
                self._epoch(checkpoints, display)
                display.epoch(self.progress)
                if tracker:  # before the checkpoint that will not repeat this epoch
                    latest = {name: values[-1] for name, values in self.curves.items()}
                    tracker.metrics(latest, step=self.progress.epoch)
                self._save_if_due(checkpoints)
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

    def state(self) -> Parts:
        """What a checkpoint keeps of this rank."""
        return {"towers": Learned(self.towers, self.optimizer), "classifier": self.classifier}

    @property
    def _photos_per_step(self) -> int:
        return self.plan.photo_batch * self.world.size

    @property
    def _steps_done(self) -> int:
        # rounded up: after another number of ranks some photos may be skipped, but none is seen twice
        in_epoch = -(-self.progress.photos // self._photos_per_step)
        return self.progress.epoch * self.plan.steps_per_epoch + min(in_epoch, self.plan.steps_per_epoch)

    def _resume(self, checkpoints: Checkpoints) -> None:
        if progress := checkpoints.load(self.state()):
            self.progress = Progress(**progress)

    def _save_if_due(self, checkpoints: Checkpoints) -> None:
        every, last = self.recipe.checkpoint_every_steps, self.recipe.epochs * self.plan.steps_per_epoch
        if self._steps_done % every == 0 and self._steps_done < last:
            photos = self.progress.epoch * len(self.arrays.query_ids) + self.progress.photos
            checkpoints.save(photos, self.state(), self.progress.to_dict())

    def _epoch(self, checkpoints: Checkpoints, display: Display) -> None:
        self.towers.train()
        epoch, start = self.progress.epoch, self._steps_done
        ahead = islice(self.plan.epoch(epoch), start - epoch * self.plan.steps_per_epoch, None)
        for step, rows in enumerate(ahead, start):
            losses = self._step(rows, step).tolist()
            self.progress.step(self._photos_per_step, losses)
            display.step(self.progress, sum(losses))
            if (step + 1) % self.plan.steps_per_epoch:  # at an epoch's end when the curves have it
                self._save_if_due(checkpoints)
        self.progress.end_epoch(float(self.optimizer.param_groups[0]["lr"]))

    def _step(self, rows: Rows, step: int) -> Tensor:
        rate = self._rate(step)
        # dropout; by step, so that a run goes on from any of them as if it had not stopped
        torch.manual_seed(derived_seed(self.recipe.seed, 1, step, self.world.rank))
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
