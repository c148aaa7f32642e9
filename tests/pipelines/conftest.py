from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the YAML of every pipeline."""
    from pipelines.__main__ import compile_all

    out = tmp_path_factory.mktemp("compiled")
    compile_all(out)
    return out
