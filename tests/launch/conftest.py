from pathlib import Path

import pytest

from immr.launch.launcher import TrainingJob


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """Two processes, with the job's file in the home `tmp_path`."""
    (tmp_path / "job.json").write_text("{}")
    return TrainingJob("immr-0123456789ab", tmp_path / "job.json", processes=2)
