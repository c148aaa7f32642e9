"""One rank of `test_classifier`: python classifier_worker.py <out folder>, with torchrun's environment."""

import sys
from pathlib import Path

import torch

from immr.train import margins
from immr.train.classifier import ShardedClassifier
from immr.train.collectives import sum_gradients
from immr.train.world import World, world_from_environment

EXAMPLES, CLASSES, DIM, INPUT, STEP = 12, 7, 5, 6, 3
CASES = [("cosface", 1.0), ("arcface", 1.0), ("cosface", 0.5)]


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs (A, I), labels (A,) and weights (A,) of all ranks."""
    generator = torch.Generator().manual_seed(1)
    inputs_AI = torch.randn(EXAMPLES, INPUT, generator=generator, dtype=torch.float64)
    labels_A = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    return inputs_AI, labels_A, torch.rand(EXAMPLES, generator=generator, dtype=torch.float64)


def projection() -> torch.nn.Linear:
    torch.manual_seed(2)
    return torch.nn.Linear(INPUT, DIM).double()


def classifier(kind: str, rate: float, world: World) -> ShardedClassifier:
    return ShardedClassifier(CLASSES, DIM, margins.by_name(kind, 0.3), 8.0, rate, world, seed=4).double()


def run(kind: str, rate: float, world: World) -> dict[str, torch.Tensor]:
    inputs_AI, labels_A, weights_A = batch()
    mine = slice(world.rank * EXAMPLES // world.size, (world.rank + 1) * EXAMPLES // world.size)
    tower, head = projection(), classifier(kind, rate, world)
    embeddings_BD = torch.nn.functional.normalize(tower(inputs_AI[mine]), dim=-1)
    loss = (head(embeddings_BD, labels_A[mine], STEP) * weights_A).sum()
    loss.backward()
    sum_gradients(tower.parameters(), world)
    assert head.rows_RD.grad is not None and tower.weight.grad is not None and tower.bias.grad is not None
    return {
        "loss": loss.detach(),
        "rows": head.rows_RD.detach(),
        "rows_gradient": head.rows_RD.grad,
        "tower_gradient": torch.cat([tower.weight.grad.flatten(), tower.bias.grad]),
        "sampled": head.sample(labels_A, STEP) + head.start,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with world_from_environment() as world:
        results = [run(kind, rate, world) for kind, rate in CASES]
        torch.save(results, Path(sys.argv[1]) / f"{world.size}-{world.rank}.pt")
