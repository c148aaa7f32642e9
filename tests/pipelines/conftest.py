from pathlib import Path

import pytest

from tests.support import shared_by_workers


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the YAML of every pipeline."""
    from pipelines.__main__ import compile_all

    return shared_by_workers.made_once(
        shared_by_workers.run_folder(tmp_path_factory) / "compiled", compile_all
    )
