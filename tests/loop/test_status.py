"""Status and models: on a real registry and deployer, as functions and as commands."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.experiment import changes
from immr.experiment.definition import Variant
from immr.experiment.file import save
from immr.loop.experiment import queue
from immr.loop.experiment.start import start
from immr.loop.pipeline_run import PipelineRun, StepRecord
from immr.loop.status import models, status
from immr.settings import Settings
from immr.wiring import connect
from tests.support.two_versions import give_roles, move, packaged_parts, ready, version_of
from tests.support.upstream_process import free_port


def test_an_empty_home_has_a_status(tmp_path: Path) -> None:
    found = status(connect(Settings(home=tmp_path)))
    assert (found.roles, found.serving, found.experiment, found.last_run) == ({}, (), None, None)
    assert (found.waiting, found.problems) == ((), ())


def test_status_and_models_of_a_running_test(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    parts = packaged_parts(settings, "immr-3")
    for number in (1, 2, 3):
        version_of(parts.registry, tmp_path / "trained", f"key-{number}")
    parts.registry.tag(parts.registry.get("immr-2"), "gate", "It is not worse.")
    parts.registry.tag(parts.registry.get("immr-2"), "gate.passed", "yes")
    parts.registry.tag(parts.registry.get("immr-2"), "ranker", "It gains 0.04.")
    give_roles(settings, {"champion": "immr-1", "challenger": "immr-2"})
    PipelineRun(tmp_path / "runs" / "nightly").step("govern", lambda: 5, lambda made: f"{made} photos")
    with ready("immr-1") as first, ready("immr-2") as second:
        move(settings, {"immr-1": first, "immr-2": second})
        running = start(parts)
        queue.deploy_or_wait(parts, parts.registry.get("immr-3"))
        move(settings, {"immr-2": f"http://127.0.0.1:{free_port()}"})
        found = status(parts)
    assert found.roles == {"champion": "immr-1", "challenger": "immr-2"}
    assert [(each.version, bool(each.problem)) for each in found.serving] == [
        ("immr-1", False),
        ("immr-2", True),
    ]
    assert found.experiment == running
    assert [each.version.model_version for each in found.waiting] == ["immr-3"]
    assert found.last_run is not None
    assert (found.last_run.run, found.last_run.step, found.last_run.finding) == (
        "nightly",
        "govern",
        "5 photos",
    )

    run = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke
    PipelineRun(tmp_path / "runs" / "killed")._record(StepRecord("train", "running"))
    assert "UTC, is running, or was killed; step train has not ended\n" in run(app, ["status"]).stdout
    done = run(app, ["status", "--json"])
    assert done.exit_code == 3  # neither version answers any more
    printed = json.loads(done.stdout)
    assert [each["ranker"] for each in printed["serving"]] == ["", "It gains 0.04."]
    assert printed["experiment"]["name"] == running.name
    assert printed["waiting"][0]["reason"] == f"test {running.name} to end"
    assert "immr-3 waits" in run(app, ["status"]).stdout
    newest, second_model, _ = json.loads(run(app, ["models", "--json"]).stdout)
    assert (newest["version"], newest["packaged"], newest["gate_passed"]) == ("immr-3", True, None)
    assert (second_model["roles"], second_model["gate_passed"]) == (["challenger"], True)
    assert (newest["ranker"], second_model["ranker"]) == ("", "It gains 0.04.")
    listed = run(app, ["models"]).stdout
    assert "immr-2: It is not worse." in listed and "learned" in listed and "hand-tuned weights" in listed


def test_an_error_with_brackets_is_printed_as_it_is(tmp_path: Path) -> None:
    """Rich once took them for a style, and `immr status` ended with a MarkupError."""

    def fail() -> None:
        raise ValueError("[/data/shop] is not a folder")

    with pytest.raises(ValueError, match="shop"):
        PipelineRun(tmp_path / "runs" / "nightly").step("govern", fail)
    done = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["status"])
    assert "UTC, failed; step govern failed: ValueError: [/data/shop] is not a folder" in done.stdout


def test_a_run_that_deployed_a_version_shows_its_test(tmp_path: Path) -> None:
    """Steps of two branches end in any order: `immr status` gave how many features there were."""
    run = PipelineRun(tmp_path / "runs" / "nightly")
    for step, finding in (
        ("deploy", "immr-2"),
        ("start-test", "immr-2-against-immr-1 started"),
        ("materialize", "81"),
    ):
        run.step(step, lambda finding=finding: finding, finding=str)  # type: ignore[misc]
    run.end("succeeded")
    done = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["status"])
    assert "UTC, succeeded; step start-test done: immr-2-against-immr-1 started\n" in done.stdout


def test_a_run_that_the_gate_ended_succeeded_and_shows_the_gates_reason(tmp_path: Path) -> None:
    """Its last step was shown as done, which did not tell it from a run that deployed a version."""
    run = PipelineRun(tmp_path / "runs" / "nightly")
    run.step("evaluate", lambda: "immr-3 is worse", finding=str, refused=bool)
    run.step("materialize", lambda: None)
    run.end("succeeded")
    done = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["status"])
    assert "UTC, succeeded; step evaluate done: immr-3 is worse\n" in done.stdout


def test_models_of_an_empty_registry(tmp_path: Path) -> None:
    assert models(connect(Settings(home=tmp_path))) == []


def test_status_shows_what_a_rollback_returns_to(tmp_path: Path) -> None:
    """After a promotion, no command said that the previous champion still served."""
    settings = Settings(home=tmp_path)
    alone = changes.begin(("immr-2", "http://127.0.0.1:1"), {}, 0.0, datetime.now(UTC))
    with ready("immr-1") as url:
        save(replace(alone, previous=Variant("champion", url, "immr-1", 0.0)), settings.experiment_file)
        back = status(connect(settings)).rollback
        assert back is not None
        assert (back.version, back.problem) == ("immr-1", "")
    done = CliRunner(env={"IMMR_HOME": str(tmp_path), "COLUMNS": "200"}).invoke(app, ["status"])
    assert "`immr experiment rollback` returns to immr-1, but it does not answer" in done.stdout
