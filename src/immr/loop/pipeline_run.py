"""Records of one pipeline run on the shared home: every step writes its own, the exit step reads them all.

The exit step cannot rely on what Kubeflow Pipelines passes to it. Version 2.17 passes ML Metadata's state of
the exit handler, which is COMPLETE only if every condition held, RUNNING both for a run that stopped at the
gate and for a run that a user terminated, and an empty error in every case.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, cast

from immr.alerts.alert import Alert
from immr.errors import CapacityError, DataError, ImmrError, IndexMismatchError, RecipeError, SettingsError
from immr.registry.reports import links
from immr.settings import Settings
from immr.storage.atomic import write_atomically
from immr.storage.file_ages import oldest_first

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Outcome = Literal["succeeded", "failed", "stopped"]

TRIES = "IMMR_STEP_TRIES"
"""Environment variable with the number of tries of each step; the compiled pipelines set it on a cluster."""
_PERMANENT = (
    CapacityError,
    DataError,
    RecipeError,
    SettingsError,
    IndexMismatchError,
)  # retrying cannot help
_OUTCOME = "outcome"
_KEPT_RUNS = 50
_KILLED = (
    "If the run's graph shows `OOMKilled` for it, give it more memory with "
    "`IMMR_STEP_SIZES={step}=CPU/MEMORY/LIMIT python -m pipelines upload` (docs/kubernetes.md)."
)


@dataclass(frozen=True)
class StepRecord:
    """How one step went. `running` in a run that has ended: the step was stopped or killed."""

    step: str
    state: Literal["running", "done", "failed"]
    finding: str = ""
    error: str = ""
    peak_mib: int = 0
    refused: bool = False  # the gate refused the version, so the run ends here
    seconds: int = 0  # including retries
    remedy: str = ""  # what to do about the error


@dataclass(frozen=True)
class PipelineRun:
    """Runs the steps of one pipeline run and keeps their records in `folder`."""

    folder: Path
    tries: int = 1
    first_pause_s: float = 30.0

    @classmethod
    def of(cls, settings: Settings, run: str) -> PipelineRun:
        """The run with this id; the number of tries per step comes from the environment."""
        name = "".join(char if char.isalnum() or char in "-_." else "-" for char in run).lstrip(".")
        return cls(settings.home / "runs" / (name or "run"), tries=int(os.environ.get(TRIES, "1")))

    def step(
        self,
        name: str,
        body: Callable[[], Result],
        finding: Callable[[Result], str] = lambda result: "",
        refused: Callable[[Result], bool] = lambda result: False,
    ) -> Result:
        """Run a step's body, retrying after transient errors, and record the outcome.

        Args:
            name: Name of the step.
            body: The work. It must be idempotent.
            finding: Turns its result into the sentence that the run's summary shows.
            refused: Whether the result keeps the steps that depend on the gate from running.
        """
        self._record(StepRecord(name, "running"))
        began = time.monotonic()

        def ended(record: StepRecord) -> None:
            self._record(replace(record, peak_mib=_peak_mib(), seconds=round(time.monotonic() - began)))

        try:
            result = with_retries(name, body, self.tries, self.first_pause_s)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            ended(StepRecord(name, "failed", error=message, remedy=_remedy(error)))
            raise
        ended(StepRecord(name, "done", finding(result), refused=refused(result)))
        return result

    def records(self) -> list[StepRecord]:
        """The records of all steps, in the order in which they were last written."""
        files = oldest_first(self.folder.glob("*.json"))
        return [StepRecord(**json.loads(file.read_text())) for file in files]

    def outcome(self, state: str, deploys: bool = True) -> Outcome:
        """How the run ended.

        Args:
            state: What Kubeflow Pipelines passes as the exit handler's final state: SUCCEEDED or FAILED
                (`kfp.local`), or COMPLETE, RUNNING, FAILED or CANCELED (ML Metadata's).
            deploys: Whether the run deploys a version that passes the gate.
        """
        records = self.records()
        if state == "FAILED" or any(record.state == "failed" for record in records):
            return "failed"
        done = {record.step for record in records if record.state == "done"}
        if len(done) < len(records):
            return "stopped"
        refused = any(record.refused for record in records)
        if state == "RUNNING" and (
            refused or not deploys
        ):  # a normal end, if the last step before it is done
            last = {"materialize"} if refused else {"materialize", "package", "index"}
            return "succeeded" if done >= last else "stopped"
        return "succeeded" if state in ("SUCCEEDED", "COMPLETE") else "stopped"

    def end(self, outcome: Outcome) -> None:
        """Record how the run ended, for `ended`."""
        write_atomically(self.folder / _OUTCOME, outcome)

    def ended(self) -> Outcome | None:
        """How the run ended; None while it runs, and for a run that was killed."""
        if (self.folder / _OUTCOME).is_file():
            return cast(Outcome, (self.folder / _OUTCOME).read_text())
        return "failed" if any(record.state == "failed" for record in self.records()) else None

    def page(self, settings: Settings, about: str, outcome: Outcome, stopped_jobs: list[str]) -> str:
        """Markdown summary: how the run ended, what to do about it, what each step found and used."""
        records = self.records()
        lines = [f"# Refresh {outcome}", "", about, ""]
        for record in records:
            if record.state == "failed":
                lines += [f"Step `{record.step}` failed:", ""]
                lines += [*(f"    {line}" for line in record.error.splitlines()), ""]
                lines += [record.remedy, ""] if record.remedy else []
            if record.state == "running":
                lines += [f"Step `{record.step}` did not finish: it was stopped or killed.", ""]
                lines += [_KILLED.format(step=record.step), ""] if outcome == "failed" else []
        if outcome == "succeeded" and any(record.refused for record in records):
            lines += [
                "The gate refused the new version, so it was not deployed. The champion keeps serving.",
                "",
            ]
        if outcome == "failed" and all(record.state == "done" for record in records):
            lines += [
                "A step's pod ended before IMMR started in it: see the run's graph for its message.",
                "",
            ]
        if outcome != "succeeded":
            lines += ["Fix the cause and start the run again: it reuses the finished steps.", ""]
        lines += [f"- training job {name} was still running and was deleted" for name in stopped_jobs]
        lines += [f"- {record.step}: {record.finding}" for record in records if record.finding]
        return "\n".join([*lines, *links(settings), "", *_table(records)]) + "\n"

    def failure(self, about: str) -> Alert:
        """The alert about a run that failed."""
        failed = [record for record in self.records() if record.state == "failed"]
        reasons = [f"Step {record.step}: {record.error}" for record in failed]
        reason = "\n".join(reasons) or "A step's pod ended before IMMR started in it."
        return Alert(f"Pipeline run {self.folder.name} failed", f"{about}\n{reason}")

    def prune(self, keep: int = _KEPT_RUNS) -> None:
        """Delete the records of all but the newest runs."""
        for old in oldest_first(self.folder.parent.glob("*/"))[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    def _record(self, record: StepRecord) -> None:
        write_atomically(self.folder / f"{record.step}.json", json.dumps(asdict(record)))


def _table(records: Sequence[StepRecord]) -> list[str]:
    """Markdown table of the steps, in the order in which they ended."""
    if not records:
        return []
    rows = [
        f"| {record.step} | {record.state} | {record.seconds:,} s | {record.peak_mib:,} MiB |"
        if record.state != "running"
        else f"| {record.step} | did not finish | | |"
        for record in records
    ]
    return ["| step | state | took | peak memory |", "|---|---|---|---|", *rows]


def _remedy(error: Exception) -> str:
    """What to do about an error; IMMR's own errors contain it."""
    if isinstance(error, ImmrError):
        return ""
    return "IMMR did not expect this error: the log of the step's pod has the traceback."


def with_retries(
    name: str, body: Callable[[], Result], tries: int | None = None, first_pause_s: float = 30.0
) -> Result:
    """Call `body`; after a transient error wait (30 s, 90 s, …) and call it again, up to `tries` times.

    Kubeflow Pipelines 2.17 does not do this: its default retry policy only covers pods that were lost.
    """
    tries = tries or int(os.environ.get(TRIES, "1"))
    for attempt in range(1, tries):
        try:
            return body()
        except _PERMANENT:
            raise
        except Exception as error:
            pause_s = first_pause_s * 3 ** (attempt - 1)
            log.warning("%s failed (%s): try %d of %d in %.0f s", name, error, attempt + 1, tries, pause_s)
            time.sleep(pause_s)
    return body()


def _peak_mib() -> int:
    """Peak resident memory of this process or of its largest child."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
