"""An empty registry for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from immr.registry.registry import Registry
from immr.types import ModelVersion


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a space in its path and an empty registry."""
    folder = tmp_path / "a home"
    open_registry(folder).versions()
    return folder


@pytest.fixture
def registry(home: Path) -> Registry:
    return open_registry(home)


def open_registry(home: Path) -> Registry:
    """The registry of a home, as another process opens it."""
    return Registry(f"sqlite:///{home}/mlflow/mlflow.db", "immr", home / "promotions.jsonl")


def version_files(home: Path, content: str = "{}") -> Path:
    folder = home / "trained"
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(content)
    (folder / "query_encoder.onnx").write_bytes(b"onnx")
    return folder


def register(registry: Registry, home: Path, key: str, recipe: str = "concept") -> ModelVersion:
    run_id = registry.runs.start(recipe, {"dim": 8}, key=key)
    version = registry.register(
        version_files(home), key, run_id, dim=8, preprocessing_hash="p1", manifest_hash="m1", recipe=recipe
    )
    registry.runs.finish(run_id)
    return version
