"""Records of a pipeline run, and the outcome derived from them and from Kubeflow's final state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from immr.errors import DataError, RegistryError
from immr.loop.pipeline_run import TRIES, PipelineRun, with_retries
from immr.settings import Settings


@pytest.fixture
def run(tmp_path: Path) -> PipelineRun:
    return PipelineRun(tmp_path / "runs" / "a", first_pause_s=0.0)


def failing(error: Exception) -> Iterator[None]:
    raise error
    yield


def do(run: PipelineRun, *steps: str) -> None:
    for step in steps:
        run.step(step, lambda step=step: step, finding=lambda made: f"{made} is done")  # type: ignore[misc]


def fail(run: PipelineRun, step: str, error: Exception) -> None:
    with pytest.raises(type(error)):
        run.step(step, lambda: next(failing(error)))


def kill(run: PipelineRun, step: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.step(step, lambda: next(failing(KeyboardInterrupt())))  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["COMPLETE", "SUCCEEDED"])
def test_a_run_whose_conditions_all_hold_succeeded(run: PipelineRun, state: str) -> None:
    do(run, "govern", "train", "evaluate", "materialize", "package", "index", "deploy", "start")
    assert run.outcome(state) == "succeeded"


@pytest.mark.parametrize("order", [("evaluate", "materialize"), ("materialize", "evaluate")])
def test_a_run_that_the_gate_stops_succeeded(
    run: PipelineRun, tmp_path: Path, order: tuple[str, str]
) -> None:
    """Kubeflow Pipelines 2.17 passes RUNNING, as it does for a run that a user terminates."""
    do(run, "govern", "train")
    for step in order:
        assert run.outcome("RUNNING") == "stopped"
        run.step(step, lambda: "", refused=lambda made, step=step: step == "evaluate")  # type: ignore[misc]
    assert run.outcome("RUNNING") == "succeeded"
    page = run.page(Settings(home=tmp_path), "", "succeeded", [])
    assert "The gate refused the new version" in page and "start the run again" not in page


def test_a_run_terminated_between_the_gate_and_the_next_step_is_stopped(run: PipelineRun) -> None:
    do(run, "govern", "train", "evaluate", "materialize")
    assert run.outcome("RUNNING") == "stopped"


def test_a_run_that_does_not_deploy_ends_with_package_and_index(run: PipelineRun) -> None:
    do(run, "govern", "train", "evaluate", "materialize", "package")
    assert run.outcome("RUNNING", deploys=False) == "stopped"
    do(run, "index")
    assert run.outcome("RUNNING", deploys=False) == "succeeded"
    assert run.outcome("RUNNING", deploys=True) == "stopped"


def test_a_run_terminated_in_a_step_is_stopped(run: PipelineRun, tmp_path: Path) -> None:
    do(run, "govern")
    kill(run, "train")
    assert run.outcome("RUNNING") == "stopped"
    page = run.page(Settings(home=tmp_path), "Recipe `concept`.", "stopped", ["immr-abc"])
    assert "Step `train` did not finish: it was stopped or killed." in page
    assert "training job immr-abc was still running and was deleted" in page


def test_a_run_terminated_between_two_steps_is_stopped(run: PipelineRun) -> None:
    do(run, "govern")
    assert run.outcome("RUNNING") == "stopped"
    assert run.outcome("CANCELED") == "stopped"


@pytest.mark.parametrize("state", ["FAILED", "RUNNING", "COMPLETE"])
def test_a_failed_step_is_named_with_its_error(run: PipelineRun, tmp_path: Path, state: str) -> None:
    do(run, "govern")
    fail(run, "train", RegistryError("MLflow is down"))
    assert run.outcome(state) == "failed"
    page = run.page(Settings(home=tmp_path), "Recipe `concept`.", "failed", [])
    assert page.startswith("# Refresh failed")
    assert "Step `train` failed:\n\n    RegistryError: MLflow is down" in page
    assert "- govern: govern is done" in page
    alert = run.failure("Recipe `concept`.")
    assert alert.title == f"Pipeline run {run.folder.name} failed"
    assert alert.text == "Recipe `concept`.\nStep train: RegistryError: MLflow is down"


def test_a_failed_run_says_what_to_do(run: PipelineRun, tmp_path: Path) -> None:
    do(run, "govern")
    fail(run, "train", ZeroDivisionError("division by zero"))
    kill(run, "materialize")
    page = run.page(Settings(home=tmp_path), "", "failed", [])
    assert "the log of the step's pod has the traceback" in page
    assert "IMMR_STEP_SIZES=materialize=CPU/MEMORY/LIMIT" in page
    peaks = {record.step: record.peak_mib for record in run.records()}
    assert f"| train | failed | 0 s | {peaks['train']:,} MiB |" in page
    assert "| materialize | did not finish | | |" in page


def test_an_error_of_immr_already_says_what_to_do(run: PipelineRun, tmp_path: Path) -> None:
    fail(run, "govern", DataError("there is no column item_id: add it"))
    assert "traceback" not in run.page(Settings(home=tmp_path), "", "failed", [])


def test_a_pod_that_never_ran_immr_is_pointed_out(run: PipelineRun, tmp_path: Path) -> None:
    do(run, "govern")
    assert run.outcome("FAILED") == "failed"
    assert "A step's pod ended before IMMR started in it" in run.page(
        Settings(home=tmp_path), "", "failed", []
    )


def test_a_page_shows_only_the_findings_of_its_own_run(run: PipelineRun, tmp_path: Path) -> None:
    do(PipelineRun(tmp_path / "runs" / "b"), "index")
    do(run, "govern")
    assert [record.step for record in run.records()] == ["govern"]
    assert "index" not in run.page(Settings(home=tmp_path), "", "succeeded", [])


def test_a_step_that_succeeds_on_its_second_try_is_done(run: PipelineRun) -> None:
    tries = iter([RegistryError("busy"), None])

    def body() -> str:
        if error := next(tries):
            raise error
        return "fine"

    made = PipelineRun(run.folder, tries=3, first_pause_s=0.0).step("train", body)
    (record,) = run.records()
    assert (made, record.state) == ("fine", "done")
    assert record.peak_mib > 10


def test_a_permanent_error_is_not_retried() -> None:
    calls = []

    def body() -> None:
        calls.append(1)
        raise DataError("a column is missing")

    with pytest.raises(DataError):
        with_retries("govern", body, tries=3, first_pause_s=0.0)
    assert len(calls) == 1


def test_the_last_error_of_all_tries_is_raised() -> None:
    errors = [OSError(str(number)) for number in range(3)]
    calls = iter(errors)
    with pytest.raises(OSError, match="2"):
        with_retries("train", lambda: next(failing(next(calls))), tries=3, first_pause_s=0.0)


def test_a_run_is_found_by_its_id_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, TRIES, "3")
    run = PipelineRun.of(Settings(home=tmp_path), "../../etc/passwd")
    assert run.folder.parent == tmp_path / "runs"
    assert run.tries == 3


def test_records_of_old_runs_are_deleted(tmp_path: Path) -> None:
    for number in range(4):
        run = PipelineRun(tmp_path / "runs" / str(number))
        do(run, "govern")
        os.utime(run.folder, (number, number))
    run.prune(keep=2)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"2", "3"}
