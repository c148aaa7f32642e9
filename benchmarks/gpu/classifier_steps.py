"""The classifier's step: sampled softmax, gradients of embeddings and rows, optimizer.

- `immr`: SGD with momentum, AdamW or row-wise Adagrad, rows in float32 or bfloat16; `exact` is the softmax over all
  classes with torch's SGD.
- `partial_fc_v2`, `partial_fc_sparse`, `plain`: see `peers`.

`median_ms` is of single steps, each of which the host waits for; `in_a_row_ms` is the mean of steps launched one
after the other, as training does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.peers import partial_fc_sparse, partial_fc_v2, plain
from benchmarks.gpu.rows import Report, peak, waiting
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.sharded_classifier import Classifier, SampledClassifier, make_classifier
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

MILLION = 1_000_000
_WARM_UP, _STEPS, _TINY_STEPS = 8, 50, 3
Step = Callable[[Tensor, Tensor, int], object]


@dataclass(frozen=True)
class Case:
    what: str  # of STEPS
    classes: int
    dim: int
    batch: int
    sampled: int
    optimizer: str = "sgd"
    rows: str = "float32"
    aim_ms: float | None = None

    @property
    def name(self) -> str:
        return f"{self.what} {self.optimizer} {self.rows} {self.classes:,} × {self.dim}"

    @property
    def limit_ms(self) -> float:
        """Rows and slots read and written once, and the products of the forward and the backward pass."""
        slots = {"sgd": 1, "adamw": 2, "adagrad": 0}[self.optimizer]
        element = 2 if self.rows == "bfloat16" else 4
        moved = 2 * (1 + slots) * self.sampled * self.dim * element
        products = 6 * self.batch * self.sampled * self.dim
        return 1e3 * max(moved / peak().bytes_per_s, products / peak().flops)


def run(report: Report, device: str, tiny: bool) -> None:
    """All rows but the largest."""
    for case in cases(tiny):
        report.add(case.name, lambda case=case: measured(case, device, _TINY_STEPS if tiny else _STEPS))


def run_largest(report: Report, device: str, tiny: bool) -> None:
    """100 million classes: 51 GB of rows and momentum."""
    case = Case("immr", 5000 if tiny else 100 * MILLION, 128, 16 if tiny else 2048, 100 if tiny else 20_000)
    case = replace(case, rows="bfloat16", aim_ms=2.0)
    report.add(case.name, lambda: measured(case, device, _TINY_STEPS if tiny else _STEPS))


def cases(tiny: bool) -> list[Case]:
    """The rows of the table in docs/measurements/classifier.md, the most important ones first."""
    million, batch, sampled = (2000, 16, 100) if tiny else (MILLION, 2048, 20_000)
    first = Case("immr", million, 128, batch, sampled, aim_ms=1.0)
    fourth = replace(first, classes=4 * million)
    exact = replace(first, what="exact", batch=batch // 2, sampled=million, aim_ms=10.0)
    wide = replace(first, dim=512, aim_ms=None)
    return [
        first,
        fourth,
        *(replace(case, rows="bfloat16", aim_ms=1.2) for case in (first, fourth)),
        *(replace(case, optimizer="adamw", aim_ms=1.2) for case in (first, fourth)),
        exact,
        *(replace(case, what="partial_fc_v2", aim_ms=None) for case in (first, fourth)),
        *(replace(case, optimizer="adagrad") for case in (first, fourth)),
        *(replace(case, what="plain", aim_ms=None) for case in (first, fourth)),
        wide,
        *(replace(case, what="partial_fc_sparse", aim_ms=None) for case in (first, fourth)),
        replace(wide, what="partial_fc_v2"),
    ]


def measured(case: Case, device: str, steps: int) -> dict[str, Any]:
    """Seconds to fill the rows, and milliseconds a step, on random embeddings that are on the device."""
    wait = waiting(device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    classifier, step = STEPS[case.what](case, device)
    wait()
    fill_s = time.perf_counter() - started
    batches = [_batch(case, device) for _ in range(4)]
    times = []
    for number in range(_WARM_UP + steps):
        wait()
        started = time.perf_counter()
        step(*batches[number % 4], number)
        wait()
        times.append(1e3 * (time.perf_counter() - started))
    started = time.perf_counter()
    for number in range(_WARM_UP + steps, _WARM_UP + 2 * steps):
        step(*batches[number % 4], number)
    wait()
    median_ms = statistics.median(times[_WARM_UP:])
    return {
        "median_ms": median_ms,
        "fastest_ms": min(times[_WARM_UP:]),
        "in_a_row_ms": 1e3 * (time.perf_counter() - started) / steps,
        "limit_ms": case.limit_ms,
        "share": case.limit_ms / median_ms,
        "aim_ms": case.aim_ms,
        "fill_s": fill_s,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else None,
        "is_recorded": classifier.is_recorded if isinstance(classifier, SampledClassifier) else None,
        "case": asdict(case),
    }


def _batch(case: Case, device: str) -> tuple[Tensor, Tensor]:
    embeddings_BD = F.normalize(torch.randn(case.batch, case.dim, device=device), dim=-1).requires_grad_()
    return embeddings_BD, torch.randint(case.classes, (case.batch,), device=device)


def _immr(case: Case, device: str) -> tuple[Classifier, Step]:
    classifier = make_classifier(recipe_of(case), Shard(case.classes, case.dim, World(device=device)))

    def step(embeddings_BD: Tensor, labels_B: Tensor, number: int) -> None:
        embeddings_BD.grad = None
        classifier(embeddings_BD, labels_B, number).mean().backward()  # type: ignore[no-untyped-call]
        classifier.update(0.01)

    return classifier, step


def recipe_of(case: Case) -> TrainRecipe:
    """The recipe of our classifier."""
    rows: Any = case.rows
    optimizer: Any = case.optimizer
    rate = min(1.0, case.sampled / case.classes)
    return TrainRecipe(
        negative_rate=rate, classifier_optimizer=optimizer, classifier_rows=rows, scale=32.0, weight_decay=0.0
    )


def _peer(make: Callable[[int, int, int, str], Step]) -> Callable[[Case, str], tuple[None, Step]]:
    return lambda case, device: (None, make(case.classes, case.dim, case.sampled, device))


STEPS: dict[str, Callable[[Case, str], tuple[Classifier | None, Step]]] = {
    "immr": _immr,
    "exact": _immr,
    "partial_fc_v2": _peer(partial_fc_v2),
    "partial_fc_sparse": _peer(partial_fc_sparse),
    "plain": _peer(plain),
}
