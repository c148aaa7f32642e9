"""Runs in MLflow: parameters, numbers and reports of what led to a model version."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from immr.registry.store import Store

KEY = "immr.key"  # tag of runs and versions
_PARAMS_AT_ONCE = 100  # MLflow's limit
_PARAM_CHARACTERS = 6000  # MLflow's limit


class Runs:
    """The runs of one MLflow experiment."""

    def __init__(self, store: Store, experiment: str) -> None:
        """Nothing is opened before the first question."""
        self._store = store
        self._experiment = experiment

    def start(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None, *, key: str
    ) -> str:
        """A run to log to; one of the same key that never finished is continued.

        Args:
            name: what people see.
            params: plain values; nested mappings become dotted names.
            tags: of the run.
            key: of the model version that the run is to make.

        Returns:
            The run's id.
        """
        found = self._store.ask(
            "search_runs",
            [self._experiment_id],
            f"tags.`{KEY}` = '{key}' and attributes.status != 'FINISHED'",
            max_results=1,
        )
        all_tags = {**(tags or {}), KEY: key}
        if found:
            run = found[0]
            self._store.ask("update_run", run.info.run_id, status="RUNNING")
        else:
            run = self._store.ask("create_run", self._experiment_id, run_name=name, tags=all_tags)
        logged = run.data.params  # MLflow lets no param change
        self._log_params(run.info.run_id, {k: v for k, v in _flat(params) if k not in logged})
        return str(run.info.run_id)

    def finish(self, run_id: str, failed: bool = False) -> None:
        """Say that a run is over."""
        self._store.ask("set_terminated", run_id, "FAILED" if failed else "FINISHED")

    def log_metrics(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        """Log values to a run; the @ of recall@1, which MLflow does not take, becomes `_at_`."""
        for name, value in values.items():
            self._store.ask("log_metric", run_id, name.replace("@", "_at_"), float(value), step=step)

    def log_report(self, run_id: str, path: Path, name: str) -> None:
        """Put a file (an HTML report) with a run, as `reports/<name>`; MLflow's page shows it."""
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copyfile(path, Path(folder) / name)
            self._store.ask("log_artifact", run_id, str(copy), "reports")

    @cached_property
    def _experiment_id(self) -> str:
        found = self._store.ask("get_experiment_by_name", self._experiment, or_none=True)
        if found is not None:
            return str(found.experiment_id)
        return str(self._store.ask("create_experiment", self._experiment, self._store.artifacts_url))

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(rows), _PARAMS_AT_ONCE):
            self._store.ask("log_batch", run_id, params=rows[start : start + _PARAMS_AT_ONCE])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)[:_PARAM_CHARACTERS]))
    return rows
