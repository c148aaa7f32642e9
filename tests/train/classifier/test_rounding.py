import dataclasses

import pytest
import torch
import torch.nn.functional as F

from immr.errors import RecipeError
from immr.train.classifier.lazy_rows import LazyRows
from immr.train.classifier.rounding import to_bfloat16
from immr.train.classifier.row_optimizers import Sgd
from immr.train.classifier.sharded_classifier import SampledClassifier, Shard, make_classifier
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World


def _dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_values_round_to_a_neighbour_and_are_right_on_average():
    values = torch.tensor([1.001, -3.1416, 1e-20, 12345.6]).repeat(20_000, 1)
    rounded = to_bfloat16(values, seed=0).float()
    step = 2.0 ** (values.abs().log2().floor() - 7)  # from one bfloat16 to the next
    assert ((rounded - values).abs() < step).all()
    assert all(len(column.unique()) == 2 for column in rounded.T)
    torch.testing.assert_close(rounded.mean(0) / values[0], torch.ones(4), rtol=1e-4, atol=0)


def test_representable_values_do_not_change():
    values = torch.randn(7, 5, generator=_dice()).bfloat16().float()
    assert torch.equal(to_bfloat16(values, seed=0).float(), values)


def test_steps_too_small_for_bfloat16_add_up():
    """1,000 steps of a thousandth; rounding to nearest would lose all of them."""
    rows = LazyRows(torch.ones(50, 8, dtype=torch.bfloat16), Sgd(momentum=0.0))
    everything = torch.arange(50)
    for _ in range(1000):
        rows.step(everything, rows.read(everything), torch.full((50, 8), -1.0), 0.001)
    assert (torch.tensor(1.0, dtype=torch.bfloat16) + 0.001) == 1.0
    assert rows.rows_RD.float().mean() == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", "adamw"])
def test_a_classifier_with_bfloat16_rows_learns_as_well_as_with_float32(optimizer):
    """Noisy points around 100 centres; each step has 30 classes and samples 20 % of the others."""
    generator = _dice()
    centres_CD = F.normalize(torch.randn(100, 16, generator=generator), dim=-1)

    def points(labels_B: torch.Tensor) -> torch.Tensor:
        noise_BD = 0.1 * torch.randn(len(labels_B), 16, generator=generator)
        return F.normalize(centres_CD[labels_B] + noise_BD, dim=-1)

    batches = [(points(labels), labels) for labels in torch.randint(100, (300, 30), generator=generator)]
    tested_B = torch.arange(100).repeat(30)
    tested_BD = points(tested_B)
    right = {}
    for kind in ("float32", "bfloat16"):
        recipe = TrainRecipe(negative_rate=0.2, classifier_optimizer=optimizer, scale=16.0)
        recipe = dataclasses.replace(recipe, classifier_rows=kind)
        classifier = make_classifier(recipe, Shard(100, 16, World()))
        assert isinstance(classifier, SampledClassifier)
        for step, (points_BD, labels_B) in enumerate(batches):
            classifier(points_BD.clone().requires_grad_(), labels_B, step).mean().backward()
            classifier.update({"adagrad": 0.03, "sgd": 0.1, "adamw": 0.01}[optimizer])
        rows_CD = classifier.settled_rows().float()
        right[kind] = ((tested_BD @ F.normalize(rows_CD, dim=-1).T).argmax(1) == tested_B).float().mean()
    assert right["float32"] > 0.9
    assert right["bfloat16"] > right["float32"] - 0.01


def test_bfloat16_rows_need_a_lazy_optimizer():
    with pytest.raises(RecipeError, match="negative_rate below 1"):
        make_classifier(
            TrainRecipe(classifier_rows="bfloat16", classifier_optimizer="adamw"), Shard(3, 2, World())
        )
