"""Crash recovery: complete what a killed command began, before another command changes anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from immr.errors import ImmrError
from immr.experiment.file import load
from immr.loop.experiment.apply_verdict import complete_verdicts, has_incomplete_verdicts
from immr.loop.experiment.rollback import complete_rollback, rollback_marker
from immr.loop.experiment.running_test import exclusive
from immr.loop.experiment.save_change import change_marker

if TYPE_CHECKING:
    from immr.wiring import Parts

log = logging.getLogger(__name__)


@contextmanager
def completed(parts: Parts, revision: str = "") -> Iterator[None]:
    """`exclusive`, once a decision or a rollback whose process was killed is complete.

    Args:
        parts: The process's adapters.
        revision: The experiment that the caller means; empty for any.

    Raises:
        ExperimentError: Another process is changing the experiment, it has another revision, or it is damaged.
        ImmrError: Registry or deployment could not be changed.
    """
    with exclusive(parts, revision=revision):
        complete(parts)
        yield


def complete_interrupted(parts: Parts) -> None:
    """Complete a decision or a rollback whose process was killed; does nothing if there is none.

    Raises:
        ExperimentError: Another process is changing the experiment.
        ImmrError: Registry or deployment could not be changed.
    """
    if change_marker(parts).is_file() or _is_incomplete(parts):
        with completed(parts):
            pass


def complete(parts: Parts) -> None:
    """`complete_interrupted` for callers that hold the experiment's lock."""
    complete_verdicts(parts)
    if rollback_marker(parts).is_file():
        complete_rollback(parts, load(parts.settings.experiment_file))


def can_complete(parts: Parts) -> bool:
    """`complete`, for commands that must work without the registry: a failure is logged.

    Returns:
        Whether all is complete now.
    """
    try:
        complete(parts)
    except ImmrError as error:
        log.warning("%s; the next command that changes the test tries again", error)
        return False
    return True


def _is_incomplete(parts: Parts) -> bool:
    return has_incomplete_verdicts(parts) or rollback_marker(parts).is_file()
