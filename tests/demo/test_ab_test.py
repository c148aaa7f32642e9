"""The demo's test is one like any other: `immr experiment history` and the page list it."""

from __future__ import annotations

from pathlib import Path

from demo import ab_test
from immr.experiment.definition import Variant
from immr.experiment.file import load
from immr.loop.experiment.history import history
from immr.wiring import connect
from tests.support.two_versions import champion_and_challenger

SIDES = (
    Variant("champion", "http://127.0.0.1:1", "immr-1", 0.5),
    Variant("challenger", "http://127.0.0.1:2", "immr-2", 0.5),
)


def test_each_demo_is_in_the_history_of_tests(tmp_path: Path) -> None:
    parts = connect(champion_and_challenger(tmp_path))
    ab_test.forget(parts)
    assert not history(parts)
    ab_test.begin(parts, SIDES)
    [running] = history(parts)
    assert (running.name, running.outcome) == (load(parts.settings.experiment_file).name, "running")
    ab_test.forget(parts)
    [ended] = history(parts)
    assert (ended.outcome, ended.reason) == ("stopped", "The demo was started again.")
    assert not parts.settings.experiment_file.exists()
