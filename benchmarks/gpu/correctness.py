"""What the device computes, against plain torch and Pillow on the CPU.

`loss` and `gradient` are the norm of the difference over the norm, the largest of several steps; the last steps are
replayed from CUDA graphs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.gpu.classifier_steps import Case, recipe_of
from benchmarks.gpu.rows import Report
from immr.model.preprocessing import Preprocessing
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.kernels import usable
from immr.train.classifier.sharded_classifier import Classifier, SampledClassifier, make_classifier
from immr.train.inputs.augmentation import AUGMENTATIONS
from immr.train.inputs.augmented_pictures import DeviceAugmentedPictures, Drawing, HostAugmentedPictures
from immr.train.inputs.batches import BatchPlan
from immr.train.inputs.pictures import Pictures
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

_STEPS, _TINY_STEPS = 7, 2
_BOUNDS = {"float16": 1e-3, "float32": 1e-5}


def run(report: Report, device: str, tiny: bool) -> None:
    """All checks."""
    report.add("kernels", lambda: kernels(device))
    case = Case("immr", 3000, 128, 96, 600)
    exact = replace(case, what="exact", classes=500, sampled=500)
    for products in _BOUNDS:
        for checked in (
            case,
            replace(case, optimizer="adamw"),
            replace(case, optimizer="adagrad"),
            exact,
            replace(exact, optimizer="adagrad"),
        ):
            name = f"{checked.what} {checked.optimizer}, products in {products}"
            steps = _TINY_STEPS if tiny else _STEPS
            report.add(name, lambda c=checked, p=products, s=steps: losses(c, p, device, s))
    report.add("augmented pictures", lambda: pictures(device))


def kernels(device: str) -> dict[str, Any]:
    """Whether the classifier runs in Triton's kernels; the log has the reason if it does not."""
    from importlib.metadata import version

    runs = usable(torch.device(device), 128)
    return {"holds": runs or device == "cpu", "runs": runs, "triton": version("triton")}


def losses(case: Case, products: Any, device: str, steps: int) -> dict[str, Any]:
    """The classifier's losses and gradients in several steps from the same rows."""
    recipe = replace(recipe_of(case), classifier_products=products)
    here, there = _pair(recipe, case, device)
    # a step of AdamW or Adagrad does not depend on the size of a gradient, so small differences would add up
    is_reset = case.optimizer != "sgd"
    generator, worst = torch.Generator().manual_seed(0), {"loss": 0.0, "gradient": 0.0}
    for number in range(steps):
        if number == 0 or is_reset:
            there.load_state_dict(here.state_dict())
        embeddings_BD = F.normalize(torch.randn(case.batch, case.dim, generator=generator), dim=-1)
        labels_B = torch.randint(case.classes, (case.batch,), generator=generator)
        expected = _stepped(here, embeddings_BD, labels_B, number)
        found = _stepped(there, embeddings_BD.to(device), labels_B.to(device), number)
        for name, own, other in zip(worst, found, expected, strict=True):
            worst[name] = max(worst[name], float((own - other).norm() / other.norm()))
    if not is_reset:
        rows, expected_rows = (each.settled_rows().cpu() for each in (there, here))
        worst["rows"] = float((rows - expected_rows).norm() / expected_rows.norm())
    has_kernels = usable(torch.device(device), case.dim)
    bound = _BOUNDS[products] if has_kernels else _BOUNDS["float32"]
    recorded = there.is_recorded if isinstance(there, SampledClassifier) else None
    return {**worst, "bound": bound, "holds": max(worst.values()) <= bound, "is_recorded": recorded}


def _pair(recipe: TrainRecipe, case: Case, device: str) -> tuple[Classifier, Classifier]:
    """In plain torch on the CPU, and on the device."""
    here = make_classifier(recipe, Shard(case.classes, case.dim, World()), kernels=False)
    return here, make_classifier(recipe, Shard(case.classes, case.dim, World(device=device)))


def _stepped(
    classifier: Classifier, embeddings_BD: Tensor, labels_B: Tensor, number: int
) -> tuple[Tensor, Tensor]:
    embeddings_BD = embeddings_BD.clone().requires_grad_()
    loss_B = classifier(embeddings_BD, labels_B, number)
    loss_B.mean().backward()  # type: ignore[no-untyped-call]
    classifier.update(0.1)
    assert embeddings_BD.grad is not None
    return loss_B.detach().cpu(), embeddings_BD.grad.cpu()


def pictures(device: str) -> dict[str, Any]:
    """Levels (of 255) by which augmented pictures differ from Pillow's, on average."""
    rng, preprocessing = np.random.default_rng(0), Preprocessing(160)
    photos = [np.asarray(picture) for picture in smooth_pictures(rng, 12, (300, 224))]
    plan = BatchPlan(
        photos=12, documents=12, views=1, batch_size=8, document_batch_size=4, seed=0, world=World()
    )
    worst = 0.0
    for augmentations in AUGMENTATIONS.values():
        drawing = Drawing(Pictures.listed(photos, photos), augmentations, 160, seed=0)
        own = DeviceAugmentedPictures(drawing, preprocessing, torch.device(device))
        steps = plan.epoch(0)
        for step, rows in own.ahead(enumerate(steps)):
            expected = HostAugmentedPictures(drawing, preprocessing)(rows, step)
            difference = (own(rows, step).cpu() - expected).abs().mean()
            worst = max(worst, float(difference) * preprocessing.std)
    return {"difference": worst, "bound": 1.0, "holds": worst <= 1.0}


def smooth_pictures(rng: np.random.Generator, count: int, size: tuple[int, int]) -> list[Image.Image]:
    """Pictures of soft shapes, of (width, height)."""
    return [
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size) for _ in range(count)
    ]
