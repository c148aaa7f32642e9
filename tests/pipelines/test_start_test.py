"""The step that starts a test, for a first champion, which has nothing to be compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

import components
from immr.loop.pipeline_run import PipelineRun
from immr.settings import Settings
from immr.wiring import connect
from tests.support.two_versions import give_roles, version_of


def test_a_first_champion_is_not_reported_as_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home")
    monkeypatch.setenv("IMMR_HOME", str(settings.home))
    version_of(connect(settings).registry, tmp_path / "trained", "key-1")
    give_roles(settings, {"champion": "immr-1"})
    (outcome,) = components.start_test.python_func("run-a", "champion", 0.5)
    assert outcome == "no test was started: immr-1 became the champion, because there was none"
    [record] = PipelineRun.of(settings, "run-a").records()
    assert (record.step, record.state, record.finding) == ("start-test", "done", outcome)
