"""What the rest of IMMR asks of a place where training runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class TrainingJob:
    """`python -m immr.train <job_file>` in so many processes; `name` is derived from the run's key."""

    name: str
    job_file: Path
    processes: int
    out: Path | None = (
        None  # what is there once it is done: a job that claims to be, without it, is not believed
    )


class Launcher(Protocol):
    """Runs a job to its end."""

    def run(self, job: TrainingJob) -> None:
        """Block until the job is done, its output streamed to ours.

        Raises:
            TrainingError: a process failed; the message carries its last lines.
        """

    def stop(self, run: str) -> list[str]:
        """End what a pipeline run has left training; returns the jobs' names."""
