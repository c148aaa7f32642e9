"""The host reads nothing during a step, because it would wait for the GPU; checked without a GPU in two ways.

On the CPU every kernel that needs a host read is counted. On the device `meta`, which has shapes and no values, such
a kernel cannot run at all, and neither can one with tensors on two devices.
"""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from immr.train.checkpoint import Checkpoints
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import make_classifier
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.inputs.features import TrainingArrays
from immr.train.loop import Trainer
from immr.train.stages import fine_tuning
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World
from tests.support.host_reads import counted
from tests.support.random_arrays import KINDS, move_to, random_arrays
from tests.support.tiny_training_set import MODEL, TRAIN

META = World(device="meta")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> TrainingArrays:
    torch.set_num_threads(1)
    return random_arrays(tmp_path_factory.mktemp("pictures"))


def _steps(trainer: Trainer):
    return list(enumerate(trainer.stage.plan.epoch(trainer.stage.first_epoch)))


def test_reads_are_counted(monkeypatch):
    values = torch.arange(4.0)
    with counted(monkeypatch) as reads:
        values.sum().item()
        values[values > 1]
        values.tolist()
        values.cpu()
        values.nonzero()
        assert values.any()
        values[torch.tensor([1, 2])] = 3.0
    expected = ["_local_scalar_dense", "index", "tolist", "cpu", "nonzero", "_local_scalar_dense"]
    assert [name for name in reads if name != "is_nonzero"] == expected


@pytest.mark.parametrize("changes", KINDS)
def test_a_step_needs_no_host_read(arrays, monkeypatch, changes):
    trainer = Trainer(arrays, MODEL, dataclasses.replace(TRAIN, **changes), World(), read_every=3)
    trainer.towers.train()
    (first, rows), *others = _steps(trainer)
    trainer._step(rows, first)  # optimizers create their state in their first step
    with counted(monkeypatch) as reads:
        for step, rows in others:
            trainer._step(rows, step)
    assert reads == []


def test_a_step_with_the_encoder_needs_no_host_read(arrays, tmp_path, monkeypatch):
    tune = FineTuneRecipe(
        least_steps=0, image_size_px=32, batch_size=4, document_batch_size=2, frozen_stages=6
    )
    recipe = dataclasses.replace(TRAIN, fine_tune=tune)
    trainer = Trainer(arrays, MODEL, recipe, World())
    trainer.stage = fine_tuning(arrays, trainer.towers, recipe, tmp_path, World())
    trainer.towers.train()
    (first, rows), (second, others), *_ = _steps(trainer)
    trainer._step(rows, first)
    with counted(monkeypatch) as reads:
        trainer._step(others, second)
    assert reads == []


def test_the_losses_of_several_steps_are_read_at_once(arrays, tmp_path, monkeypatch):
    curves = []
    for every in (1, 3):
        recipe = dataclasses.replace(TRAIN, epochs=2, checkpoint_every_steps=1000)
        trainer = Trainer(arrays, MODEL, recipe, World(), read_every=every)
        reads = []
        monkeypatch.setattr(trainer._unread, "read", _noted(trainer._unread.read, reads))
        trainer.run(Checkpoints(tmp_path / str(every), "key", World()), tracker=None)
        steps = trainer.stage.plan.steps_per_epoch
        assert [count for count in reads if count] == ([1] * 2 * steps if every == 1 else [3, 1, 2, 2])
        curves.append(trainer.curves)
    assert curves[0] == curves[1]


def _noted(read, counts):
    def reading():
        found = read()
        counts.append(len(found[0]))
        return found

    return reading


@pytest.mark.parametrize("changes", KINDS)
def test_a_step_runs_on_a_device_without_values(arrays, changes):
    recipe = dataclasses.replace(TRAIN, **changes)
    trainer = Trainer(arrays, MODEL, recipe, World())
    steps = _steps(trainer)
    move_to(trainer, META)
    for step, rows in steps:
        losses = trainer._step(rows, step)
        assert losses.means_3.device.type == "meta"


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", "adamw"])
@pytest.mark.parametrize("rows", ["float32", "bfloat16"])
def test_a_classifier_is_made_and_settled_on_a_device_without_values(optimizer, rows):
    recipe = TrainRecipe(negative_rate=0.1, classifier_optimizer=optimizer, classifier_rows=rows)
    classifier = make_classifier(recipe, Shard(5000, 12, META))
    embeddings_BD = F.normalize(torch.randn(6, 12, device="meta"), dim=-1).requires_grad_()
    classifier(embeddings_BD, torch.zeros(6, dtype=torch.long, device="meta"), 0).mean().backward()
    classifier.update(0.1)
    assert classifier.state_dict()["rows"].device.type == "meta"
    assert embeddings_BD.grad is not None and embeddings_BD.grad.device.type == "meta"
