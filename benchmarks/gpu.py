"""Training on one GPU: correctness against plain torch on the CPU, then times, peers and the hardware's limit.

    python -m benchmarks.gpu --json gpu.json        # one H100, at most 6 minutes
    python -m benchmarks.gpu --tiny                 # a few seconds on a CPU: shows that everything runs, not how fast

- `immr`: the classifier's step (sampled softmax, gradients of embeddings and rows, optimizer), SGD with momentum,
  AdamW or row-wise Adagrad, rows in float32 or bfloat16; `exact` is the softmax over all classes with torch's SGD.
- `partial_fc`: the step of insightface's Partial FC v2, written after its source: a draw over all rows, autograd
  through the sampled ones, torch's SGD on them, momentum swapped in and out.
- `plain`: what one would write by hand: gather, softmax in bfloat16, momentum, scatter; no missed steps made up,
  no margin, rows drawn with repetition.
- `encode`, `tune`: photos per second of an image encoder in bfloat16, forward or with backward and AdamW; random
  pixels that are on the device already, without augmentation and decoding.

`limit` is the time that the bytes and FLOPs of a step take at an H100's 3.35 TB/s and 989 TFLOP/s (bfloat16).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_peers import partial_fc, plain
from immr.model.encoders.by_name import load_image_encoder
from immr.train.classifier.kernels import usable
from immr.train.classifier.shard import Shard
from immr.train.classifier.sharded import Classifier, SampledClassifier, make_classifier
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

BYTES_PER_S, FLOPS = 3.35e12, 989e12
MILLION = 1_000_000
Step = Callable[[Tensor, Tensor, int], object]


@dataclass(frozen=True)
class Case:
    what: str  # immr, exact, partial_fc or plain
    classes: int
    dim: int
    batch: int
    sampled: int
    optimizer: str = "sgd"
    rows: str = "float32"

    @property
    def limit_ms(self) -> float:
        """Rows and slots read and written once, and the products of the forward and the backward pass."""
        slots = {"sgd": 1, "adamw": 2, "adagrad": 0}[self.optimizer]
        element = 2 if self.rows == "bfloat16" else 4
        moved = 2 * (1 + slots) * self.sampled * self.dim * element
        return 1e3 * max(moved / BYTES_PER_S, 6 * self.batch * self.sampled * self.dim / FLOPS)


@dataclass(frozen=True)
class Cost:
    case: Case
    fill_s: float
    median_ms: float
    fastest_ms: float
    limit_ms: float
    peak_gb: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        parser.error("there is no GPU here: add --tiny to try the benchmark on a CPU")
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if device != "cpu" else "cpu"}
    found["correctness"] = [correctness(name, device) for name in ("float32", "bfloat16")]
    print(json.dumps(found, indent=1), flush=True)
    found["steps"] = []
    for case in cases(chosen.tiny):
        cost = measured(case, device, steps=3 if chosen.tiny else 50)
        found["steps"].append(asdict(cost))
        print(_line(cost), flush=True)
    found["photos_per_s"] = throughput(device, chosen.tiny)
    for name, rate in found["photos_per_s"].items():
        print(f"{name:24} {rate:>9,.0f} photos/s", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


def cases(tiny: bool) -> list[Case]:
    """The rows of the table in docs/scale.md."""
    million, batch, sampled, largest = (
        (2000, 16, 100, 5000) if tiny else (MILLION, 2048, 20_000, 100 * MILLION)
    )
    first = Case("immr", million, 128, batch, sampled)
    several = [replace(first, classes=million), replace(first, classes=4 * million)]
    kinds = [
        changed
        for case in several
        for changed in (
            case,
            replace(case, rows="bfloat16"),
            replace(case, optimizer="adamw"),
            replace(case, optimizer="adagrad"),
            replace(case, what="partial_fc"),
            replace(case, what="plain"),
        )
    ]
    wide, huge = replace(first, dim=512), replace(first, classes=largest, rows="bfloat16")
    exact = replace(first, what="exact", batch=batch // 2, sampled=million)
    return [*kinds, wide, replace(wide, what="partial_fc"), exact, huge]


def measured(case: Case, device: str, steps: int) -> Cost:
    """Seconds to fill the rows, and milliseconds a step, on random embeddings that are on the device."""
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    started = time.perf_counter()
    step = STEPS[case.what](case, device)
    wait()
    fill_s = time.perf_counter() - started
    times = []
    for number in range(steps + 5):
        embeddings_BD = F.normalize(torch.randn(case.batch, case.dim, device=device), dim=-1).requires_grad_()
        labels_B = torch.randint(case.classes, (case.batch,), device=device)
        wait()
        started = time.perf_counter()
        step(embeddings_BD, labels_B, number)
        wait()
        times.append(1e3 * (time.perf_counter() - started))
    peak = torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else 0.0
    return Cost(case, fill_s, statistics.median(times[5:]), min(times[5:]), case.limit_ms, peak)


def _immr(case: Case, device: str) -> Step:
    return _step_of(make_classifier(recipe_of(case), Shard(case.classes, case.dim, World(device=device))))


def _step_of(classifier: Classifier) -> Step:
    def step(embeddings_BD: Tensor, labels_B: Tensor, number: int) -> None:
        classifier(embeddings_BD, labels_B, number).mean().backward()  # type: ignore[no-untyped-call]
        classifier.update(0.01)

    return step


def recipe_of(case: Case) -> TrainRecipe:
    rows: Any = case.rows
    optimizer: Any = case.optimizer
    rate = min(1.0, case.sampled / case.classes)
    return TrainRecipe(
        negative_rate=rate, classifier_optimizer=optimizer, classifier_rows=rows, scale=32.0, weight_decay=0.0
    )


STEPS: dict[str, Callable[[Case, str], Step]] = {
    "immr": _immr,
    "exact": _immr,
    "partial_fc": lambda case, device: partial_fc(case.classes, case.dim, case.sampled, device),
    "plain": lambda case, device: plain(case.classes, case.dim, case.sampled, device),
}


def correctness(products: Any, device: str) -> dict[str, Any]:
    """Largest relative differences to plain torch in float32 on the CPU, after three steps from the same rows."""
    case = Case("immr", 3000, 64, 96, 600)
    recipe = replace(recipe_of(case), classifier_products=products)
    here = make_classifier(recipe, Shard(case.classes, case.dim, World()), kernels=False)
    there = make_classifier(recipe, Shard(case.classes, case.dim, World(device=device)))
    assert isinstance(here, SampledClassifier) and isinstance(there, SampledClassifier)
    there.rows.rows_RD.copy_(here.rows.rows_RD)
    generator, worst = torch.Generator().manual_seed(0), {"loss": 0.0, "gradient": 0.0}
    for number in range(3):
        first_BD = F.normalize(torch.randn(case.batch, case.dim, generator=generator), dim=-1)
        labels_B = torch.randint(case.classes, (case.batch,), generator=generator)
        pair = []
        for classifier, place in ((here, "cpu"), (there, device)):
            embeddings_BD = first_BD.to(place).requires_grad_()
            loss_B = classifier(embeddings_BD, labels_B.to(place), number)
            loss_B.mean().backward()
            classifier.update(0.1)
            assert embeddings_BD.grad is not None
            pair.append((loss_B.detach().cpu(), embeddings_BD.grad.cpu()))
        for name, own, expected in zip(worst, pair[1], pair[0], strict=True):
            difference = float((own - expected).norm() / expected.norm())
            worst[name] = max(worst[name], difference)
    bound = 1e-3 if products == "bfloat16" and usable(torch.device(device), case.dim) else 1e-5
    return {"products": products, **worst, "bound": bound, "holds": max(worst.values()) <= bound}


def throughput(device: str, tiny: bool) -> dict[str, float]:
    """Photos per second of encoders on random pixels."""
    kinds = [("encode", 224, 256), ("tune", 160, 256), ("tune", 224, 256)]
    found = {}
    for what, side, batch in [("tune", 32, 2)] if tiny else kinds:
        encoder: Any = load_image_encoder("efficientnet-lite0", side)
        found[f"{what} lite0 at {side}"] = _photos_per_s(encoder, what, side, batch, device, tiny)
    return found


def _photos_per_s(encoder: Any, what: str, side: int, batch: int, device: str, tiny: bool) -> float:
    encoder = encoder.to(device, memory_format=torch.channels_last).requires_grad_(what == "tune")
    pixels_B3SS = torch.randn(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=device != "cpu")

    def step() -> None:
        training = what == "tune"
        with torch.set_grad_enabled(training), torch.autocast(torch.device(device).type, torch.bfloat16):
            pooled_BF, _ = encoder(pixels_B3SS)
        if training:
            optimizer.zero_grad()
            pooled_BF.float().square().mean().backward()
            optimizer.step()

    times = []
    for _ in range(2 if tiny else 25):
        started = time.perf_counter()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return batch / statistics.median(times[1 if tiny else 5 :])


def _line(cost: Cost) -> str:
    case = cost.case
    name = f"{case.what:10} {case.optimizer:7} {case.rows:8} {case.classes:>11,} × {case.dim:<3}"
    times = f"{cost.median_ms:8.2f} ms a step, fastest {cost.fastest_ms:8.2f}, limit {cost.limit_ms:6.3f}"
    return f"{name} filled in {cost.fill_s:6.2f} s {times}  {cost.peak_gb:5.1f} GB"


if __name__ == "__main__":
    main()
