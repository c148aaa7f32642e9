"""A home with a real registry, real document towers and an embedded index, whose catalogue tests change."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from immr.cli import app
from immr.loop.index import index
from immr.model.documents import encode_documents
from immr.model.encoders.by_name import preprocessing_of
from immr.model.model_card import TOWERS, Card
from immr.model.towers import Towers
from immr.settings import Settings
from immr.types import FloatArray, Item, ModelVersion
from immr.wiring import connect
from tests.support import sparse_copy
from tests.support.tiny_training_set import MODEL

RECIPE = dataclasses.replace(MODEL, fusion="image")
PREPROCESSING = preprocessing_of(RECIPE).hash
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with versions immr-1 and immr-2, and immr-3 without a collection; created once."""
    home = tmp_path_factory.mktemp("home")
    registry = connect(Settings(home=home)).registry
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        folder = home / f"trained-{seed}"
        folder.mkdir()
        torch.save(Towers(RECIPE).eval().state_dict(), folder / TOWERS)
        Card("tiny", RECIPE, preprocessing_of(RECIPE), manifest_hash="m", key=str(seed)).write(folder)
        run_id = registry.runs.start(f"run-{seed}", {}, key=str(seed))
        registry.register(
            folder,
            str(seed),
            run_id,
            dim=RECIPE.embedding_dim,
            preprocessing_hash=PREPROCESSING,
            manifest_hash="m",
            recipe="tiny",
        )
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (80, 80), colour).save(home / f"{colour}.png")
    settings = Settings(home=home, index_url=f"edge://{home}/index")
    for number in (1, 2):
        index(connect(settings), registry.get(f"immr-{number}"), items(home))
    registry.set_role("champion", registry.get("immr-1"))
    return home


@pytest.fixture
def settings(prepared: Path, tmp_path: Path) -> Settings:
    home = sparse_copy.copy(prepared, tmp_path / "home")
    return Settings(
        home=home, tracking_url=f"sqlite:///{prepared}/mlflow/mlflow.db", index_url=f"edge://{home}/index"
    )


def items(home: Path) -> list[Item]:
    return [
        Item(name, f"a {name} thing", "", "Things", str(home / f"{name}.png"), 1.0, NOON)
        for name in ("red", "green")
    ]


def blue(settings: Settings) -> Item:
    return Item("blue", "a blue thing", "", "Things", str(settings.home / "blue.png"), 3.0, NOON)


def write(file: Path, changed: list[Item]) -> Path:
    table = pa.Table.from_pylist([dataclasses.asdict(item) for item in changed])
    pq.write_table(table.drop_columns("attributes"), file)  # a shop has a column for each
    return file


def version(settings: Settings, number: int) -> ModelVersion:
    return connect(settings).registry.get(f"immr-{number}")


def titles(settings: Settings, number: int) -> dict[str, str]:
    with closing(
        connect(settings).index.open(f"immr-{number}", RECIPE.embedding_dim, PREPROCESSING)
    ) as collection:
        found = collection.search(embedding(settings, number, items(settings.home)[0]), 10)
    return {candidate.item_id: candidate.title for candidate in found}


def embedding(settings: Settings, number: int, item: Item) -> FloatArray:
    folder = connect(settings).registry.fetch(version(settings, number), settings.cache_dir)
    return encode_documents(folder, [item], settings.cache_dir)[0]


def run(settings: Settings, *arguments: str, exit_code: int = 0) -> list[dict[str, object]]:
    done = CliRunner(env=settings.environment()).invoke(app, ["items", *arguments, "--json"])
    assert done.exit_code == exit_code, done.output
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found
