"""Time and memory of a classifier step, next to two common implementations.

    python -m benchmarks.classifier --classes 100000 1000000 4000000 --json classifier.json

- lazy: IMMR's classifier. Rows are sharded and only sampled rows are touched; row-wise Adagrad, SGD with momentum
  or AdamW. bf16: rows and optimizer state in bfloat16 with stochastic rounding
- sharded-dense: rows sharded and sampled too, but with a dense gradient and torch's optimizer over the shard
- dense: all rows on every rank, full softmax, DistributedDataParallel, torch's SGD with momentum

Every case runs in its own gloo processes with one thread each. A step is forward, backward (to the rows and to the
embeddings) and optimizer. Reported are the median on rank 0 and the fastest step, which is less noisy when other
work shares the cores. Memory is a rank's peak resident size including Python and torch ("empty" is these alone).
The lazy rows' pass over all rows, once in 4,096 steps, is measured separately and added with its share. The
formula is that of docs/distributed-training.md. The cost of bfloat16 rows in accuracy is measured on noisy points
around random centres, at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.classifier.peers import Step, dense, sharded_dense

KINDS = (
    "lazy-adagrad",
    "lazy-sgd",
    "lazy-adamw",
    "lazy-sgd-bf16",
    "lazy-adamw-bf16",
    "sharded-dense-sgd",
    "sharded-dense-adamw",
    "dense-sgd",
)
MILLION = 1_000_000
RATES = {"adagrad": 0.03, "sgd": 0.1, "adamw": 0.01}
WARM_UP = 2
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    kind: str
    classes: int
    rate: float
    dim: int
    batch: int
    procs: int
    steps: int

    @property
    def slots(self) -> int:
        """Values that the optimizer keeps for each value of a row; row-wise Adagrad has one for a whole row."""
        return 2 if "adamw" in self.kind else 0 if "adagrad" in self.kind else 1


@dataclass(frozen=True)
class Cost:
    case: Case
    step_s: float
    fastest_s: float
    peak_mib: float


@dataclass(frozen=True)
class Accuracy:
    optimizer: str
    rows: str
    right: float  # share of held-out points whose nearest row is that of their class


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[100_000, MILLION, 4 * MILLION])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=128, help="per process")
    parser.add_argument("--rate", type=float, default=0.02, help="share of the classes in a step's softmax")
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30, help="timed; the slow peers take fewer")
    parser.add_argument(
        "--dense-up-to", type=int, default=MILLION, help="the most classes `dense` is run with"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(Case(**json.loads(arguments.worker)))
        return
    costs: list[Cost] = []
    for case in cases(arguments):
        costs.append(measure(case))
        show(costs[-1], alone_mib=costs[0].peak_mib)
    learned = [accuracy(optimizer, rows) for optimizer in RATES for rows in ("float32", "bfloat16")]
    for each in learned:
        print(f"{each.optimizer:5} rows in {each.rows:9} right {each.right:.4f}")
    found = figures(costs) | accuracy_figures(learned)
    for name, value in found.items():
        print(f"{name:42} {value:.3g}")
    if arguments.json:
        details = {"costs": [asdict(cost) for cost in costs], "accuracy": [asdict(each) for each in learned]}
        arguments.json.write_text(json.dumps(found | details, indent=1))


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Each kind at each size; the sample is that of `rate` at a million, where there are more classes."""
    found = []
    for classes in arguments.classes:
        rate = arguments.rate * min(1.0, MILLION / classes)
        for kind in arguments.kinds:
            if kind == "dense-sgd" and classes > arguments.dense_up_to:
                continue
            steps = arguments.steps if kind.startswith("lazy") else 2 if kind == "dense-sgd" else 8
            found.append(Case(kind, classes, rate, arguments.dim, arguments.batch, arguments.procs, steps))
    return [Case("empty", 0, 1.0, arguments.dim, arguments.batch, arguments.procs, 1), *found]


def measure(case: Case) -> Cost:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "WORLD_SIZE": str(case.procs),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "benchmarks.classifier", "--worker", json.dumps(asdict(case))]
    processes = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(case.procs)
    ]
    answers = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{case} failed, with exit codes {[process.returncode for process in processes]}")
    ranks = [json.loads(answer) for answer in answers]
    return Cost(case, ranks[0]["step_s"], ranks[0]["fastest_s"], max(rank["peak_mib"] for rank in ranks))


def show(cost: Cost, alone_mib: float) -> None:
    case = cost.case
    formula = f" (formula {alone_mib + formula_mib(case):>6,.0f})" if case.classes else ""
    print(
        f"{case.kind:20} {case.classes:>10,} classes  rate {case.rate:<8.3g} "
        f"{cost.step_s * 1000:>9.1f} ms a step, fastest {cost.fastest_s * 1000:>9.1f}  "
        f"{cost.peak_mib:>7,.0f} MiB a rank{formula}",
        flush=True,
    )


def formula_mib(case: Case) -> float:
    """What docs/distributed-training.md says that a rank holds beside Python and torch."""
    rows, examples = case.classes / case.procs, case.batch * case.procs
    sampled = case.rate * rows
    if case.kind == "dense-sgd":  # rows, momentum, gradient, normalized rows; three copies of the logits
        return (4 * case.classes * case.dim + 3 * case.batch * case.classes) * 4 / MIB
    if case.kind.startswith("sharded-dense"):  # rows, slots, gradient
        return ((2 + case.slots) * rows * case.dim + examples * sampled) * 4 / MIB
    stored = 2 if case.kind.endswith("bf16") else 4
    held = (1 + case.slots) * rows * case.dim * stored + rows * 2
    return (held + (3 + case.slots) * sampled * case.dim * 4 + examples * sampled * 4) / MIB


def figures(costs: list[Cost]) -> dict[str, float]:
    """The ratios that these costs give; at a million classes, or the most below."""
    by = {(cost.case.kind, cost.case.classes): cost for cost in costs}
    size = max((classes for _, classes in by if classes <= MILLION), default=0)
    lazy, adamw = by.get(("lazy-sgd", size)), by.get(("lazy-adamw", size))
    half = by.get(("lazy-sgd-bf16", size))
    found = {"classes": float(size)}
    for name, peer, mine in (
        ("vs_dense", by.get(("dense-sgd", size)), lazy),
        ("vs_sharded_dense", by.get(("sharded-dense-sgd", size)), lazy),
        ("adamw_vs_sharded_dense", by.get(("sharded-dense-adamw", size)), adamw),
    ):
        if peer and mine:
            found[f"steps_per_s_{name}"] = peer.step_s / mine.step_s
            found[f"steps_per_s_{name}_fastest"] = peer.fastest_s / mine.fastest_s
            found[f"memory_{name}"] = mine.peak_mib / peer.peak_mib
    if lazy and adamw:
        found["adamw_vs_sgd_step"] = adamw.step_s / lazy.step_s
        found["adamw_vs_sgd_step_fastest"] = adamw.fastest_s / lazy.fastest_s
    if lazy and half:
        found["bf16_vs_fp32_step"] = half.step_s / lazy.step_s
        found["bf16_vs_fp32_memory"] = half.peak_mib / lazy.peak_mib
    small, large = by.get(("lazy-sgd", MILLION)), by.get(("lazy-sgd", 4 * MILLION))
    if small and large:
        found["step_growth_1m_to_4m"] = large.step_s / small.step_s - 1
        found["step_growth_1m_to_4m_fastest"] = large.fastest_s / small.fastest_s - 1
    return found


def accuracy_figures(learned: list[Accuracy]) -> dict[str, float]:
    by = {(each.optimizer, each.rows): each.right for each in learned}
    return {
        f"bf16_minus_fp32_accuracy_{optimizer}": by[optimizer, "bfloat16"] - by[optimizer, "float32"]
        for optimizer in RATES
    }


def accuracy(optimizer: Any, rows: Any) -> Accuracy:
    """Learn 2,000 classes of noisy points in one process, a tenth of the classes in each step."""
    import torch
    from torch.nn.functional import normalize

    from immr.train.classifier.class_shard import Shard
    from immr.train.classifier.sharded_classifier import make_classifier
    from immr.train.train_recipe import TrainRecipe
    from immr.train.world import World

    torch.set_num_threads(1)
    classes, dim, batch, steps = 2000, 32, 128, 1500
    generator = torch.Generator().manual_seed(0)
    centres_CD = normalize(torch.randn(classes, dim, generator=generator), dim=-1)

    def points(labels_B: Any) -> Any:
        noise_BD = torch.randn(len(labels_B), dim, generator=generator)
        return normalize(centres_CD[labels_B] + 0.16 * noise_BD, dim=-1)

    recipe = TrainRecipe(negative_rate=0.1, classifier_optimizer=optimizer, classifier_rows=rows, scale=20.0)
    classifier = make_classifier(recipe, Shard(classes, dim, World()))
    for step in range(steps):
        labels_B = torch.randint(classes, (batch,), generator=generator)
        classifier(points(labels_B).requires_grad_(), labels_B, step).mean().backward()
        classifier.update(RATES[optimizer] * (1 - step / steps))
    rows_CD = normalize(classifier.settled_rows().float(), dim=-1)
    tested_B = torch.arange(classes).repeat(5)
    right_B = (points(tested_B) @ rows_CD.T).argmax(1) == tested_B
    return Accuracy(optimizer, rows, float(right_B.float().mean()))


def work(case: Case) -> None:
    """One rank of a case; prints its figures."""
    import torch

    from immr.machine.allocator import keep_freed_memory
    from immr.train.world import world_from_environment

    torch.set_num_threads(1)
    keep_freed_memory()  # for all kinds
    with world_from_environment() as world:
        step, extra_s = STEPS[case.kind](case, world)
        generator = torch.Generator().manual_seed(world.rank)
        times = []
        for number in range(WARM_UP + case.steps):
            embeddings_BD = torch.randn(case.batch, case.dim, generator=generator)
            embeddings_BD = torch.nn.functional.normalize(embeddings_BD, dim=-1).requires_grad_()
            labels_B = torch.randint(max(1, case.classes), (case.batch,), generator=generator)
            world.barrier()
            started = time.perf_counter()
            step(embeddings_BD, labels_B, number)
            times.append(time.perf_counter() - started)
        world.barrier()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps = times[WARM_UP:]
    times_s = {"step_s": statistics.median(steps) + extra_s, "fastest_s": min(steps) + extra_s}
    print(json.dumps(times_s | {"peak_mib": peak_mib}))


def empty(case: Case, world: Any) -> tuple[Step, float]:
    return lambda embeddings_BD, labels_B, number: None, 0.0


def lazy(case: Case, world: Any) -> tuple[Step, float]:
    from immr.train.classifier import row_optimizers
    from immr.train.classifier.class_shard import Shard
    from immr.train.classifier.sharded_classifier import SampledClassifier, make_classifier
    from immr.train.train_recipe import TrainRecipe

    optimizer: Any = case.kind.split("-")[1]
    rows: Any = "bfloat16" if case.kind.endswith("bf16") else "float32"
    recipe = TrainRecipe(
        negative_rate=case.rate, classifier_optimizer=optimizer, classifier_rows=rows, scale=32.0
    )
    classifier = make_classifier(recipe, Shard(case.classes, case.dim, world))
    assert isinstance(classifier, SampledClassifier)

    def step(embeddings_BD: Any, labels_B: Any, number: int) -> None:
        classifier(embeddings_BD, labels_B, number).mean().backward()
        classifier.update(0.01)

    classifier.rows.settle()  # the first one makes the pages
    started = time.perf_counter()
    classifier.rows.settle()
    return step, (time.perf_counter() - started) / row_optimizers.HORIZON


STEPS: dict[str, Callable[[Case, Any], tuple[Step, float]]] = {
    "empty": empty,
    "lazy-adagrad": lazy,
    "lazy-sgd": lazy,
    "lazy-adamw": lazy,
    "lazy-sgd-bf16": lazy,
    "lazy-adamw-bf16": lazy,
    "sharded-dense-sgd": sharded_dense,
    "sharded-dense-adamw": sharded_dense,
    "dense-sgd": dense,
}


if __name__ == "__main__":
    main()
