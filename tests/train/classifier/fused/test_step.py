"""A recorded step against plain torch; the recording is that of `tests/support/recorded_graph.py`."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from immr.train.classifier import lazy_rows
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import SampledClassifier, make_classifier
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

pytest.importorskip("triton")
from tests.support.recorded_graph import recorder

RECIPE = TrainRecipe(classifier_products="float32", scale=9.0, weight_decay=0.01, margin=0.3)
CLASSES, DIM = 90, 12


def _steps(classifier, steps, batch=8):
    """Losses and gradients of some steps with falling rates."""
    found = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        embeddings_BD = F.normalize(torch.randn(batch, DIM, generator=generator), dim=-1).requires_grad_()
        labels_B = torch.randint(CLASSES, (batch,), generator=generator)
        loss_B = classifier(embeddings_BD, labels_B, step)
        (loss_B * torch.rand(batch, generator=generator)).sum().backward()
        classifier.update(0.2 / (1 + step))
        found.append((loss_B.detach(), embeddings_BD.grad))
    return found


@pytest.mark.parametrize(
    ("optimizer", "rate", "changes"),
    [
        ("sgd", 0.2, {}),
        ("sgd", 0.04, {"margin_kind": "arcface"}),  # padded
        ("adamw", 0.3, {"conflict_cosine": 0.4}),
        ("adagrad", 0.3, {}),
        ("adagrad", 1.0, {}),
    ],
)
def test_a_recorded_step_is_that_of_plain_torch(monkeypatch, optimizer, rate, changes):
    monkeypatch.setattr(lazy_rows, "HORIZON", 5)
    recipe = dataclasses.replace(RECIPE, negative_rate=rate, classifier_optimizer=optimizer, **changes)
    shard = Shard(CLASSES, DIM, World())
    recorded = make_classifier(recipe, shard, kernels=True, recorder=recorder(monkeypatch))
    plain = make_classifier(recipe, shard, kernels=False)
    assert isinstance(recorded, SampledClassifier)
    found = _steps(recorded, range(9))
    assert recorded.is_recorded
    torch.testing.assert_close(found, _steps(plain, range(9)), rtol=1e-4, atol=1e-5)
    rows = [each.settled_rows() for each in (recorded, plain)]
    torch.testing.assert_close(*rows, rtol=1e-4, atol=1e-5)


def test_another_batch_size_is_recorded_again(monkeypatch):
    recipe = dataclasses.replace(RECIPE, negative_rate=0.3, classifier_optimizer="sgd")
    shard = Shard(CLASSES, DIM, World())
    recorded = make_classifier(recipe, shard, kernels=True, recorder=recorder(monkeypatch))
    plain = make_classifier(recipe, shard, kernels=False)
    for batch, steps in ((8, range(5)), (5, range(5, 10))):
        found = _steps(recorded, steps, batch)
        assert recorded.is_recorded
        torch.testing.assert_close(found, _steps(plain, steps, batch), rtol=1e-4, atol=1e-5)


def test_bfloat16_rows_are_rounded_differently_in_each_replay(monkeypatch):
    recipe = dataclasses.replace(
        RECIPE, negative_rate=1.0, classifier_optimizer="adagrad", classifier_rows="bfloat16"
    )
    recorded = make_classifier(
        recipe, Shard(CLASSES, DIM, World()), kernels=True, recorder=recorder(monkeypatch)
    )
    assert isinstance(recorded, SampledClassifier)
    _steps(recorded, range(5))
    kept = [tensor.clone() for tensor in (recorded.rows.rows_RD, *recorded.rows.slots)]
    found = []
    for _ in range(2):
        for tensor, before in zip((recorded.rows.rows_RD, *recorded.rows.slots), kept, strict=True):
            tensor.copy_(before)
        _steps(recorded, [5])
        found.append(recorded.rows.rows_RD.clone())
    assert not torch.equal(*found)
    torch.testing.assert_close(*found, rtol=2**-7, atol=1e-6)


def test_a_backward_pass_after_the_next_loss_is_refused():
    recipe = dataclasses.replace(RECIPE, negative_rate=0.3, classifier_optimizer="sgd")
    classifier = make_classifier(recipe, Shard(CLASSES, DIM, World()), kernels=True)
    embeddings_BD = F.normalize(torch.ones(2, DIM), dim=-1).requires_grad_()
    first_B, second_B = (classifier(embeddings_BD, torch.tensor([1, 2]), step) for step in range(2))
    with pytest.raises(RuntimeError, match="before the next loss"):
        first_B.sum().backward()
    second_B.sum().backward()
