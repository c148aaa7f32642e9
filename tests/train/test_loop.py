import dataclasses
from collections.abc import Iterator
from unittest import mock

import pytest
import torch

from immr.errors import TrainingError
from immr.model.features.document_features import DocumentArrays
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import Towers
from immr.train.checkpoint import Checkpoints
from immr.train.inputs.batches import BatchPlan, Rows
from immr.train.inputs.features import TrainingArrays, training_arrays
from immr.train.inputs.tower_inputs import FrozenInputs
from immr.train.loop import Trainer
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World
from tests.support import tiny_training_set
from tests.support.random_arrays import in_memory
from tests.support.tiny_training_set import MODEL, TRAIN


@pytest.fixture(scope="module")
def arrays(training_set, cache_dir) -> TrainingArrays:
    torch.set_num_threads(1)
    return in_memory(training_arrays(training_set, MODEL, TRAIN.views, cache_dir, World()))


def _trained(arrays, folder, **changes) -> Trainer:
    trainer = Trainer(arrays, MODEL, dataclasses.replace(TRAIN, **changes), World())
    trainer.run(Checkpoints(folder, "key", World()), tracker=None)
    return trainer


def test_arrays_hold_every_photo_view_and_document(arrays):
    assert arrays.photos_NVF.shape[:2] == (36, 2)
    assert arrays.documents.has_picture_N.tolist() == [True] * 5 + [False]
    assert (arrays.documents.tokens.lengths_N > 0).all()
    assert arrays.class_count == 6


def test_features_in_files_train_the_same_towers_as_in_memory(arrays, training_set, cache_dir, tmp_path):
    stored = training_arrays(training_set, MODEL, TRAIN.views, cache_dir, World())
    one, other = (
        _trained(each, tmp_path / str(number), epochs=2).towers.state_dict()
        for number, each in enumerate((arrays, stored))
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_loss_falls_and_photos_find_their_documents(arrays, tmp_path):
    trainer = _trained(arrays, tmp_path, epochs=12)
    loss = trainer.curves["loss"]
    assert len(loss) == 12 and loss[-1] < loss[0] / 2
    rows = torch.arange(36)
    with torch.inference_mode():
        query_ND = trainer.towers.query(arrays.photos_NVF[rows, 0].float())
        document_MD = trainer.towers.document(arrays.documents.batch(torch.arange(6), torch.zeros(6).long()))
    found_N = (query_ND @ document_MD.T).argmax(1)
    assert (found_N == arrays.photo_classes_N).float().mean() > 0.9


def _recall(towers: Towers, photos_NF: torch.Tensor, documents: DocumentArrays) -> float:
    every_M = torch.arange(len(documents.has_picture_N))
    with torch.inference_mode():
        document_MD = towers.eval().document(documents.batch(every_M, torch.zeros_like(every_M)))
        found_N = (towers.query(photos_NF) @ document_MD.T).argmax(1)
    return float((found_N == every_M.repeat(len(photos_NF) // len(every_M))).float().mean())


def test_training_on_one_photo_a_class_is_better_than_none(arrays, tmp_path):
    """From random projections, in as many steps as there are epochs, it was worse than the encoder's features."""
    classes, generator = 60, torch.Generator().manual_seed(0)
    centre_CF = torch.randn(classes, arrays.photos_NVF.shape[-1], generator=generator)

    def pictures(times: int) -> torch.Tensor:
        noise = torch.randn(times * classes, centre_CF.shape[1], generator=generator)
        return centre_CF.repeat(times, 1) + 4.5 * noise

    words, every_C = arrays.documents.tokens, torch.arange(classes)
    no_words = dataclasses.replace(
        words, starts_N=torch.zeros_like(every_C), lengths_N=torch.zeros_like(every_C)
    )
    few = TrainingArrays(
        query_ids=[str(number) for number in range(classes)],
        photo_images=[""] * classes,
        photos_NVF=pictures(1)[:, None],
        photo_classes_N=every_C,
        photo_weights_N=torch.ones(classes),
        documents=DocumentArrays(pictures(1)[:, None], None, every_C >= 0, no_words),
        document_classes_M=every_C,
        document_images=[""] * classes,
        picture_hashes={},
        class_count=classes,
    )
    model = ModelRecipe(fusion="image", plain_share=0.0)
    untrained = Towers.pretrained(model, few.documents.pictures_NVF[:, 0])
    trainer = Trainer(few, model, TrainRecipe(processes=1, views=1), World())
    trained = trainer.run(Checkpoints(tmp_path, "key", World()), tracker=None)
    photos_NF = pictures(10)
    before, after = (_recall(towers, photos_NF, few.documents) for towers in (untrained, trained))
    assert after > before


def test_same_seed_same_towers(arrays, tmp_path):
    one, again, other = (
        _trained(arrays, tmp_path / str(number), epochs=2, seed=seed).towers.state_dict()
        for number, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["query.transform.project.weight"], other["query.transform.project.weight"])


def test_a_resumed_run_ends_like_an_uninterrupted_one(arrays, tmp_path):
    unbroken = _trained(arrays, tmp_path / "unbroken", epochs=4)
    checkpoints = Checkpoints(tmp_path / "unbroken", "key", World())
    kept = checkpoints.load(Trainer(arrays, MODEL, TRAIN, World()).state())
    assert kept is not None and kept["epoch"] == 2
    resumed = _trained(arrays, tmp_path / "unbroken", epochs=4)
    assert resumed.curves == unbroken.curves
    for name, value in unbroken.towers.state_dict().items():
        assert torch.equal(value, resumed.towers.state_dict()[name])


@dataclasses.dataclass(frozen=True)
class Interrupted(BatchPlan):
    """Stops before a step of the run."""

    stop: int = 0

    def epoch(self, epoch: int) -> Iterator[Rows]:
        for number, rows in enumerate(super().epoch(epoch), epoch * self.steps_per_epoch):
            if number == self.stop:
                raise InterruptedError
            yield rows


def _interrupt(trainer: Trainer, stop: int) -> None:
    plan = Interrupted(**vars(trainer.stage.plan), stop=stop)
    trainer.stage = dataclasses.replace(trainer.stage, plan=plan)


@pytest.mark.parametrize(("negative_rate", "stops"), [(1.0, (0, 3, 7)), (0.5, range(12))])
def test_a_run_interrupted_at_any_step_ends_the_same(arrays, tmp_path, negative_rate, stops):
    changes = {"epochs": 3, "checkpoint_every_steps": 3, "negative_rate": negative_rate}
    unbroken = _trained(arrays, tmp_path / "unbroken", **changes)
    for stop in stops:
        broken = Trainer(arrays, MODEL, dataclasses.replace(TRAIN, **changes), World())
        _interrupt(broken, stop)
        with pytest.raises(InterruptedError):
            broken.run(Checkpoints(tmp_path / str(stop), "key", World()), tracker=None)
        resumed = _trained(arrays, tmp_path / str(stop), **changes)
        assert resumed.curves == unbroken.curves
        for name, value in unbroken.towers.state_dict().items():
            assert torch.equal(value, resumed.towers.state_dict()[name])


def test_checkpoints_are_not_written_before_their_time(arrays, tmp_path):
    recipe = dataclasses.replace(TRAIN, epochs=1, checkpoint_every_steps=1, checkpoint_every_s=3600.0)
    checkpoints = Checkpoints(tmp_path, "key", World())
    with mock.patch.object(checkpoints, "save") as save:
        Trainer(arrays, MODEL, recipe, World()).run(checkpoints, tracker=None)
        assert not save.called
        recipe = dataclasses.replace(recipe, checkpoint_every_s=0.0)
        trainer = Trainer(arrays, MODEL, recipe, World())
        trainer.run(checkpoints, tracker=None)
    assert save.call_count == trainer.stage.plan.steps_per_epoch - 1


def test_a_run_resumes_with_another_batch_size(arrays, tmp_path):
    """As on another number of ranks: after 12 of an epoch's 36 photos, 8 at a time."""
    first = Trainer(arrays, MODEL, dataclasses.replace(TRAIN, batch_size=6), World())
    _interrupt(first, 10)
    with pytest.raises(InterruptedError):
        first.run(Checkpoints(tmp_path, "key", World()), tracker=None)
    resumed = Trainer(arrays, MODEL, TRAIN, World())
    resumed.run(Checkpoints(tmp_path, "key", World()), tracker=None)
    assert len(resumed.curves["loss"]) == 4
    assert resumed.curves["loss"][0] == first.curves["loss"][0]


def test_a_run_that_shows_some_photos_twice_resumes_from_its_newest_checkpoint(arrays, tmp_path):
    """Couples of classes with one photo: an epoch shows twelve photos of six."""
    classes = arrays.photo_classes_N.tolist()
    rows_N = torch.tensor([classes.index(number) for number in range(6)])
    single = dataclasses.replace(
        arrays,
        query_ids=[arrays.query_ids[row] for row in rows_N],
        photo_images=[arrays.photo_images[row] for row in rows_N],
        photos_NVF=arrays.photos_NVF[rows_N],
        photo_classes_N=arrays.photo_classes_N[rows_N],
        photo_weights_N=arrays.photo_weights_N[rows_N],
    )
    recipe = dataclasses.replace(TRAIN, pair_weight=1.0, batch_size=2, checkpoint_every_steps=1)
    broken = Trainer(single, MODEL, recipe, World())
    _interrupt(broken, 7)
    with pytest.raises(InterruptedError):
        broken.run(Checkpoints(tmp_path, "key", World()), tracker=None)
    resumed = Trainer(single, MODEL, recipe, World())
    kept = Checkpoints(tmp_path, "key", World()).load(resumed.state())
    assert kept is not None and (kept["epoch"], kept["photos"]) == (1, 2)


def test_photo_weights_are_relative(arrays, tmp_path):
    doubled = dataclasses.replace(arrays, photo_weights_N=arrays.photo_weights_N * 2)
    unequal_N = torch.ones(36)
    unequal_N[:6] = 10.0
    unequal = dataclasses.replace(arrays, photo_weights_N=unequal_N)
    curves = [
        _trained(each, tmp_path / str(n), epochs=1).curves
        for n, each in enumerate((arrays, doubled, unequal))
    ]
    assert curves[1]["loss"] == pytest.approx(curves[0]["loss"], rel=1e-4)
    assert curves[2]["loss"] != pytest.approx(curves[0]["loss"], rel=1e-4)


def test_a_loss_that_is_not_finite_names_step_photo_and_rate(arrays, tmp_path):
    photos_NVF = arrays.photos_NVF.clone()
    trainer = Trainer(arrays, MODEL, TRAIN, World())
    photos_NVF[7] = torch.nan
    inputs = FrozenInputs(dataclasses.replace(arrays, photos_NVF=photos_NVF))
    trainer.stage = dataclasses.replace(trainer.stage, inputs=inputs)
    with pytest.raises(TrainingError, match=rf"step \d.*learning rate.*queries {arrays.query_ids[7]}:"):
        trainer.run(Checkpoints(tmp_path, "key", World()), tracker=None)


@pytest.mark.parametrize("changes", [{"margin_kind": "arcface"}, {"negative_rate": 0.5}])
def test_other_losses_learn_too(arrays, tmp_path, changes):
    loss = _trained(arrays, tmp_path, **changes).curves["loss"]
    assert loss[-1] < loss[0]


def test_catalogue_pictures_learn_to_find_their_items(arrays, tmp_path):
    batch = arrays.documents.batch(torch.arange(5), torch.zeros(5).long())
    similarity = []
    for weight in (0.0, 1.0):
        model = dataclasses.replace(MODEL, shared_projection=False)
        trainer = Trainer(
            arrays, model, dataclasses.replace(TRAIN, epochs=12, picture_weight=weight), World()
        )
        towers = trainer.run(Checkpoints(tmp_path / str(weight), "key", World()), tracker=None)
        with torch.inference_mode():
            similarity.append((towers.query(batch.pictures_BF) * towers.document(batch)).sum(1).mean().item())
    assert similarity[1] > similarity[0] + 0.05


def test_an_item_without_a_picture_has_no_part_in_the_loss_of_pictures(arrays):
    rows = Rows(torch.tensor([0]), torch.tensor([0]), torch.tensor([4, 5]), torch.tensor([0, 0]))
    recipe = dataclasses.replace(TRAIN, dropout=0.0, hide_modality=0.0, picture_weight=1.0)
    found = []
    for noise in (0.0, 1.0):
        pictures_NVF = arrays.documents.pictures_NVF.clone()
        pictures_NVF[5] += noise
        documents = dataclasses.replace(arrays.documents, pictures_NVF=pictures_NVF)
        trainer = Trainer(dataclasses.replace(arrays, documents=documents), MODEL, recipe, World())
        found.append(trainer.losses(rows, 0).total.item())
    assert found[0] == found[1]


def test_unseen_classes_leave_no_trace_in_training(cache_dir, tmp_path):
    training_set = tiny_training_set.write(tmp_path, unseen=frozenset({1, 4}))
    arrays = training_arrays(training_set, MODEL, TRAIN.views, cache_dir, World())
    assert arrays.class_count == 4 and len(arrays.query_ids) == 24
    assert arrays.document_classes_M.tolist() == [0, 1, 2, 3]
    assert not any("green" in image or "violet" in image for image in arrays.document_images)
    assert arrays.photo_classes_N.unique().tolist() == [0, 1, 2, 3]
