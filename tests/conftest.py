"""What tests of model, train and launch share: frozen features are computed once for all of them."""

from pathlib import Path

import pytest

from immr.data.training_set import TrainingSet


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "feature-cache"


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    from tests.support import tiny_training_set

    return tiny_training_set.write(tmp_path_factory.mktemp("training-set"))
