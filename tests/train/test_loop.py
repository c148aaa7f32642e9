import dataclasses

import pytest
import torch

from immr.errors import TrainingError
from immr.train.checkpoint import Checkpoints
from immr.train.features import TrainingArrays, training_arrays
from immr.train.loop import Trainer
from immr.train.world import World
from tests.tiny_training_set import MODEL, TRAIN


@pytest.fixture(scope="module")
def arrays(training_set, cache_dir) -> TrainingArrays:
    torch.set_num_threads(1)
    return training_arrays(training_set, MODEL, TRAIN.views, cache_dir, World())


def _trained(arrays, folder, **changes) -> Trainer:
    trainer = Trainer(arrays, MODEL, dataclasses.replace(TRAIN, **changes), World())
    trainer.run(Checkpoints(folder, "key", World()), tracker=None)
    return trainer


def test_arrays_hold_every_photo_view_and_document(arrays):
    assert arrays.photos_NVF.shape[:2] == (36, 2)
    assert arrays.documents.has_picture_N.tolist() == [True] * 5 + [False]
    assert arrays.documents.mask_NT.any(1).all()
    assert arrays.class_count == 6


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


def test_same_seed_same_towers(arrays, tmp_path):
    one, again, other = (
        _trained(arrays, tmp_path / str(number), epochs=2, seed=seed).towers.state_dict()
        for number, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["query.transform.project.weight"], other["query.transform.project.weight"])


def test_a_resumed_run_ends_where_an_unbroken_one_does(arrays, tmp_path):
    unbroken = _trained(arrays, tmp_path / "unbroken", epochs=4)
    checkpoints = Checkpoints(tmp_path / "unbroken", "key", World())
    newest = checkpoints.newest()
    assert newest is not None and newest[0] == 2
    resumed = _trained(arrays, tmp_path / "unbroken", epochs=4)
    assert resumed.curves == unbroken.curves
    for name, value in unbroken.towers.state_dict().items():
        assert torch.equal(value, resumed.towers.state_dict()[name])


def test_weights_weigh(arrays, tmp_path):
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


def test_a_loss_that_is_no_number_names_step_photo_and_rate(arrays, tmp_path):
    photos_NVF = arrays.photos_NVF.clone()
    trainer = Trainer(arrays, MODEL, TRAIN, World())
    photos_NVF[7] = torch.nan
    trainer.arrays = dataclasses.replace(arrays, photos_NVF=photos_NVF)
    with pytest.raises(TrainingError, match=rf"step \d.*learning rate.*queries: {arrays.query_ids[7]}\."):
        trainer.run(Checkpoints(tmp_path, "key", World()), tracker=None)


@pytest.mark.parametrize("changes", [{"margin_kind": "arcface"}, {"negative_rate": 0.5}])
def test_other_losses_learn_too(arrays, tmp_path, changes):
    loss = _trained(arrays, tmp_path, **changes).curves["loss"]
    assert loss[-1] < loss[0]
