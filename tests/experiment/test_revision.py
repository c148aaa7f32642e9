"""A revision changes with everything in the experiment file, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.errors import ExperimentError
from immr.experiment import changes
from immr.experiment.file import load, save
from immr.experiment.revision import check_revision, revision_of

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
BEGUN = changes.begin(
    ("immr-1", "http://a:1"), {"challenger": ("immr-2", "http://b:1")}, 0.2, NOW, ramp=(0.5,), ramp_every_s=60
)


def test_every_change_is_another_revision() -> None:
    promoted = changes.promote(BEGUN, NOW)
    all_states = [
        BEGUN,
        changes.ramp(BEGUN, 0.5, NOW),
        changes.stop(BEGUN, NOW),
        promoted,
        changes.roll_back(promoted, NOW),
        changes.hold_out(changes.stop(BEGUN, NOW), 0.1, NOW),
        replace(BEGUN, salt="the same versions in another test"),
    ]
    assert len({revision_of(each) for each in all_states}) == len(all_states)


def test_a_file_that_is_written_again_keeps_its_revision(tmp_path: Path) -> None:
    for saved in (BEGUN, replace(BEGUN, min_days=0)):  # which is read back as 0.0
        save(saved, tmp_path / "experiment.json")
        assert revision_of(load(tmp_path / "experiment.json")) == revision_of(saved)


def test_another_revision_is_refused_with_the_state_of_now() -> None:
    check_revision(BEGUN, revision_of(BEGUN))
    check_revision(BEGUN, "")
    with pytest.raises(ExperimentError, match=rf"nothing was done: {BEGUN.name} is stopped now"):
        check_revision(changes.stop(BEGUN, NOW), revision_of(BEGUN))
