"""The exit step: after each state that Kubeflow Pipelines passes, and in a run on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil  # type: ignore[import-untyped]
import pytest
from kfp import dsl

import components
from immr.loop.pipeline_run import PipelineRun
from immr.machine.ctrl_c import INTERRUPTED
from immr.settings import Settings
from tests.support.patience import until

ROOT = Path(__file__).parents[2]


def finish(tmp_path: Path, state: str) -> str:
    """Run the exit step's body with what Kubeflow Pipelines 2.17 passes: a state and an empty error."""
    status = dsl.PipelineTaskFinalStatus(
        state=state,
        pipeline_job_resource_name="run-a",
        pipeline_task_name="exit-handler-1",
        error_code=None,
        error_message=None,
    )
    summary = SimpleNamespace(path=str(tmp_path / "summary"))
    components.finish.python_func("run-a", "/shop", "concept", True, status, summary)
    return (tmp_path / "summary").read_text()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineRun:
    monkeypatch.setenv("IMMR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMMR_TRACKING_LINK", "http://mlflow.example")
    return PipelineRun.of(Settings(), "run-a")


@pytest.mark.parametrize(("state", "last"), [("COMPLETE", "start"), ("RUNNING", "materialize")])
def test_a_successful_run_is_summarized(run: PipelineRun, tmp_path: Path, state: str, last: str) -> None:
    refused = state == "RUNNING"
    for step in ("govern", "evaluate", last):
        run.step(step, lambda: None, finding=lambda _: "a finding", refused=lambda _: refused)
    text = finish(tmp_path, state)
    assert text.startswith("# Refresh succeeded\n\nRecipe `concept` on `/shop`.")
    assert "- evaluate: a finding" in text
    assert "[MLflow](http://mlflow.example/#/experiments?workflowType=machine_learning)" in text
    assert "again" not in text
    assert run.ended() == "succeeded"


def test_a_failed_run_names_the_step_and_the_error(run: PipelineRun, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="shut"):
        run.step("train", lambda: (_ for _ in ()).throw(OSError("the shop is shut")))
    text = finish(tmp_path, "FAILED")
    assert text.startswith("# Refresh failed")
    assert "OSError: the shop is shut" in text and "start the run again" in text


def test_sigterm_stops_the_step_too(tmp_path: Path) -> None:
    """As Popen in `kfp.local` starts it: in the process group of the run, which only a terminal's Ctrl-C reaches."""
    script = (
        "import signal, subprocess, sys\n"
        "from pathlib import Path\n"
        "from immr.machine.ctrl_c import ends_on_ctrl_c\n"
        "from pipelines.this_machine import on_this_machine\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored below a script's background job
        "step = [sys.executable, '-c', 'import time; time.sleep(300)']\n"
        f"home = Path({str(tmp_path)!r})\n"
        "with ends_on_ctrl_c(), on_this_machine(home, 'decide'), subprocess.Popen(step) as process:\n"
        "    print(process.pid, file=sys.stderr, flush=True)\n"
        "    process.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        step = next(int(line) for line in run.stderr if line.strip().isdecimal())
        run.terminate()
        assert "run the same command again" in run.stderr.read()
    assert run.returncode == INTERRUPTED
    until(lambda: not psutil.pid_exists(step))


def test_a_failed_run_on_this_machine_ends_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", str(tmp_path / "nothing"), "--recipe", "smoke"],
        cwd=ROOT,
        env={**os.environ, **Settings(home=tmp_path / "home").environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "ImmrError: a step of the pipeline failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (log,) = (tmp_path / "home" / "logs").glob("pipeline-*.log")
    lines = done.stdout.splitlines()
    run = lines[0].split()[0]
    assert run == f"refresh[{log.stem.rpartition('-')[2]}]"
    assert lines[0].endswith(f"all output: {log}") and str(log) in done.stderr
    assert [line.split(",")[0] for line in lines if " s" in line] == [
        f"{run} govern failed",
        f"{run} finish done",
    ]
    assert all(line.startswith(run) for line in lines)
    assert "Traceback" in log.read_text()
    (page,) = (tmp_path / "home" / "pipeline").glob("*/finish/summary")
    assert "Step `govern` failed" in page.read_text() and "nothing" in page.read_text()
