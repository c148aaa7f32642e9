from pathlib import Path

import pytest
import torch

from immr.data.training_set import TrainingSet
from tests import tiny_training_set


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "feature-cache"  # one for all tests of model, train and launch


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return tiny_training_set.write(tmp_path_factory.mktemp("training-set"))
