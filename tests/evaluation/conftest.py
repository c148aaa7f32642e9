"""A small catalogue of drawn pictures, and models of a chosen quality on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immr.data.training_set import LabelledPhoto
from immr.evaluation.evaluate import evaluate
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.result import Evaluation
from immr.types import Item

RECIPE = GateRecipe(bootstrap_rounds=200)
CLASSES = 12  # the last item is a twin of the first: 13 items


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(CLASSES + 1):
        Image.new("RGB", (120, 90), (20 * number, 80, 160)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def items(pictures: Path) -> list[Item]:
    return [
        Item(
            item_id=f"i{number:02}",
            title=f"Thing {number} <b>&</b>",
            description="",
            category=("Fruit/Apple", "Packages/Milk", "Vegetables")[number % 3],
            image=str(pictures / f"{number}.png"),
            price=1.0,
            updated_at=datetime(2025, 1, 1, tzinfo=UTC),
        )
        for number in range(CLASSES + 1)
    ]


@pytest.fixture(scope="session")
def item_classes() -> list[int]:
    return [*range(CLASSES), 0]


@pytest.fixture(scope="session")
def queries(pictures: Path) -> list[LabelledPhoto]:
    return [
        LabelledPhoto(
            f"q{number:03}",
            str(pictures / f"{number % CLASSES}.png"),
            number % CLASSES,
            f"i{number % CLASSES:02}",
        )
        for number in range(60)
    ]


@pytest.fixture(scope="session")
def model(
    queries: list[LabelledPhoto], items: list[Item], item_classes: list[int]
) -> Callable[[float], Evaluation]:
    """Evaluates a model with this much noise in its query embeddings."""

    def of(noise: float) -> Evaluation:
        generator = np.random.default_rng(0)
        centres_CD = generator.normal(size=(CLASSES, 8)).astype(np.float32)
        queries_QD = centres_CD[[query.class_id for query in queries]]
        queries_QD = queries_QD + noise * generator.normal(size=queries_QD.shape).astype(np.float32)
        return evaluate(queries_QD, queries, centres_CD[item_classes], items, item_classes, RECIPE)

    return of
