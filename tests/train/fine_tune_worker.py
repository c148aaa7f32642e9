"""One rank of `test_stages`: python -m tests.train.fine_tune_worker <training set> <cache> <folder>."""

import dataclasses
import sys
from pathlib import Path

import torch

from immr.data.training_set import TrainingSet
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.inputs.features import training_arrays
from immr.train.loop import Trainer
from immr.train.stages import fine_tuning
from immr.train.world import World, world_from_environment
from tests.support.tiny_training_set import MODEL, TRAIN

BATCH = 8  # photos and documents of all ranks


def gradients(training_set: TrainingSet, cache_dir: Path, world: World) -> list[torch.Tensor]:
    """Of this rank's first step, for what is learned of encoder and towers."""
    tune = FineTuneRecipe(
        least_steps=0,
        image_size_px=32,
        batch_size=BATCH // world.size,
        document_batch_size=4 // world.size,
        frozen_stages=6,
    )
    recipe = dataclasses.replace(
        TRAIN, dropout=0.0, hide_modality=0.0, pair_weight=1.0, pair_photo_weight=0.5, fine_tune=tune
    )
    arrays = training_arrays(training_set, MODEL, TRAIN.views, cache_dir, world)
    trainer = Trainer(arrays, MODEL, recipe, world)
    trainer.stage = fine_tuning(arrays, trainer.towers, recipe, cache_dir, world)
    first = trainer.stage.first_epoch
    rows = next(iter(trainer.stage.plan.epoch(first)))
    trainer.towers.train()
    trainer._step(rows, first * trainer.stage.plan.steps_per_epoch)
    learned = [parameter for parameter in trainer.stage.network.parameters() if parameter.requires_grad]
    return [parameter.grad for parameter in learned if parameter.grad is not None]


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_set, cache_dir, folder = (Path(argument) for argument in sys.argv[1:])
    with world_from_environment() as world:
        found = gradients(TrainingSet(training_set), cache_dir, world)
        torch.save(found, folder / f"{world.size}-{world.rank}.pt")
