"""The work of a GPU on tensors that say they are on one: nothing mixes devices, and no value is read.

Kernels and graphs are not run, and autocast has no effect, see `tests/support/fake_gpu.py`.
"""

import dataclasses
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.utils._pytree import tree_leaves

from immr.model.encoders.frozen_features import PictureBatch, TorchEncoder
from immr.model.features.pixels import PixelCache
from immr.train import stages
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import SampledClassifier, make_classifier
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.inputs.features import TrainingArrays
from immr.train.loop import Trainer
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World
from tests.support.random_arrays import KINDS, move_to, random_arrays
from tests.support.tiny_training_set import MODEL, TRAIN

pytest.importorskip("triton")
from tests.support.fake_gpu import GPU, fake_gpu

WORLD = World(device=GPU)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> TrainingArrays:
    torch.set_num_threads(1)
    return random_arrays(tmp_path_factory.mktemp("pictures"))


def test_tensors_of_two_devices_do_not_mix(monkeypatch):
    with fake_gpu(monkeypatch):
        there, here = torch.ones(3, device=GPU, requires_grad=True), torch.ones(3)
        with pytest.raises(RuntimeError, match="device"):
            there + here
        with pytest.raises(AssertionError, match="pinned"):
            there.pin_memory()
        with pytest.raises(RuntimeError, match="local_scalar"):
            there.sum().item()
        (2 * there).sum().backward()
        assert there.grad is not None
        assert there.grad.device == torch.device(GPU)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "rate", "rows"),
    [
        ("adagrad", 1.0, "float32"),
        ("adamw", 1.0, "float32"),
        ("sgd", 1.0, "float32"),
        ("adagrad", 0.1, "bfloat16"),
        ("adamw", 0.1, "float32"),
        ("sgd", 0.002, "bfloat16"),  # more examples than negatives
    ],
)
def test_a_classifier(monkeypatch, optimizer, rate, rows, kernels):
    recipe = TrainRecipe(negative_rate=rate, classifier_optimizer=optimizer, classifier_rows=rows)
    with fake_gpu(monkeypatch):
        classifier = make_classifier(recipe, Shard(5000, 12, WORLD), kernels=kernels)
        for step in range(5):
            embeddings_BD = F.normalize(torch.randn(12, 12, device=GPU), dim=-1).requires_grad_()
            loss_B = classifier(embeddings_BD, torch.zeros(12, dtype=torch.long, device=GPU), step)
            loss_B.mean().backward()
            classifier.update(0.1)
            assert embeddings_BD.grad is not None and loss_B.dtype == torch.float32
        if isinstance(classifier, SampledClassifier):
            assert classifier.is_recorded is kernels
        classifier.load_state_dict(classifier.state_dict())
        assert classifier.settled_rows().device == torch.device(GPU)


@pytest.mark.parametrize("changes", KINDS[-3:])
def test_a_step_on_frozen_features(arrays, monkeypatch, changes):
    trainer = Trainer(arrays, MODEL, dataclasses.replace(TRAIN, **changes), World())
    steps = list(enumerate(trainer.stage.plan.epoch(0)))[-2:]
    with fake_gpu(monkeypatch):
        move_to(trainer, WORLD)
        for step, rows in steps:
            losses = trainer._step(rows, step)
            assert losses.means_3.device == losses.examples_A.device == torch.device(GPU)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # by the copy for a checkpoint
@pytest.mark.parametrize(
    ("augmentation", "is_compiled"),
    [pytest.param("photos", True, marks=pytest.mark.slow), ("drawings", None)],
)
def test_a_step_of_fine_tuning(arrays, monkeypatch, tmp_path, augmentation, is_compiled):
    tune = FineTuneRecipe(
        least_steps=0,
        image_size_px=32,
        batch_size=4,
        document_batch_size=2,
        frozen_stages=6,
        augmentation=augmentation,
        compile=is_compiled,
    )
    compiled = []
    recipe = dataclasses.replace(TRAIN, **KINDS[-2], pair_memory=8, fine_tune=tune)
    trainer = Trainer(arrays, MODEL, recipe, World())
    plan = stages._plan(arrays, tune, recipe, World())
    pictures = stages._pictures(arrays, PixelCache(tmp_path, 45), World())
    steps = list(enumerate(plan.epoch(0), recipe.epochs * plan.steps_per_epoch))[-2:]  # after the warm-up
    with fake_gpu(monkeypatch):
        monkeypatch.setattr(stages, "_plan", lambda *_: plan)
        monkeypatch.setattr(stages, "_pictures", lambda *_: pictures)
        monkeypatch.setattr(stages, "compiled", lambda encoder, *_: compiled.append(encoder) or encoder)
        move_to(trainer, WORLD)
        trainer.stage = stages.fine_tuning(trainer.arrays, trainer.towers, recipe, tmp_path, WORLD)
        assert bool(compiled) is bool(is_compiled)
        for step, rows in steps:
            trainer._step(rows, step)
        state = {name: part.state_dict() for name, part in trainer.state().items()}
        assert {value.dtype for value in tree_leaves(state["learned"]["optimizer"]) if _is_wide(value)} == {
            torch.float32
        }
        staged = BlockingAsyncStager().stage(state)
        assert {value.device.type for value in tree_leaves(staged) if isinstance(value, torch.Tensor)} == {
            "cpu"
        }
        trainer.stage.settle()


@pytest.mark.parametrize(
    ("changes", "steps", "expected"),
    [
        ({}, 2_499, False),
        ({}, 2_500, True),
        ({"compile": False}, 2_500, False),
        ({"compile": True}, 1, True),
        ({"compile": True, "encoder_parallel": "fsdp2"}, 1, False),
    ],
)
def test_the_encoder_is_compiled_for_many_steps(changes, steps, expected):
    recipe, plan = FineTuneRecipe(epochs=2, least_steps=0, **changes), Mock(steps_per_epoch=steps)
    assert stages._is_compiled(recipe, plan) is expected


def _is_wide(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0


@pytest.mark.parametrize("half", [True, False])
def test_features_of_pictures(monkeypatch, half):
    with fake_gpu(monkeypatch):
        encoder = TorchEncoder(MODEL, None, torch.device(GPU))
        encoder._half = half
        side = MODEL.image_size_px
        for size_B2 in (None, torch.full((3, 2), float(side))):
            pixels = encoder._resized(PictureBatch(torch.empty(3, side, side, 3, dtype=torch.uint8), size_B2))
            assert pixels.shape == (3, 3, side, side)
            assert pixels.is_contiguous(memory_format=torch.channels_last)
        features_BF = encoder.features(pixels, "pooled")
        assert features_BF.device == torch.device(GPU) and features_BF.dtype == torch.float32
