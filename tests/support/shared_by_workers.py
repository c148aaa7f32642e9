"""What one process of a test run makes for all: each worker of pytest-xdist has a session and fixtures of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from immr.model.encoders import onnx_graph
from immr.model.model_recipe import ModelRecipe


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the run, which all its workers share."""
    session = factory.getbasetemp()
    return session.parent if "PYTEST_XDIST_WORKER" in os.environ else session


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """A file or folder that the first process to need it makes at the given path, while others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            new = path.with_name(f"new-{path.name}")
            make(new)
            new.rename(path)
    return path


def exported_once(folder: Path) -> Callable[[ModelRecipe, Path | None], bytes]:
    """A replacement for `graph._export`, which takes seconds, that exports each pretrained encoder once."""
    export = onnx_graph._export

    def exported(recipe: ModelRecipe, weights: Path | None) -> bytes:
        if weights is not None:
            return export(recipe, weights)
        name = f"{onnx_graph.frozen_hash(recipe)}-{recipe.image_size_px}.onnx"
        return made_once(folder / name, lambda new: new.write_bytes(export(recipe, None))).read_bytes()

    return exported
