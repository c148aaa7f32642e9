import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from immr.train.classifier import class_shard, margins
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import SampledClassifier, dense_optimizer, make_classifier
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World
from tests.train import ranks
from tests.train.classifier.classifier_worker import (
    CASES,
    CLASSES,
    RECIPE,
    STEPS,
    batch,
    learning_rate,
    projection,
)

SIZES = (1, 2, 3, 4)
WORKER = "tests.train.classifier.classifier_worker"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[list[dict[str, torch.Tensor]]]]:
    """World size → rank → case → what that rank computed."""
    folder = tmp_path_factory.mktemp("ranks")
    groups = [f"{size}:{ranks.free_port()}" for size in SIZES]
    ranks.run(WORKER, max(SIZES), str(folder), *groups)
    return {size: ranks.answers(folder, size) for size in SIZES}


def _one_process(recipe: TrainRecipe, ranks: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The same steps in plain torch: all classes, masked to the sample, with a dense optimizer."""
    rows_CD = torch.nn.Parameter(torch.cat([rank["first_rows"] for rank in ranks]))
    optimizer = dense_optimizer(recipe)([rows_CD])
    found = {}
    for step in range(STEPS):
        inputs_AI, labels_A, weights_A = batch(step)
        tower = projection()
        cosine_AC = F.normalize(tower(inputs_AI), dim=-1) @ F.normalize(rows_CD, dim=-1).T
        hardened_AC = margins.by_name(recipe.margin_kind, recipe.margin)(cosine_AC)
        logits_AC = recipe.scale * torch.where(F.one_hot(labels_A, CLASSES).bool(), hardened_AC, cosine_AC)
        seen_S = torch.cat([rank[f"sampled {step}"] for rank in ranks])
        unseen_C = torch.ones(CLASSES, dtype=torch.bool).index_fill(0, seen_S, False)
        logits_AC = logits_AC.masked_fill(unseen_C, -math.inf)
        loss = (F.cross_entropy(logits_AC, labels_A, reduction="none") * weights_A).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = learning_rate(step)
        optimizer.step()
        assert tower.weight.grad is not None and tower.bias.grad is not None
        found[f"loss {step}"] = loss.detach()
        found[f"tower {step}"] = torch.cat([tower.weight.grad.flatten(), tower.bias.grad])
    return found | {"last_rows": rows_CD.detach()}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("case", range(len(CASES)))
def test_with_nccl_losses_gradients_and_rows_equal_one_process(case, tmp_path):
    size = min(max(SIZES), torch.cuda.device_count())
    ranks.run(WORKER, size, str(tmp_path), f"{size}:{ranks.free_port()}", on_gpus=True)
    _check([rank[case] for rank in ranks.answers(tmp_path, size)], case)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_losses_gradients_and_rows_equal_one_process(results, size, case):
    _check([rank[case] for rank in results[size]], case)


def _check(ranks, case):
    expected = _one_process(CASES[case], ranks)
    # lazy AdamW makes up for missed steps up to its ε
    up_to_epsilon = CASES[case].negative_rate < 1 and CASES[case].classifier_optimizer == "adamw"
    close = {"rtol": 0.0, "atol": 1e-6} if up_to_epsilon else {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(
        torch.cat([rank["last_rows"] for rank in ranks]), expected["last_rows"], **close
    )
    for rank in ranks:
        for step in range(STEPS):
            as_close = close if step else {"rtol": 1e-10, "atol": 1e-14}
            for name in (f"loss {step}", f"tower {step}"):
                torch.testing.assert_close(rank[name], expected[name], **as_close)


def test_first_rows_do_not_depend_on_the_number_of_processes(results):
    rows = [torch.cat([rank[0]["first_rows"] for rank in results[size]]) for size in SIZES]
    assert all(torch.equal(rows[0], each) for each in rows[1:])


def test_first_rows_are_the_same_across_their_blocks():
    whole = Shard(3000, 4, World()).first_rows()
    parts = [Shard(3000, 4, World(rank, 7)).first_rows() for rank in range(7)]
    assert torch.equal(whole, torch.cat(parts))


def test_first_rows_that_a_gpu_draws_are_the_same_across_ranks(monkeypatch):
    monkeypatch.setattr(class_shard, "_DEVICE_BLOCK", 100)
    cpu = torch.device("cpu")
    whole = Shard(1000, 5, World())._drawn_on(cpu, torch.float32)
    parts = [Shard(1000, 5, World(rank, 3))._drawn_on(cpu, torch.float32) for rank in range(3)]
    assert torch.equal(whole, torch.cat(parts))
    assert whole.std().item() == pytest.approx(0.01, rel=0.05)
    assert len(whole.unique()) > 4900


def test_only_sampled_rows_are_touched():
    recipe = dataclasses.replace(RECIPE, negative_rate=0.1)
    own = Shard(50, 4, World())
    head = make_classifier(recipe, own)
    assert isinstance(head, SampledClassifier)
    before_RD = head.rows.rows_RD.clone()
    labels_B = torch.tensor([1, 2])
    embeddings_BD = F.normalize(torch.ones(2, 4), dim=-1).requires_grad_()
    head(embeddings_BD, labels_B, 0).sum().backward()
    head.update(0.1)
    moved_R = (head.rows.rows_RD != before_RD).any(1)
    assert moved_R.nonzero().flatten().tolist() == own.sample(labels_B, 0.1, 0).rows_S.tolist()


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_saved_classifier_resumes_bit_for_bit(rate):
    recipe, own = dataclasses.replace(RECIPE, negative_rate=rate), Shard(40, 4, World())
    generator = torch.Generator().manual_seed(0)
    batches = [
        (F.normalize(torch.randn(6, 4, generator=generator), dim=-1), torch.randint(40, (6,)))
        for _ in range(8)
    ]

    def learn(head, steps):
        for step in steps:
            embeddings_BD, labels_B = batches[step]
            head(embeddings_BD.clone().requires_grad_(), labels_B, step).sum().backward()
            head.update(0.1)

    one, other = make_classifier(recipe, own), make_classifier(recipe, own)
    learn(one, range(4))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    learn(one, range(4, 8))
    learn(other, range(4, 8))
    assert torch.equal(one.state_dict()["rows"], other.state_dict()["rows"])


def test_more_processes_than_classes_leave_some_without_rows():
    shards = [Shard(2, 4, World(rank, 3)) for rank in range(3)]
    assert [shard.stop - shard.start for shard in shards] == [1, 1, 0]
    assert shards[0].start == 0 and shards[-1].stop == 2
