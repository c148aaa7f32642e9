"""One rank of `test_parallel`: python -m tests.train.parallel_worker <training set> <cache> <folder>.

Fine-tunes replicas, then shards, then exports a version from the shards' checkpoint.
"""

import dataclasses
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from immr.data.training_set import TrainingSet
from immr.train.checkpoint import Checkpoints
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.inputs.features import TrainingArrays, training_arrays
from immr.train.job import TrainJob, run
from immr.train.loop import Trainer
from immr.train.sharded_encoder import whole_state
from immr.train.stages import fine_tuning
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World, world_from_environment
from tests.support.tiny_training_set import MODEL, TRAIN

TUNE = FineTuneRecipe(
    epochs=1,
    least_steps=0,
    image_size_px=32,
    batch_size=4,
    document_batch_size=2,
    frozen_stages=6,
    stage_decay=0.8,
)
REPLICATED = dataclasses.replace(TRAIN, epochs=1, fine_tune=TUNE, checkpoint_every_steps=2)
SHARDED = dataclasses.replace(REPLICATED, fine_tune=dataclasses.replace(TUNE, encoder_parallel="fsdp2"))


def tuned(
    arrays: TrainingArrays, recipe: TrainRecipe, cache_dir: Path, saved: Path, world: World
) -> dict[str, object]:
    trainer = Trainer(arrays, MODEL, recipe, world)
    trainer.run(Checkpoints(saved, "key", world), None)
    stage = trainer.stage = fine_tuning(arrays, trainer.towers, recipe, cache_dir, world)
    encoder = stage.network.get_submodule("encoder")
    if recipe is REPLICATED:
        encoder.to(memory_format=torch.contiguous_format)  # as for shards: otherwise sums round differently
    trainer.run(Checkpoints(saved / "fine-tune", "key", world), None)
    learning = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    moments = [stage.optimizer.state[parameter]["exp_avg"] for parameter in learning]
    found = {
        "curves": trainer.curves,
        "encoder": copies(whole_state(encoder)),
        "towers": copies(trainer.towers.state_dict()),
        "held": [own_size(tensors) for tensors in (encoder.parameters(), moments)],
    }
    rows = next(iter(stage.plan.epoch(0)))
    trainer.towers.train()
    trainer._step(rows, stage.first_epoch * stage.plan.steps_per_epoch)
    gradients = [parameter.grad for parameter in stage.network.parameters() if parameter.requires_grad]
    return found | {"gradients": [whole(gradient) for gradient in gradients]}


def copies(state):
    return {name: value.clone() for name, value in state.items()}


def whole(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_size(tensors) -> int:
    return sum((own.to_local() if isinstance(own, DTensor) else own).numel() for own in tensors)


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_set, cache_dir, folder = (Path(argument) for argument in sys.argv[1:])
    saved = {kind: folder / f"{kind}-saved" for kind in ("replicated", "sharded")}
    with world_from_environment() as world:
        arrays = training_arrays(TrainingSet(training_set), MODEL, TRAIN.views, cache_dir, world)
        found = {
            "replicated": tuned(arrays, REPLICATED, cache_dir, saved["replicated"], world),
            "sharded": tuned(arrays, SHARDED, cache_dir, saved["sharded"], world),
        }
        version, checkpoints = folder / "version", saved["sharded"]
        run(TrainJob(training_set, version, checkpoints, cache_dir, "tiny", MODEL, SHARDED, "key", ""), world)
        torch.save(found, folder / f"{world.size}-{world.rank}.pt")
