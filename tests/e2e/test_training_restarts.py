"""Real torchrun, real SIGKILL."""

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from immr.errors import TrainingError
from immr.launch.launcher import TrainingJob
from immr.launch.local import LocalLauncher
from immr.train.job import TrainJob
from tests.support import tiny_training_set
from tests.support.patience import until
from tests.support.tiny_training_set import MODEL, TRAIN

EPOCHS = 60  # of three steps
RECIPE = dataclasses.replace(
    TRAIN,
    processes=2,
    epochs=EPOCHS,
    batch_size=4,
    checkpoint_every_steps=7,
    checkpoint_every_s=0.0,
    negative_rate=0.5,
    classifier_optimizer="sgd",
)


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ts")
    tiny_training_set.write(folder, photos_per_class=4)
    return folder


def _job(folder: Path, training_set: Path, cache_dir: Path, **changes: object) -> TrainJob:
    folder.mkdir()
    recipe, model = dataclasses.replace(RECIPE, **changes), dataclasses.replace(MODEL, fusion="image")
    out, checkpoints = folder / "version", folder / "checkpoints"
    job = TrainJob(training_set, out, checkpoints, cache_dir, "tiny", model, recipe, "key", "tiny")
    job.write(folder / "job.json")
    return job


def _run(job: TrainJob) -> None:
    LocalLauncher().run(TrainingJob("tiny", job.checkpoints.parent / "job.json", processes=2))


def _pid_of(rank: int, job: TrainJob) -> int | None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(job.checkpoints.parent).encode() in command and b"RANK=%d" % rank in variables:
            return int(process.name)
    return None


def _kill(rank: int, job: TrainJob, when: Callable[[], bool]) -> None:
    pid = until(lambda: _pid_of(rank, job) if when() else None, timeout_s=240, pause_s=0.002)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _logged_epochs(job: TrainJob) -> int:
    journal = job.checkpoints.parent / "metrics.jsonl"
    return journal.read_text().count('"loss"') if journal.is_file() else 0


def _writes_a_checkpoint(job: TrainJob) -> bool:
    return any(job.checkpoints.glob(".after-*"))


@pytest.mark.slow
def test_killed_ranks_change_nothing(tmp_path, training_set, cache_dir, capfd):
    """Kill one rank between two checkpoints, then the leader while it is writing one."""
    undisturbed = _job(tmp_path / "undisturbed", training_set, cache_dir)
    disturbed = _job(tmp_path / "disturbed", training_set, cache_dir)
    _run(undisturbed)
    assert "restarted" not in capfd.readouterr().err

    def killer() -> None:
        _kill(1, disturbed, lambda: _logged_epochs(disturbed) >= 5)
        again = _logged_epochs(disturbed) + 5
        _kill(0, disturbed, lambda: _logged_epochs(disturbed) >= again and _writes_a_checkpoint(disturbed))

    thread = threading.Thread(target=killer)
    thread.start()
    _run(disturbed)
    thread.join()
    stderr = capfd.readouterr().err
    assert "all were restarted (attempt 1)" in stderr and "all were restarted (attempt 2)" in stderr
    assert stderr.count("resuming from the checkpoint") == 2
    curves, expected = (json.loads((job.out / "curves.json").read_text()) for job in (disturbed, undisturbed))
    assert len(expected["loss"]) == EPOCHS
    assert curves == expected
    towers, same = (torch.load(job.out / "towers.pt") for job in (disturbed, undisturbed))
    assert all(torch.equal(towers[name], same[name]) for name in same)
    assert _logged_epochs(disturbed) == EPOCHS


@pytest.mark.slow
def test_a_permanent_error_is_not_retried(tmp_path, training_set, cache_dir, capfd):
    job = _job(tmp_path / "job", training_set, cache_dir, learning_rate=1e38)
    with pytest.raises(
        TrainingError, match=r"not finite at step \d+ \(learning rate .*\) with the queries q"
    ):
        _run(job)
    assert capfd.readouterr().err.count("all were restarted") == 0
