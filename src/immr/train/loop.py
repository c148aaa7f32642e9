"""The training loop: each step trains both towers on photos and documents; a stage decides what else is trained.

Shapes: B photos and documents of one rank, A those of all ranks, D embedding.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from immr.errors import TrainingError
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import Towers
from immr.train import stages
from immr.train.checkpoint import Checkpoints, Parts
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.collectives import gather_rows, sum_gradients
from immr.train.classifier.sharded_classifier import make_classifier
from immr.train.inputs.batches import Rows
from immr.train.inputs.features import TrainingArrays
from immr.train.optimization.imprinting import imprinted_rows
from immr.train.pair_loss import DocumentMemory, pair_loss
from immr.train.progress import Curves, Display, Progress
from immr.train.seeds import derived_seed
from immr.train.tracking import Tracker
from immr.train.train_recipe import TrainRecipe
from immr.train.unread_losses import StepLosses, UnreadLosses
from immr.train.world import World

_NAMED_QUERIES = 5
_READ_EVERY = 50  # steps; each read stops a GPU until the host has launched the next kernels


@dataclass
class Losses:
    """Mean losses over all ranks."""

    query: Tensor  # −log softmax of the classifier
    document: Tensor  # the same
    pair: Tensor  # zero if its weight is zero
    total: Tensor  # the minimized sum
    examples_A: Tensor  # each example's loss in the classifier


@dataclass
class Trainer:
    """One rank's part of a run: its copy of the towers and its shard of the classifier."""

    arrays: TrainingArrays
    model: ModelRecipe
    recipe: TrainRecipe
    world: World
    progress: Progress = field(default_factory=Progress)
    read_every: int = 0  # steps between reads of the losses; 0 chooses by device

    def __post_init__(self) -> None:
        self.arrays = self.arrays.to(self.world.device)
        self.read_every = self.read_every or (1 if self.world.device == "cpu" else _READ_EVERY)
        self._unread, self._saved_at = UnreadLosses(), 0.0
        recipe, arrays = self.recipe, self.arrays
        torch.manual_seed(derived_seed(recipe.seed, 0))  # the same initial towers on every rank
        self.towers, self.stage = stages.heads(arrays, self.model, recipe, self.world)
        shard = Shard(arrays.class_count, self.model.dim, self.world, recipe.seed)
        self.classifier = make_classifier(recipe, shard)
        if recipe.class_weight and arrays.has_few_photos:
            self.classifier.begin_with(imprinted_rows(self.towers, self.arrays, shard))
        self._empty_memory()

    @property
    def curves(self) -> Curves:
        """The means of the epochs so far."""
        return self.progress.curves

    def run(self, checkpoints: Checkpoints, tracker: Tracker | None) -> Towers:
        """Train to the stage's last epoch, starting from its newest checkpoint if it has one.

        Args:
            checkpoints: of this stage only.
            tracker: receives each epoch's means.

        Raises:
            TrainingError: the loss is not finite; the message names the step and the photos.
        """
        self._resume(checkpoints)
        self._saved_at = time.monotonic()
        epochs, photos = self.stage.last_epoch, self.stage.plan.steps_per_epoch * self._photos_per_step
        with Display(epochs, photos, self.progress, shown=self.world.leads) as display:
            while self.progress.epoch < epochs:
                self._epoch(checkpoints, display)
                display.epoch(self.progress)
                if tracker:  # before the checkpoint, after which this epoch is not repeated
                    latest = {name: values[-1] for name, values in self.curves.items()}
                    tracker.metrics(latest, step=self.progress.epoch)
                self._save_if_due(checkpoints)
        checkpoints.wait()
        self.stage.settle()
        return self.towers.eval()

    def fine_tune(
        self, checkpoints: Checkpoints, tracker: Tracker | None, cache_dir: Path, pixels_url: str = ""
    ) -> nn.Module:
        """Run the recipe's second stage after `run` has finished the first; returns the fine-tuned encoder.

        Args:
            checkpoints: of this stage only.
            tracker: receives each epoch's means.
            cache_dir: where decoded pictures are kept, unless `pixels_url` is given.
            pixels_url: where shards of decoded pictures are kept.

        Raises:
            TrainingError: as `run` does.
            RecipeError: the encoder does not support what the recipe asks for.
        """
        self.stage = stages.fine_tuning(
            self.arrays, self.towers, self.recipe, cache_dir, self.world, pixels_url
        )
        self._empty_memory()
        self.run(checkpoints, tracker)
        return self.stage.network.eval().get_submodule("encoder")

    def losses(self, rows: Rows, step: int) -> Losses:
        """One step's losses, equal on all ranks; `rows` are on the host."""
        arrays, recipe = self.arrays, self.recipe
        inputs = self.stage.inputs(rows, step)
        rows = rows.to(self.world.device)
        query_BD = self.towers.query(inputs.photos_BF)
        document_BD = self.towers.document(inputs.documents)
        photo_classes_B = arrays.photo_classes_N[rows.photos_B]
        document_classes_B = arrays.document_classes_M[rows.documents_B]
        embeddings, labels = [query_BD, document_BD], [photo_classes_B, document_classes_B]
        if recipe.picture_weight:
            embeddings.append(self.towers.query(inputs.documents.pictures_BF))
            labels.append(document_classes_B)
        loss_A = self._class_losses(torch.cat(embeddings), torch.cat(labels), step)
        weights_A3 = self._weights(rows, inputs.documents.has_picture_B)
        query, document, picture = (loss_A[:, None] * weights_A3).sum(0) / weights_A3.sum(0).clamp_min(1e-12)
        total = recipe.class_weight * (query + document + recipe.picture_weight * picture)
        pair = loss_A.new_zeros(())
        if recipe.pair_weight:
            pair = self._pair_loss(query_BD, document_BD, photo_classes_B, document_classes_B, step)
            total = total + recipe.pair_weight * pair
        return Losses(query, document, pair, total, loss_A.detach())

    def state(self) -> Parts:
        """What a checkpoint saves of this rank."""
        memory: Parts = {"memory": self.memory} if self.memory else {}
        return {**self.stage.state(), "classifier": self.classifier, **memory}

    @property
    def _photos_per_step(self) -> int:
        return self.stage.plan.photo_batch * self.world.size

    @property
    def _steps_done(self) -> int:
        # rounded up: if the number of ranks changed, some photos may be skipped, but none is seen twice
        in_epoch = -(-self.progress.photos // self._photos_per_step)
        per_epoch = self.stage.plan.steps_per_epoch
        return self.progress.epoch * per_epoch + min(in_epoch, per_epoch)

    def _resume(self, checkpoints: Checkpoints) -> None:
        if progress := checkpoints.load(self.state()):
            self.progress = Progress(**progress)

    def _save_if_due(self, checkpoints: Checkpoints) -> None:
        every, stage = self.recipe.checkpoint_every_steps, self.stage
        last = stage.last_epoch * stage.plan.steps_per_epoch
        if self._steps_done % every or self._steps_done >= last:
            return
        now = time.monotonic()
        if self.world.agree(now - self._saved_at >= self.recipe.checkpoint_every_s):
            self._saved_at = now
            self._read_losses()
            photos = self.progress.epoch * stage.plan.photos_shown + self.progress.photos
            checkpoints.save(photos, self.state(), self.progress.to_dict())

    def _epoch(self, checkpoints: Checkpoints, display: Display) -> None:
        self.towers.train()
        epoch, start, plan = self.progress.epoch, self._steps_done, self.stage.plan
        ahead = islice(plan.epoch(epoch), start - epoch * plan.steps_per_epoch, None)
        for step, rows in self.stage.inputs.ahead(enumerate(ahead, start)):
            self._unread.add(self._step(rows, step))
            self.progress.advance(self._photos_per_step)
            if (step + 1) % self.read_every == 0:
                display.step(self.progress, self._read_losses())
            ends_epoch = (step + 1) % plan.steps_per_epoch == 0
            if not ends_epoch:  # `run` saves the last step of an epoch, with its curves
                self._save_if_due(checkpoints)
        self._read_losses()
        self.progress.end_epoch(self.stage.rate(self._steps_done - 1))

    def _step(self, rows: Rows, step: int) -> StepLosses:
        # dropout; seeded by step, so a resumed run repeats it
        torch.manual_seed(derived_seed(self.recipe.seed, 1, step, self.world.rank))
        self.stage.optimizer.zero_grad()
        losses = self.losses(rows, step)
        torch.autograd.backward(losses.total)
        sum_gradients(self.stage.network.parameters(), self.world)
        rate = self.stage.rate(step)
        self.stage.step(rate)
        if self.recipe.class_weight:
            self.classifier.update(rate * self.recipe.classifier_rate_factor)
        means_3 = torch.stack([losses.query, losses.document, losses.pair]).detach()
        return StepLosses(step, rows, means_3, losses.examples_A)

    def _class_losses(self, embeddings_BD: Tensor, labels_B: Tensor, step: int) -> Tensor:
        """(A,); without a weight the classifier is not computed."""
        if self.recipe.class_weight:
            return self.classifier(embeddings_BD, labels_B, step)
        return 0.0 * gather_rows(embeddings_BD, self.world).sum(1)

    def _pair_loss(
        self,
        query_BD: Tensor,
        document_BD: Tensor,
        photo_classes_B: Tensor,
        document_classes_B: Tensor,
        step: int,
    ) -> Tensor:
        return pair_loss(
            query_BD,
            document_BD,
            photo_classes_B,
            document_classes_B,
            self.world,
            self.recipe.pair_photo_weight,
            self.memory if self.stage.is_warm(step) else None,
        )

    def _empty_memory(self) -> None:
        size = self.recipe.pair_memory
        self.memory = DocumentMemory(size, self.model.dim, self.world.device) if size else None

    def _weights(self, rows: Rows, has_picture_B: Tensor) -> Tensor:
        """(A, 3): each example's weight in the loss of photos, of documents, and of pictures as photos."""
        photos, documents = len(rows.photos_B), len(rows.documents_B)
        pictures = documents if self.recipe.picture_weight else 0
        weights_B3 = torch.zeros(photos + documents + pictures, 3, device=self.world.device)
        weights_B3[:photos, 0] = self.arrays.photo_weights_N[rows.photos_B]
        weights_B3[photos : photos + documents, 1] = 1.0
        if pictures:
            weights_B3[photos + documents :, 2] = has_picture_B.float()
        return gather_rows(weights_B3, self.world)

    def _read_losses(self) -> float:
        """Record the losses of the steps since the last read, and return the last one.

        Raises:
            TrainingError: A loss is not finite.
        """
        losses, broken = self._unread.read()
        if broken:
            raise self._not_finite(broken)
        for means in losses:
            self.progress.record(means)
        return sum(losses[-1]) if losses else math.nan

    def _not_finite(self, losses: StepLosses) -> TrainingError:
        photos_B = losses.rows.photos_B
        photos_A = gather_rows(photos_B.to(self.world.device), self.world).cpu()
        of_photos_A = losses.examples_A.cpu().view(self.world.size, -1)[:, : len(photos_B)].flatten()
        culprits = photos_A[~of_photos_A.isfinite()][:_NAMED_QUERIES].tolist()
        names = ", ".join(self.arrays.query_ids[row] for row in culprits) or "none (check the documents)"
        return TrainingError(
            f"the loss is not finite at step {losses.step} (learning rate {self.stage.rate(losses.step):.2g}) "
            f"with the queries {names}: check these photos, or lower learning_rate"
        )
