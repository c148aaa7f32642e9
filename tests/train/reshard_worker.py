"""One rank of `classifier.test_shard`: python -m tests.train.reshard_worker <folder> <steps> <size>:<port>…

The ranks form one process group per size, of that many ranks. The first writes checkpoints in `<folder>/<size>` and
runs to the end, the others resume from them.
"""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from immr.train.checkpoint import Checkpoints, LearnedState
from immr.train.classifier.collectives import sum_gradients
from immr.train.classifier.sharded_classifier import (
    Classifier,
    SampledClassifier,
    Shard,
    ShardedClassifier,
    make_classifier,
)
from immr.train.world import World, world_from_environment
from tests.train.classifier.classifier_worker import (
    CLASSES,
    DIM,
    RECIPE,
    batch,
    in_float64,
    learning_rate,
    projection,
)

CASES = {
    "exact-adamw": dataclasses.replace(RECIPE, classifier_optimizer="adamw"),
    "exact-sgd": dataclasses.replace(RECIPE, classifier_optimizer="sgd"),
    "lazy-adamw": dataclasses.replace(RECIPE, classifier_optimizer="adamw", negative_rate=0.3),
    "lazy-sgd": dataclasses.replace(RECIPE, classifier_optimizer="sgd", negative_rate=0.3),
}


def own_state(classifier: Classifier) -> list[torch.Tensor]:
    """This rank's rows and what their optimizer keeps by row."""
    if isinstance(classifier, SampledClassifier):
        return [classifier.rows.rows_RD, *classifier.rows.slots]
    assert isinstance(classifier, ShardedClassifier)
    slots = classifier.optimizer.state[classifier.rows_RD].values()
    return [classifier.rows_RD.detach(), *(slot for slot in slots if slot.ndim == 2)]


def run(name: str, folder: Path, steps: int, save: bool, world: World) -> dict[str, object]:
    classifier = in_float64(make_classifier(CASES[name], Shard(CLASSES, DIM, world, RECIPE.seed)))
    tower = projection()
    learned = LearnedState(tower, torch.optim.AdamW(tower.parameters(), lr=0.01))
    parts = {"classifier": classifier, "towers": learned}
    checkpoints = Checkpoints(folder / name, "key", world, in_background=name.endswith("sgd"))
    start = (checkpoints.load(parts) or {"step": 0})["step"]
    first = [tensor.clone() for tensor in own_state(classifier)] if start else []
    losses = []
    for step in range(start, steps):
        inputs_AI, labels_A, _ = batch(step)
        mine = slice(world.rank * len(labels_A) // world.size, (world.rank + 1) * len(labels_A) // world.size)
        learned.optimizer.zero_grad()
        loss = classifier(F.normalize(tower(inputs_AI[mine]), dim=-1), labels_A[mine], step).sum()
        torch.autograd.backward(loss)
        sum_gradients(tower.parameters(), world)
        learned.optimizer.step()
        classifier.update(learning_rate(step))
        losses.append(loss.item())
        if save and step == 3:
            checkpoints.save(step, parts, {"step": step + 1})
            first = [tensor.clone() for tensor in own_state(classifier)]
    checkpoints.wait()
    return {"first": first, "losses": losses, "towers": list(tower.parameters())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, steps, rank = Path(sys.argv[1]), int(sys.argv[2]), int(os.environ["RANK"])
    groups = [group.split(":") for group in sys.argv[3:]]
    first = groups[0][0]
    for size, port in groups:
        if rank >= int(size):
            continue
        if rank == 0 and size != first:  # the other ranks wait for it in the next group
            shutil.copytree(folder / first, folder / size)
        os.environ |= {"WORLD_SIZE": size, "MASTER_PORT": port}
        with world_from_environment() as world:
            found = {name: run(name, folder / size, steps, size == first, world) for name in CASES}
            torch.save(found, folder / size / f"{world.size}-{world.rank}.pt")
