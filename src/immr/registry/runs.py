"""MLflow runs: the parameters, metrics and reports behind a model version."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from immr.errors import RegistryError
from immr.registry.store import Store

KEY = "immr.key"  # tag of runs and versions
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag that says that an experiment's runs are training runs. MLflow releases without the switch "Model training" open
an experiment by it, and otherwise guess."""
_METRICS_PER_REQUEST = 1000  # MLflow's limit
_PARAMS_PER_REQUEST = 100  # MLflow's limit
_PARAM_CHARACTERS = 6000  # MLflow's limit


class Runs:
    """The runs of one MLflow experiment."""

    def __init__(self, store: Store, experiment: str) -> None:
        """Store the name; the first run creates the experiment."""
        self._store = store
        self._experiment = experiment

    def start(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None, *, key: str
    ) -> str:
        """Start a run, or resume the unfinished one with the same key.

        Args:
            name: Shown in the MLflow UI.
            params: Plain values; nested mappings become dotted names.
            tags: Further tags of the run.
            key: Key of the model version that the run will produce.

        Returns:
            The run's id.
        """
        unfinished = self._store.call(
            "search_runs",
            [self._experiment_id],
            f"tags.`{KEY}` = '{key}' and attributes.status != 'FINISHED'",
            max_results=1,
        )
        all_tags = {**(tags or {}), KEY: key}
        if unfinished:
            run = unfinished[0]
            self._store.call("update_run", run.info.run_id, status="RUNNING")
        else:
            run = self._store.call("create_run", self._experiment_id, run_name=name, tags=all_tags)
        logged = run.data.params  # MLflow refuses to change a parameter
        self._log_params(run.info.run_id, {k: v for k, v in _flattened(params) if k not in logged})
        return str(run.info.run_id)

    def finish(self, run_id: str, failed: bool = False) -> None:
        """Mark a run as finished, or as failed."""
        self._store.call("set_terminated", run_id, "FAILED" if failed else "FINISHED")

    def finish_of_reused(self, run_id: str) -> None:
        """Mark the run of a version that is reused as finished, as the process that made it may have been killed."""
        with suppress(RegistryError):  # somebody has deleted the run
            if self._store.call("get_run", run_id).info.status != "FINISHED":
                self.finish(run_id)

    def log_metrics(
        self,
        run_id: str,
        values: Mapping[str, float],
        step: int = 0,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics. MLflow allows no @ in names, so `recall@1` becomes `recall_at_1`.

        Args:
            run_id: The run.
            values: The metrics by name.
            step: The training step.
            about: The LoggedModel and data set that they are about: `model_id`, `dataset_name`, `dataset_digest`.
        """
        from mlflow.entities import Metric

        now_ms = round(time.time() * 1000)
        rows = [
            Metric(name.replace("@", "_at_"), float(value), now_ms, step, **(about or {}))
            for name, value in values.items()
        ]
        for start in range(0, len(rows), _METRICS_PER_REQUEST):
            self._store.call("log_batch", run_id, metrics=rows[start : start + _METRICS_PER_REQUEST])

    def log_report(self, run_id: str, path: Path, name: str) -> None:
        """Attach a file (an HTML report) to a run as `reports/<name>`; the MLflow UI displays it."""
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copyfile(path, Path(folder) / name)
            self._store.call("log_artifact", run_id, str(copy), "reports")

    @cached_property
    def _experiment_id(self) -> str:
        if (existing := self._existing_experiment()) is not None:
            return existing
        try:
            place = self._store.artifacts_url
            return str(self._store.call("create_experiment", self._experiment, place, tags=KIND))
        except RegistryError:
            if (existing := self._existing_experiment()) is not None:  # another process created it in between
                return existing
            raise

    def _existing_experiment(self) -> str | None:
        """The experiment's id; one of an earlier release gets its kind, and a chosen kind stays."""
        found = self._store.call("get_experiment_by_name", self._experiment, or_none=True)
        if found is None:
            return None
        for name, value in KIND.items():
            if name not in found.tags:
                self._store.call("set_experiment_tag", found.experiment_id, name, value)
        return str(found.experiment_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(rows), _PARAMS_PER_REQUEST):
            self._store.call("log_batch", run_id, params=rows[start : start + _PARAMS_PER_REQUEST])


def _flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flattened(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)[:_PARAM_CHARACTERS]))
    return rows
