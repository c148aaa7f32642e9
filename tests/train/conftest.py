import dataclasses

import pytest
import torch

from immr.train.job import TrainJob
from tests.support.tiny_training_set import MODEL, TRAIN


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def job(training_set, cache_dir, tmp_path) -> TrainJob:
    return TrainJob(
        training_set=training_set.folder,
        out=tmp_path / "version",
        checkpoints=tmp_path / "checkpoints",
        cache_dir=cache_dir,
        recipe_name="tiny",
        model=MODEL,
        train=dataclasses.replace(TRAIN, epochs=12),
        key="key-1",
        manifest_hash="tiny",
    )
