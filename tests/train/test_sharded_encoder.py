"""A sharded encoder learns the same as a replicated one."""

import json

import pytest
import torch

from immr.model.encoders.by_name import load_image_encoder
from immr.model.model_card import IMAGE_ENCODER, TOWERS
from immr.train.job import CURVES
from tests.support.tiny_encoders import image_model
from tests.support.tiny_training_set import MODEL
from tests.train import ranks


@pytest.fixture(scope="module")
def folder(training_set, cache_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    where = (str(path) for path in (training_set.folder, cache_dir, folder))
    ranks.run("tests.train.parallel_worker", 2, *where)
    return folder


@pytest.mark.slow
def test_losses_weights_and_gradients_agree_with_replicas(folder):
    """Weights alone would not show the size of a gradient, because Adam divides by it."""
    for rank, found in enumerate(ranks.answers(folder, 2)):  # the leader alone has the whole encoder
        sharded, replicated = found["sharded"], found["replicated"]
        assert len(sharded["curves"]["loss"]) == 2
        assert sharded["curves"]["loss"] == pytest.approx(replicated["curves"]["loss"], abs=1e-5)
        parts = ("encoder", "towers", "gradients") if rank == 0 else ("towers", "gradients")
        for part in parts:
            torch.testing.assert_close(sharded[part], replicated[part], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_version_from_a_resumed_run_has_whole_tensors(folder):
    unbroken = ranks.answers(folder, 2)[0]["sharded"]
    curves = json.loads((folder / "version" / CURVES).read_text())
    assert curves == unbroken["curves"]
    for file, part in ((IMAGE_ENCODER, "encoder"), (TOWERS, "towers")):
        state = torch.load(folder / "version" / file, weights_only=True)
        torch.testing.assert_close(state, unbroken[part], atol=0, rtol=0)
    load_image_encoder(MODEL.image_encoder, 64, folder / "version" / IMAGE_ENCODER)


@pytest.mark.slow
def test_each_rank_holds_half_of_parameters_and_moments(folder):
    answers = ranks.answers(folder, 2)
    for number, whole in enumerate(answers[0]["replicated"]["held"]):
        held = [rank["sharded"]["held"][number] for rank in answers]
        assert sum(held) == whole
        assert max(held) < 0.52 * whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov2", "efficientnet-lite0"])
def test_gradients_in_bfloat16_agree_with_replicas(name, tmp_path):
    """With batch normalization only the products are reduced."""
    if name == "dinov2":
        name = image_model(name, tmp_path / name)
    ranks.run("tests.train.reduced_worker", 2, name, str(tmp_path))
    for found in ranks.answers(tmp_path, 2):
        assert found["sharded"]["dtypes"] == {torch.float32}
        sharded, replicated = (
            torch.cat([gradient.flatten() for gradient in found[kind]["gradients"]])
            for kind in ("sharded", "replicated")
        )
        assert (sharded - replicated).norm() < 0.02 * replicated.norm()
