"""The Triton kernels against plain torch: interpreted on the CPU, and compiled for an H100 without one."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F

from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import make_classifier
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

pytest.importorskip("triton")

H100_SHARED_BYTES = 232_448  # of a block, by NVIDIA's programming guide
RECIPE = TrainRecipe(classifier_products="float32", scale=9.0, weight_decay=0.01, margin=0.3)


def _pair(recipe: TrainRecipe, classes: int, dim: int):
    """The same classifier in kernels and in plain torch."""
    return [
        make_classifier(recipe, Shard(classes, dim, World()), kernels=kernels) for kernels in (True, False)
    ]


def _step(classifier, embeddings_BD, labels_B, weights_B, step):
    embeddings_BD = embeddings_BD.clone().requires_grad_()
    loss_B = classifier(embeddings_BD, labels_B, step)
    (loss_B * weights_B).sum().backward()
    classifier.update(0.2 / (1 + step))
    return loss_B.detach(), embeddings_BD.grad


@pytest.mark.parametrize(
    ("optimizer", "rate", "classes", "dim", "batch", "changes"),
    [
        ("sgd", 0.2, 211, 20, 9, {}),
        ("sgd", 0.02, 97, 16, 21, {"margin_kind": "arcface"}),  # padded: more examples than negatives
        ("adamw", 0.3, 150, 33, 5, {"conflict_cosine": 0.4}),
        ("adagrad", 0.3, 130, 7, 140, {}),
        ("adagrad", 1.0, 70, 24, 3, {}),
        ("sgd", 1.0, 75, 20, 6, {}),
        ("adamw", 1.0, 40, 20, 6, {"conflict_cosine": 0.4, "margin_kind": "arcface"}),
    ],
)
def test_losses_gradients_and_rows_agree_with_plain_torch(optimizer, rate, classes, dim, batch, changes):
    recipe = dataclasses.replace(RECIPE, negative_rate=rate, classifier_optimizer=optimizer, **changes)
    pair = _pair(recipe, classes, dim)
    generator = torch.Generator().manual_seed(classes)
    for step in range(4):
        embeddings_BD = F.normalize(torch.randn(batch, dim, generator=generator), dim=-1)
        labels_B = torch.randint(classes, (batch,), generator=generator)
        weights_B = torch.rand(batch, generator=generator)
        found, expected = (_step(each, embeddings_BD, labels_B, weights_B, step) for each in pair)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    rows, expected_rows = (each.settled_rows() for each in pair)
    torch.testing.assert_close(rows, expected_rows, rtol=1e-4, atol=1e-5)
    assert not torch.equal(rows, Shard(classes, dim, World()).first_rows())


@pytest.mark.parametrize(
    ("products", "bound"), [("float32", 1e-5), ("float16", 1e-3)]
)  # Triton does not interpret products in bfloat16
def test_products_are_exact_enough(products, bound):
    recipe = dataclasses.replace(
        RECIPE, negative_rate=0.4, scale=32.0, classifier_products=products, classifier_optimizer="sgd"
    )
    fused, plain = _pair(recipe, classes=500, dim=64)
    generator = torch.Generator().manual_seed(0)
    embeddings_BD = F.normalize(torch.randn(40, 64, generator=generator), dim=-1)
    labels_B = torch.randint(500, (40,), generator=generator)
    for upstream in (torch.full((40,), 1e-6), torch.rand(40, generator=generator)):
        found, expected = (_step(each, embeddings_BD, labels_B, upstream, 0) for each in (fused, plain))
        for own, other in zip(found, expected, strict=True):
            assert (own - other).norm() < bound * other.norm()
    rows, expected_rows = (each.rows.rows_RD for each in (fused, plain))
    assert (rows - expected_rows).norm() < bound * expected_rows.norm()


def test_rows_in_bfloat16_are_rounded_up_or_down_at_random():
    from immr.train.classifier.kernels import rows as row_kernels

    count, dim = 64, 32
    rows_RD = torch.ones(count, dim, dtype=torch.bfloat16)
    zeros_RD = torch.zeros_like(rows_RD)
    factors_H4 = torch.tensor([[1.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    touched_R = torch.zeros(count, dtype=torch.int16)
    numbers = torch.zeros(row_kernels.NUMBERS, dtype=torch.float64)
    stored = row_kernels.Stored(rows_RD, zeros_RD, zeros_RD, touched_R, factors_H4, numbers, row_kernels.SGD)
    quarter = 2.0**-9  # of the way from 1 to the next bfloat16
    row_kernels.StepNumbers(rate=1.0, since=1, seed=3).copy_to(numbers)
    row_kernels.update(stored, torch.arange(count), torch.full((count, dim), -quarter))
    assert sorted(rows_RD.unique().tolist()) == [1.0, 1.0078125]
    assert (rows_RD > 1).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (touched_R == 1).all()


def test_kernels_are_used_only_where_one_runs(monkeypatch, caplog):
    from immr.train.classifier import kernels
    from immr.train.classifier.kernels import rows as row_kernels

    row_kernels.try_out(torch.device("cpu"))
    kernels._runs.cache_clear()
    assert not kernels.usable(torch.device("cpu"), 64)
    assert not kernels.usable(torch.device("cuda"), kernels.LARGEST_DIM + 1)
    for error in (RuntimeError("Failed to find C compiler"), None):
        monkeypatch.setattr(row_kernels, "try_out", Mock(side_effect=error))
        kernels._runs.cache_clear()
        assert kernels.usable(torch.device("cuda"), 64) is (error is None)
    kernels._runs.cache_clear()
    assert "Failed to find C compiler" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("dim", [128, 256, 512])
def test_every_kernel_compiles_for_an_h100_and_fits_its_shared_memory(dim, tmp_path):
    needed = _compiled(str(dim), tmp_path)
    assert len(needed) == 25
    assert not {kernel: count for kernel, count in needed.items() if count > H100_SHARED_BYTES}


@pytest.mark.slow
def test_every_launch_of_the_benchmark_compiles_for_an_h100(tmp_path):
    needed = _compiled("steps", tmp_path)
    assert {kernel.split()[1] for kernel in needed} == {
        "_read",
        "_forward",
        "_backward_embeddings",
        "_backward_rows",
        "_update",
        "_record_missed",
    }
    assert not {kernel: count for kernel, count in needed.items() if count > H100_SHARED_BYTES}


def _compiled(what: str, folder: Path) -> dict[str, int]:
    """Bytes of shared memory by kernel."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.classifier.kernel_compiler", what],
        env=environment | {"TRITON_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found
