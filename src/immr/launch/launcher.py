"""The port that the rest of IMMR runs training through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class TrainingJob:
    """`python -m immr.train <job_file>` in several processes; the name contains the key of the version."""

    name: str
    job_file: Path
    processes: int
    out: Path | None = None  # exists once the job is done; a job that succeeds without it counts as failed


class Launcher(Protocol):
    """Runs a training job until it is done."""

    def run(self, job: TrainingJob) -> None:
        """Block until the job is done; its output goes to our stderr.

        Raises:
            TrainingError: A process failed; the message quotes its last lines.
        """

    def stop(self, run: str) -> list[str]:
        """Stop the training that a pipeline run has left running; returns the jobs' names."""
