"""The demo's A/B test: one like any other in the history, with the same users on each side in every run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from immr.experiment.definition import Experiment, Variant
from immr.experiment.history import append
from immr.loop.experiment.running_test import running_test
from immr.loop.experiment.save_change import events_of, save_change
from immr.wiring import Parts

SALT = "demo"


def begin(parts: Parts, variants: Sequence[Variant]) -> None:
    """Start the test of these versions; its shoppers come within a minute, so it has no minimum duration."""
    started = datetime.now(UTC)
    experiment = Experiment(
        f"demo-{started:%Y%m%d-%H%M%S}", SALT, tuple(variants), started=started, min_days=0
    )
    save_change(parts, experiment, events_of(experiment, "started"))
    parts.settings.queue_file.unlink(missing_ok=True)


def forget(parts: Parts) -> None:
    """Remove the test of an earlier run and what waits for its end; the history keeps it."""
    if earlier := running_test(parts):
        for event in events_of(earlier, "stopped", "The demo was started again."):
            append(parts.settings.history_file, event)
    parts.settings.experiment_file.unlink(missing_ok=True)
    parts.settings.queue_file.unlink(missing_ok=True)
