"""The defaults must work for a handful of classes and for thousands, at the same learning rate."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import make_classifier
from immr.train.optimization.schedule import learning_rate
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

DIM, RECIPE = 32, TrainRecipe()


@pytest.mark.parametrize(
    ("classes", "rate", "steps", "batch"), [(10, 1.0, 100, 32), (2000, 1.0, 400, 128), (2000, 0.05, 600, 128)]
)
def test_rows_find_their_class_with_default_rates(classes, rate, steps, batch):
    recipe = dataclasses.replace(RECIPE, negative_rate=rate)
    generator = torch.Generator().manual_seed(0)
    centres_CD = F.normalize(torch.randn(classes, DIM, generator=generator), dim=-1)

    def points(labels_B: torch.Tensor) -> torch.Tensor:
        return centres_CD[labels_B] + 0.08 * torch.randn(len(labels_B), DIM, generator=generator)

    torch.manual_seed(0)
    tower = torch.nn.Linear(DIM, DIM)
    optimizer = torch.optim.AdamW(tower.parameters())
    classifier = make_classifier(recipe, Shard(classes, DIM, World()))
    for step in range(steps):
        labels_B = torch.randint(classes, (batch,), generator=generator)
        optimizer.zero_grad()
        classifier(F.normalize(tower(points(labels_B)), dim=-1), labels_B, step).mean().backward()
        now = learning_rate(step, steps, recipe.learning_rate, recipe.warmup_share)
        optimizer.param_groups[0]["lr"] = now
        optimizer.step()
        classifier.update(now * recipe.classifier_rate_factor)
    rows_CD = F.normalize(classifier.settled_rows(), dim=-1)
    with torch.no_grad():
        found_C = (tower(points(torch.arange(classes))) @ rows_CD.T).argmax(1)
    assert (found_C == torch.arange(classes)).float().mean() > 0.97
