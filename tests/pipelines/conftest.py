import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import shared_by_workers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the YAML of every pipeline."""

    def compile_all(folder: Path) -> None:
        # in a process of its own: tests of this one compile pipelines with other variables
        command = [sys.executable, "-m", "pipelines", "compile", "--out", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    return shared_by_workers.made_once(
        shared_by_workers.run_folder(tmp_path_factory) / "compiled", compile_all
    )
