import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from immr.train import margins
from immr.train.classifier import ShardedClassifier, shard_bounds
from immr.train.world import World
from tests.train.classifier_worker import CASES, CLASSES, batch, projection

SIZES = (1, 2, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[list[dict[str, torch.Tensor]]]]:
    """World size → rank → case → what that rank computed."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        _start(folder, rank, size, port) for size in SIZES for port in [_port()] for rank in range(size)
    ]
    assert [process.wait(60) for process in processes] == [0] * len(processes)
    return {size: [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)] for size in SIZES}


def _start(folder: Path, rank: int, size: int, port: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.classifier_worker", str(folder)], env=environment
    )


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _one_process(kind: str, rows_CD: torch.Tensor, seen_S: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same loss as plain torch would write it, over the classes in `seen_S`."""
    inputs_AI, labels_A, weights_A = batch()
    tower, rows_CD = projection(), rows_CD.clone().requires_grad_()
    cosine_AC = F.normalize(tower(inputs_AI), dim=-1) @ F.normalize(rows_CD, dim=-1).T
    hardened_AC = margins.by_name(kind, 0.3)(cosine_AC)
    logits_AC = 8.0 * torch.where(F.one_hot(labels_A, CLASSES).bool(), hardened_AC, cosine_AC)
    unseen_C = torch.ones(CLASSES, dtype=torch.bool).index_fill(0, seen_S, False)
    logits_AC = logits_AC.masked_fill(unseen_C, -math.inf)
    loss = (F.cross_entropy(logits_AC, labels_A, reduction="none") * weights_A).sum()
    loss.backward()
    return {
        "loss": loss.detach(),
        "rows_gradient": rows_CD.grad,
        "tower_gradient": torch.cat([tower.weight.grad.flatten(), tower.bias.grad]),
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_sharded_loss_and_gradients_equal_one_process(results, size, case):
    ranks = [rank[case] for rank in results[size]]
    seen_S = torch.cat([rank["sampled"] for rank in ranks])
    expected = _one_process(CASES[case][0], torch.cat([rank["rows"] for rank in ranks]), seen_S)
    rows_gradient = torch.cat([rank["rows_gradient"] for rank in ranks])
    torch.testing.assert_close(rows_gradient, expected["rows_gradient"], rtol=1e-10, atol=1e-14)
    for rank in ranks:
        for name in ("loss", "tower_gradient"):
            torch.testing.assert_close(rank[name], expected[name], rtol=1e-10, atol=1e-14)


def test_first_rows_do_not_depend_on_the_number_of_processes(results):
    rows = [torch.cat([rank[0]["rows"] for rank in results[size]]) for size in SIZES]
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])


def test_a_sample_has_the_batchs_classes_and_its_share_of_negatives():
    head = ShardedClassifier(100, 4, margins.cosface(0.2), 10.0, 0.1, World(), seed=0)
    labels_A = torch.tensor([5, 5, 77])
    sampled_S = head.sample(labels_A, step=1)
    assert len(sampled_S) == 10 and {5, 77} <= set(sampled_S.tolist())
    assert torch.equal(sampled_S, head.sample(labels_A, step=1))
    assert not torch.equal(sampled_S, head.sample(labels_A, step=2))
    assert len(head.sample(torch.arange(40), step=1)) == 40


def test_only_sampled_rows_get_a_gradient():
    head = ShardedClassifier(50, 4, margins.cosface(0.2), 10.0, 0.1, World(), seed=0)
    labels_B = torch.tensor([1, 2])
    head(F.normalize(torch.ones(2, 4), dim=-1), labels_B, 0).sum().backward()
    touched = head.rows_RD.grad.abs().sum(1).nonzero().flatten()
    assert set(touched.tolist()) <= set(head.sample(labels_B, 0).tolist())


def test_more_processes_than_classes_leave_some_without_rows():
    bounds = [shard_bounds(2, World(rank, 3)) for rank in range(3)]
    assert [stop - start for start, stop in bounds] == [0, 1, 1]
    assert bounds[0][0] == 0 and bounds[-1][1] == 2
