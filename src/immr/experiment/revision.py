"""Identifies what is in an experiment file, so that a command meant for one revision is never run on another."""

from __future__ import annotations

import json
from dataclasses import asdict

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment
from immr.experiment.file import as_read_back
from immr.storage import fingerprint


def revision_of(experiment: Experiment) -> str:
    """Changes with everything in the file: test, versions, shares, state, previous champion."""
    content = json.dumps(asdict(as_read_back(experiment)), sort_keys=True, default=str)
    return fingerprint.of_bytes(content.encode())[:16]


def check_revision(experiment: Experiment, revision: str) -> None:
    """Refuse another revision than this one; an empty one fits any.

    Raises:
        ExperimentError: The experiment has changed.
    """
    if revision and revision != revision_of(experiment):
        raise ExperimentError(
            f"the test has changed in the meantime, so nothing was done: {experiment.name} is "
            f"{experiment.state} now. Look at `immr status`, and repeat the command if you still want it"
        )
