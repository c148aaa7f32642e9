"""The second stage: the encoder is trained with the towers, on pictures augmented again in each step."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from immr.errors import RecipeError
from immr.model.documents import encode_documents
from immr.model.encoders.by_name import load_image_encoder
from immr.model.model_card import IMAGE_ENCODER
from immr.model.query_encoder import OnnxQueryEncoder
from immr.train import stages
from immr.train.checkpoint import Checkpoints
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.inputs.batches import BatchPlan, Rows
from immr.train.inputs.features import TrainingArrays, training_arrays
from immr.train.job import TrainJob, run
from immr.train.loop import Trainer
from immr.train.optimization.depthwise import use_fast_gradients
from immr.train.stages import fine_tuning, heads
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World
from tests.support.tiny_training_set import MODEL, TRAIN
from tests.train import fine_tune_worker, ranks

TUNE = FineTuneRecipe(
    epochs=2,
    least_steps=0,
    image_size_px=32,
    batch_size=6,
    document_batch_size=3,
    frozen_stages=6,
    encoder_share=0.3,
    stage_decay=0.8,
)
RECIPE = dataclasses.replace(TRAIN, epochs=1, fine_tune=TUNE, checkpoint_every_steps=4)


@pytest.fixture(scope="module")
def arrays(training_set, cache_dir) -> TrainingArrays:
    torch.set_num_threads(1)
    return training_arrays(training_set, MODEL, TRAIN.views, cache_dir, World())


def _tuned(
    arrays, cache_dir, folder: Path, recipe=RECIPE, pixels_url: str = ""
) -> tuple[Trainer, torch.nn.Module]:
    trainer = Trainer(arrays, MODEL, recipe, World())
    trainer.run(Checkpoints(folder / "heads", "key", World()), None)
    checkpoints = Checkpoints(folder / "tune", "key", World())
    return trainer, trainer.fine_tune(checkpoints, None, cache_dir, pixels_url)


@pytest.fixture(scope="module")
def unbroken(arrays, cache_dir, tmp_path_factory) -> tuple[Trainer, torch.nn.Module, Path]:
    """A run with its checkpoints, to compare with and to copy."""
    folder = tmp_path_factory.mktemp("unbroken")
    return *_tuned(arrays, cache_dir, folder), folder


def test_only_the_late_stages_learn_and_the_curves_continue(unbroken):
    trainer, encoder, _ = unbroken
    assert len(trainer.curves["loss"]) == 3
    pretrained = load_image_encoder(MODEL.image_encoder, 32)
    same = [
        all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
        for ours, theirs in zip(encoder.stages(), pretrained.stages(), strict=True)
    ]
    assert same == [True] * 6 + [False] * 3
    buffers = zip(encoder.buffers(), pretrained.buffers(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in buffers), "statistics of batch norm stay"


def test_it_resumes_from_any_checkpoint_like_an_uninterrupted_run(arrays, cache_dir, unbroken, tmp_path):
    trainer, encoder, folder = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    kept = sorted(path.name for path in (tmp_path / "tune").iterdir())
    assert len(kept) == 2
    resumed, again = _tuned(arrays, cache_dir, tmp_path)
    assert resumed.curves == trainer.curves
    for ours, theirs in ((trainer.towers, resumed.towers), (encoder, again)):
        state = theirs.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


def test_a_run_that_resumes_with_pictures_from_shards_ends_like_one_from_the_cache(
    arrays, cache_dir, unbroken, tmp_path
):
    from_cache, encoder, folder = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(max((tmp_path / "tune").iterdir()))
    url = (tmp_path / "shards").as_uri()
    from_shards, again = _tuned(arrays, cache_dir, tmp_path, pixels_url=url)
    assert list((tmp_path / "shards").rglob("*.tar"))
    assert from_shards.curves == from_cache.curves
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


@pytest.mark.slow
def test_gradients_of_two_ranks_agree_with_one(training_set, arrays, cache_dir, tmp_path):
    where = (str(path) for path in (training_set.folder, cache_dir, tmp_path))
    ranks.run("tests.train.fine_tune_worker", 2, *where)
    together = ranks.answers(tmp_path, 2)
    alone = fine_tune_worker.gradients(training_set, cache_dir, World())
    assert len(alone) == len(together[0]) > 30
    for of_one, *of_two in zip(alone, *together, strict=True):
        for gradient in of_two:
            torch.testing.assert_close(gradient, of_one, atol=1e-5, rtol=1e-3)
        assert torch.equal(*of_two)


def test_inputs_depend_on_seed_step_and_row_only(arrays, cache_dir):
    towers, _ = heads(arrays, MODEL, RECIPE, World())
    stage = fine_tuning(arrays, towers, RECIPE, cache_dir, World())
    rows = Rows(torch.tensor([3, 8]), torch.zeros(2).long(), torch.tensor([0, 5]), torch.zeros(2).long())
    alone = Rows(torch.tensor([8]), torch.zeros(1).long(), torch.tensor([5, 0]), torch.zeros(2).long())
    with torch.no_grad():
        both, one, later = stage.inputs(rows, 7), stage.inputs(alone, 7), stage.inputs(rows, 8)
    torch.testing.assert_close(both.photos_BF[1], one.photos_BF[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        both.documents.pictures_BF[0], one.documents.pictures_BF[1], atol=1e-5, rtol=1e-4
    )
    assert not torch.allclose(both.photos_BF, later.photos_BF, atol=1e-3)
    assert both.documents.has_picture_B.tolist() == [True, False]


@pytest.mark.slow
def test_matched_pairs_are_learned_without_a_classifier_loss(arrays, cache_dir, tmp_path):
    tune = dataclasses.replace(TUNE, epochs=6)
    recipe = dataclasses.replace(RECIPE, epochs=6, class_weight=0.0, pair_weight=1.0, fine_tune=tune)
    trainer, _ = _tuned(arrays, cache_dir, tmp_path, recipe)
    pairs = trainer.curves["loss_pair"]
    assert pairs[5] < pairs[0], "on frozen features"
    assert pairs[11] < pairs[6], "with the encoder"


def test_a_resumed_run_remembers_the_same_documents(arrays, cache_dir, tmp_path):
    recipe = dataclasses.replace(
        RECIPE, epochs=0, class_weight=0.0, pair_weight=1.0, pair_photo_weight=0.5, pair_memory=8
    )
    unbroken, _ = _tuned(arrays, cache_dir, tmp_path, recipe)
    assert unbroken.memory is not None and (unbroken.memory.classes_Q >= 0).all()
    resumed, _ = _tuned(arrays, cache_dir, tmp_path, recipe)
    assert resumed.memory is not None
    assert torch.equal(resumed.memory.rows_QD, unbroken.memory.rows_QD)
    state = resumed.towers.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in unbroken.towers.state_dict().items())


def test_bfloat16_gives_nearly_the_same_features(arrays, cache_dir):
    rows = Rows(torch.tensor([3, 8]), torch.zeros(2).long(), torch.tensor([0]), torch.zeros(1).long())
    photos = []
    for autocast in (False, True):
        recipe = dataclasses.replace(RECIPE, fine_tune=dataclasses.replace(TUNE, autocast=autocast))
        towers, _ = heads(arrays, MODEL, recipe, World())
        photos.append(fine_tuning(arrays, towers, recipe, cache_dir, World()).inputs(rows, 7).photos_BF)
    full_BF, reduced_BF = photos
    assert reduced_BF.dtype == torch.float32 and not torch.equal(*photos)
    assert torch.nn.functional.cosine_similarity(full_BF, reduced_BF).min() > 0.98


def test_rates_fall_from_stage_to_stage(arrays, cache_dir):
    towers, _ = heads(arrays, MODEL, RECIPE, World())
    stage = fine_tuning(arrays, towers, RECIPE, cache_dir, World())
    first = stage.first_epoch * stage.plan.steps_per_epoch
    for parameter in stage.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stage.step(stage.rate(first + 1))
    rates = [group["lr"] / stage.rate(first + 1) for group in stage.optimizer.param_groups]
    assert sorted(set(rates), reverse=True) == pytest.approx([1.0, 0.3, 0.3 * 0.8, 0.3 * 0.8**2])
    assert stage.rate(first) > 0 and stage.rate(first + 2 * stage.plan.steps_per_epoch - 1) < 1e-4


def test_encoders_that_cannot_be_tuned_are_refused(arrays, cache_dir):
    towers, _ = heads(arrays, MODEL, RECIPE, World())
    for changes, why in (
        ({"frozen_stages": 9}, "the encoder has 9 stages"),
        ({"image_size_px": 40}, "multiple of 32"),
    ):
        recipe = dataclasses.replace(RECIPE, fine_tune=dataclasses.replace(TUNE, **changes))
        with pytest.raises(RecipeError, match=why):
            fine_tuning(arrays, towers, recipe, cache_dir, World())


@pytest.mark.slow
def test_a_versions_encoder_serves_queries_and_documents(job, training_set, tmp_path):
    job = dataclasses.replace(job, train=dataclasses.replace(RECIPE, epochs=24))
    job.write(tmp_path / "job.json")
    run(TrainJob.read(tmp_path / "job.json"), World())
    assert (job.out / IMAGE_ENCODER).is_file()
    documents_MD = encode_documents(job.out, training_set.items, job.cache_dir)
    photos = [Image.open(judgement.image).convert("RGB") for judgement in training_set.judgements]
    queries_ND = OnnxQueryEncoder(job.out).encode(photos)
    assert ((queries_ND @ documents_MD.T).argmax(1) == np.arange(6)).mean() >= 4 / 6


def test_on_a_cpu_depthwise_convolutions_have_fast_gradients(arrays, cache_dir):
    towers, _ = heads(arrays, MODEL, RECIPE, World())
    network = fine_tuning(arrays, towers, RECIPE, cache_dir, World()).network
    assert use_fast_gradients(network) == 0, "they were replaced already"


@pytest.mark.parametrize(
    ("photos", "epochs", "expected"), [(5, 25, 300), (5, 0, 0), (100, 25, 38), (10_000, 25, 25)]
)
def test_few_photos_have_more_epochs(photos: int, epochs: int, expected: int) -> None:
    """The recipe `grocery` took 25 steps on 5 photos."""
    recipe = TrainRecipe(epochs=epochs, batch_size=12, least_steps=300)
    plan = BatchPlan(photos, 10, 1, recipe.batch_size, recipe.document_batch_size, 0, World())
    assert stages._epochs(recipe, plan) == expected
