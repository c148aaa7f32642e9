"""Steps on frozen features."""

from __future__ import annotations

from pathlib import Path

import pytest

from immr.data.training_set import TrainingSet
from immr.storage.array_file import ArrayFile
from immr.train.inputs.features import training_arrays
from immr.train.inputs.tower_inputs import FrozenInputs
from immr.train.loop import Trainer
from immr.train.world import World
from tests.support.random_arrays import in_memory
from tests.support.tiny_training_set import MODEL, TRAIN


def test_features_in_files_are_read_two_steps_ahead(
    training_set: TrainingSet, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the memory of the machine, a step waited for the disk at each row."""
    arrays = training_arrays(training_set, MODEL, TRAIN.views, cache_dir, World())
    copied = in_memory(arrays)
    plan = Trainer(copied, MODEL, TRAIN, World()).stage.plan
    started, read = set[tuple[Path, int]](), list[tuple[Path, int]]()
    ahead, array = ArrayFile.read_ahead, ArrayFile.array

    def noted(self: ArrayFile, row: int) -> None:
        started.add((self.path, row))
        ahead(self, row)

    monkeypatch.setattr(ArrayFile, "read_ahead", noted)
    monkeypatch.setattr(
        ArrayFile, "array", lambda self, row, dtype: read.append((self.path, row)) or array(self, row, dtype)
    )
    steps, inputs = list(enumerate(plan.epoch(0))), FrozenInputs(arrays)
    given = []
    for number, (step, rows) in enumerate(inputs.ahead(iter(steps))):
        before = set(started)
        inputs(rows, step)
        assert read and set(read) <= before
        if number == 0:
            before_first = before
        read.clear()
        given.append((step, rows))
    assert given == steps and len(before_first) < len(started)
    monkeypatch.setattr(ArrayFile, "read_ahead", lambda *_: pytest.fail("nothing is in files"))
    assert list(FrozenInputs(copied).ahead(iter(steps))) == steps
