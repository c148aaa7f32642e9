"""One rank of `test_classifier`: python classifier_worker.py <out folder> <size>:<port>…

With torchrun's environment. The ranks form one process group per size, of that many ranks.
"""

import dataclasses
import os
import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from immr.train.classifier.collectives import sum_gradients
from immr.train.classifier.sharded_classifier import (
    Classifier,
    SampledClassifier,
    Shard,
    ShardedClassifier,
    make_classifier,
)
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World, world_from_environment

EXAMPLES, CLASSES, DIM, INPUT, STEPS = 12, 23, 5, 6, 6
RECIPE = TrainRecipe(margin=0.3, scale=8.0, weight_decay=0.02, seed=4)
CASES = [
    dataclasses.replace(RECIPE, margin_kind=kind, negative_rate=rate, classifier_optimizer=optimizer)
    for kind, rate, optimizer in (
        ("cosface", 1.0, "adamw"),
        ("arcface", 1.0, "sgd"),
        ("cosface", 0.4, "sgd"),
        ("arcface", 0.3, "adamw"),
    )
]


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs (A, I), labels (A,) and weights (A,) of all ranks."""
    generator = torch.Generator().manual_seed(1 + step)
    inputs_AI = torch.randn(EXAMPLES, INPUT, generator=generator, dtype=torch.float64)
    labels_A = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    return inputs_AI, labels_A, torch.rand(EXAMPLES, generator=generator, dtype=torch.float64)


def learning_rate(step: int) -> float:
    return 0.3 / (1 + step)


def projection() -> torch.nn.Linear:
    torch.manual_seed(2)
    return torch.nn.Linear(INPUT, DIM).double()


def in_float64(classifier: Classifier) -> Classifier:
    if isinstance(classifier, SampledClassifier):
        rows = classifier.rows
        rows.rows_RD, rows.slots = rows.rows_RD.double(), [slot.double() for slot in rows.slots]
    if isinstance(classifier, ShardedClassifier):
        classifier.rows_RD.data = classifier.rows_RD.data.double()
    return classifier


def own_rows(classifier: Classifier) -> torch.Tensor:
    """This rank's rows, all up to date."""
    rows: torch.Tensor = classifier.settled_rows()
    return rows.to_local() if isinstance(rows, DTensor) else rows


def run(recipe: TrainRecipe, world: World) -> dict[str, torch.Tensor]:
    """Train the rows for some steps on a fixed tower; returns each step's results and the final rows."""
    mine = slice(world.rank * EXAMPLES // world.size, (world.rank + 1) * EXAMPLES // world.size)
    shard = Shard(CLASSES, DIM, world, recipe.seed)
    head = in_float64(make_classifier(recipe, shard, kernels=False))  # which have no float64
    found: dict[str, torch.Tensor] = {"first_rows": own_rows(head).clone()}
    for step in range(STEPS):
        inputs_AI, labels_A, weights_A = batch(step)
        tower = projection()
        embeddings_BD = torch.nn.functional.normalize(tower(inputs_AI[mine]), dim=-1)
        loss = (head(embeddings_BD, labels_A[mine], step) * weights_A.to(world.device)).sum()
        loss.backward()
        sum_gradients(tower.parameters(), world)
        head.update(learning_rate(step))
        assert tower.weight.grad is not None and tower.bias.grad is not None
        found[f"loss {step}"] = loss.detach()
        found[f"tower {step}"] = torch.cat([tower.weight.grad.flatten(), tower.bias.grad])
        sample = shard.sample(labels_A - shard.start, recipe.negative_rate, step)
        found[f"sampled {step}"] = shard.start + sample.rows_S[: sample.count].sort().values
    found["last_rows"] = own_rows(head)
    return {name: values.cpu() for name, values in found.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, *groups = sys.argv[1:]
    for size, port in (group.split(":") for group in groups):
        if int(os.environ["RANK"]) < int(size):
            os.environ |= {"WORLD_SIZE": size, "MASTER_PORT": port}
            with world_from_environment() as world:
                results = [run(recipe, world) for recipe in CASES]
                torch.save(results, Path(folder) / f"{world.size}-{world.rank}.pt")
