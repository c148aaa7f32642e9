"""Half a minute of the chaos that `benchmarks.experiment.chaos` runs for half an hour."""

from __future__ import annotations

import pytest

from benchmarks.experiment.chaos import chaos


@pytest.mark.slow
def test_shoppers_notice_nothing_of_changes_and_kills() -> None:
    wrong, done = chaos(minutes=0.5, seed=3)
    assert not wrong
    assert done["search"]
