"""An A/B test of two versions that get half of the users each."""

from __future__ import annotations

from datetime import UTC, datetime

from immr.experiment.definition import Experiment, Variant

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
EXPERIMENT = Experiment(
    "test",
    "salt",
    (Variant("champion", "http://a", "immr-1", 0.5), Variant("challenger", "http://b", "immr-2", 0.5)),
    started=NOON,
)
