import dataclasses
from pathlib import Path

import pytest
import torch

from immr.data.training_set import TrainingSet
from immr.train.job import TrainJob
from tests import tiny_training_set
from tests.tiny_training_set import MODEL, TRAIN


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "feature-cache"  # one for all tests of model, train and launch


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return tiny_training_set.write(tmp_path_factory.mktemp("training-set"))


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
