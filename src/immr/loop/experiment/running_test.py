"""The running test: which versions it and others use, and the lock that its verbs share."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from immr.errors import ExperimentBusyError
from immr.experiment.definition import Experiment
from immr.experiment.file import load
from immr.experiment.queue import load_queue
from immr.experiment.revision import check_revision
from immr.loop.experiment.save_change import complete_change

if TYPE_CHECKING:
    from immr.wiring import Parts

LOCK_TIMEOUT_S = 2.0


def running_test(parts: Parts) -> Experiment | None:
    """The current experiment if it is comparing versions, else None.

    Raises:
        ExperimentError: The experiment file is wrong.
    """
    file = parts.settings.experiment_file
    if not file.is_file():
        return None
    experiment = load(file)
    compares = experiment.state == "running" and bool(experiment.remaining)
    return experiment if compares else None


def live_versions(parts: Parts) -> set[str]:
    """Versions in use: with a role, deployed, waiting, or in the experiment (its rollback target included)."""
    live = {version.id for version in parts.registry.roles().values()}
    live |= {deployment.version_id for deployment in parts.deployer.current()}
    if parts.settings.experiment_file.is_file():
        experiment = load(parts.settings.experiment_file)
        live |= {variant.model_version for variant in experiment.variants}
        if experiment.previous is not None:
            live.add(experiment.previous.model_version)
    return live | {each.model_version for each in load_queue(parts.settings.queue_file).versions}


@contextmanager
def exclusive(parts: Parts, timeout_s: float = LOCK_TIMEOUT_S, revision: str = "") -> Iterator[None]:
    """Hold the experiment's lock during the block; the kernel releases it when the process ends.

    If a process was killed after it changed the experiment, the history first gets the lines that it did not write.

    Args:
        parts: The process's adapters.
        timeout_s: How long to wait for it.
        revision: The experiment that the caller means (`immr.experiment.revision`); empty for any.

    Raises:
        ExperimentBusyError: Another process has held it for `timeout_s`.
        ExperimentError: The experiment has another revision.
    """
    path = parts.settings.experiment_file.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise ExperimentBusyError(
                        f"another process is changing the test ({path} is locked): try again in a moment"
                    ) from error
                time.sleep(0.05)
        complete_change(parts)
        if revision:
            check_revision(load(parts.settings.experiment_file), revision)
        yield
