"""Which steps of the refresh pipeline run, and with which version, on kfp.local with stand-ins for the steps."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.this_machine import on_this_machine

pytestmark = pytest.mark.filterwarnings("ignore:Task '.*have no effect in the current local runner")
ALWAYS = ["govern", "train", "evaluate", "materialize"]


class Steps:
    """Answers in place of each step's process, as KFP's executor does."""

    def __init__(self, passes: bool) -> None:
        self.passes = passes
        self.ran: dict[str, str] = {}
        """The model version that each step got, by step in the order of their starts."""

    def __call__(self, full_command: Sequence[str], env_vars: Any = None) -> int:
        given, step = (
            full_command[full_command.index(name) + 1]
            for name in ("--executor_input", "--function_to_execute")
        )
        requested = json.loads(given)
        models = requested["inputs"].get("artifacts", {}).get("model", {}).get("artifacts", [])
        self.ran[step] = models[0]["metadata"]["version"] if models else ""
        outputs = requested["outputs"]
        answer = {
            "parameterValues": {name: self._value(name) for name in outputs.get("parameters", {})},
            "artifacts": outputs.get("artifacts", {}),
        }
        for name, version in (("model", "immr-1"), ("ranked_model", "immr-2")):
            for artifact in answer["artifacts"].get(name, {}).get("artifacts", []):
                artifact["metadata"] = {"version": version}
        Path(outputs["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
        Path(outputs["outputFile"]).write_text(json.dumps(answer))
        return 0

    def _value(self, name: str) -> Any:
        return {"passed": self.passes, "items": 5}.get(name, name)


def refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: bool, **parameters: Any) -> Steps:
    from kfp.local import subprocess_task_handler

    steps = Steps(passes)
    # as on a cluster, because other tests of this process compile the same pipeline
    monkeypatch.setenv("IMMR_PIPELINE_RETRIES", "2")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", steps)
    with on_this_machine(tmp_path, "refresh"):
        from pipelines.refresh import refresh

        refresh(**parameters)
    return steps


def test_a_version_is_released_without_a_ranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = refresh(tmp_path, monkeypatch, passes=True, rank=False).ran
    assert set(ran) == {*ALWAYS, "package", "index", "deploy", "start_test", "finish"}
    assert {ran[step] for step in ("package", "index", "deploy")} == {"immr-1"}


def test_a_version_is_released_with_its_ranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = refresh(tmp_path, monkeypatch, passes=True, rank=True).ran
    assert set(ran) == {*ALWAYS, "rank", "package", "index", "deploy", "start_test", "finish"}
    assert ran["rank"] == "immr-1"
    assert {ran[step] for step in ("package", "index", "deploy")} == {"immr-2"}


def test_a_version_that_is_not_to_be_deployed_is_packaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = refresh(tmp_path, monkeypatch, passes=True, deploy=False).ran
    assert set(ran) == {*ALWAYS, "package", "index", "finish"}


def test_the_gate_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(refresh(tmp_path, monkeypatch, passes=False, rank=True).ran) == {*ALWAYS, "finish"}
