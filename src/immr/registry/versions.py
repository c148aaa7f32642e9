"""Model versions in MLflow: what was trained, with its files, and which version plays which role."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from immr.errors import RegistryError
from immr.files import folder_written_whole
from immr.registry.promotion_log import PromotionLog
from immr.registry.store import Store
from immr.types import ModelVersion, Role

_FILES = "version"  # the artifact folder of a run that holds a version's files
_KEY = "immr.key"  # tag of runs and versions
_PARAMS_AT_ONCE = 100  # MLflow's limit
_PARAM_CHARACTERS = 6000  # MLflow's limit


class Registry:
    """One registered model: its runs, versions, roles and decisions."""

    def __init__(self, tracking_url: str, model_name: str, promotion_log: Path) -> None:
        """Nothing is opened before the first question.

        Args:
            tracking_url: `sqlite:///<file>` (artifacts go beside it) or `http(s)://…` of an MLflow server.
            model_name: of the registered model and of the experiment, "immr".
            promotion_log: the JSONL file of the decisions.
        """
        self._store = Store(tracking_url)
        self._name = model_name
        self._decisions = PromotionLog(promotion_log)

    # runs

    def start_run(
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
            f"tags.`{_KEY}` = '{key}' and attributes.status != 'FINISHED'",
            max_results=1,
        )
        all_tags = {**(tags or {}), _KEY: key}
        if found:
            run = found[0]
            self._store.ask("update_run", run.info.run_id, status="RUNNING")
        else:
            run = self._store.ask("create_run", self._experiment_id, run_name=name, tags=all_tags)
        logged = run.data.params  # MLflow lets no param change
        self._log_params(run.info.run_id, {k: v for k, v in _flat(params) if k not in logged})
        return str(run.info.run_id)

    def finish_run(self, run_id: str, failed: bool = False) -> None:
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

    # versions

    def register(
        self,
        folder: Path,
        key: str,
        run_id: str,
        *,
        dim: int,
        preprocessing_hash: str,
        manifest_hash: str,
        recipe: str,
    ) -> ModelVersion:
        """Store a version's folder with its run and give it the next number.

        The number comes last and in one piece, so that a version which can be found is whole; after a crash
        the same call finishes the work. A key that is registered already keeps its version.

        Raises:
            RegistryError: the folder is empty or missing, or MLflow does not take it.
        """
        if already := self.find(key):
            return already
        if not folder.is_dir() or not any(folder.iterdir()):
            raise RegistryError(f"there are no version files in {folder}: train first")
        self._store.ask("log_artifacts", run_id, str(folder), _FILES)
        if self._model() is None:
            self._store.ask("create_registered_model", self._name)
        artifacts_url = self._store.ask("get_run", run_id).info.artifact_uri
        tags = {
            _KEY: key,
            "immr.dim": str(dim),
            "immr.preprocessing_hash": preprocessing_hash,
            "immr.manifest_hash": manifest_hash,
            "immr.recipe": recipe,
        }
        made = self._store.ask(
            "create_model_version", self._name, f"{artifacts_url}/{_FILES}", run_id, tags=tags
        )
        return _version(made)

    def restore(self, version: ModelVersion, folder: Path) -> ModelVersion:
        """Store the files of a version again that were lost; it stays the version it is.

        Raises:
            RegistryError: MLflow does not take them.
        """
        self._store.ask("log_artifacts", version.run_id, str(folder), _FILES)
        return version

    def versions(self) -> list[ModelVersion]:
        """All versions that IMMR registered, oldest first."""
        return self._search(f"name = '{self._name}'")

    def find(self, key: str) -> ModelVersion | None:
        """The version that was trained from this key, if it was."""
        found = self._search(f"name = '{self._name}' and tags.`{_KEY}` = '{key}'")
        return found[-1] if found else None

    def get(self, reference: str) -> ModelVersion:
        """A version by id ("immr-3"), number ("3") or role ("champion").

        Raises:
            RegistryError: it is not there; the message lists what is.
        """
        versions = self.versions()
        roles = self._roles()
        number = roles.get(reference, reference.removeprefix(f"{self._name}-"))
        for version in versions:
            if number == str(version.number):
                return version
        there = [_with_roles(version, roles) for version in versions]
        raise RegistryError(
            f"there is no model version {reference!r} in {self._store.url}; "
            + (f"there are: {', '.join(there)}" if there else "there is none yet: run `immr train` first")
        )

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        """A local folder with the version's files, to be read only.

        In a registry of files that is where they lie; from a server they are downloaded once and whole.

        Args:
            version: which.
            cache_dir: where a download is kept.

        Raises:
            RegistryError: the files are not there.
        """
        source = str(self._store.ask("get_model_version", self._name, str(version.number)).source)
        parts = urlsplit(source)
        if parts.scheme in ("", "file"):
            folder = Path(unquote(parts.path))
            if not folder.is_dir():
                raise RegistryError(f"the files of {version.id} are gone from {folder}: train it again")
            return folder
        kept = cache_dir / "versions" / f"{version.id}-{version.run_id}"
        if not kept.is_dir():
            with folder_written_whole(kept) as aside:
                self._store.ask("download_artifacts", version.run_id, _FILES, str(aside))
        return kept / _FILES

    def tag(self, version: ModelVersion, key: str, value: str) -> None:
        """Note something on a version, in place of what stood there."""
        self._store.ask("set_model_version_tag", self._name, str(version.number), key, value)

    def tags(self, version: ModelVersion) -> dict[str, str]:
        """What is noted on a version."""
        return dict(self._store.ask("get_model_version", self._name, str(version.number)).tags)

    def created(self, version: ModelVersion) -> datetime:
        """When a version was registered."""
        entry = self._store.ask("get_model_version", self._name, str(version.number))
        return datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC)

    # roles

    def set_role(self, role: Role, version: ModelVersion) -> None:
        """Let this version play the role, in place of the one before."""
        self._store.ask("set_registered_model_alias", self._name, role, str(version.number))

    def role(self, role: Role) -> ModelVersion | None:
        """The version that plays the role, if one does."""
        number = self._roles().get(role)
        return None if number is None else self.get(number)

    def clear_role(self, role: Role) -> None:
        """Let no version play the role."""
        if role in self._roles():
            self._store.ask("delete_registered_model_alias", self._name, role)

    def clear_roles(self) -> None:
        """Neither champion nor challenger."""
        self.clear_role("champion")
        self.clear_role("challenger")

    # decisions

    def record_decision(
        self,
        action: str,
        reason: str,
        numbers: Mapping[str, float],
        champion: ModelVersion | None,
        challenger: ModelVersion | None,
        ts: datetime | None = None,
    ) -> dict[str, Any]:
        """Append to the promotion log, and note the decision on the version it is about.

        Args:
            action: "promote", "keep", "wait" or "roll back".
            reason: a sentence.
            numbers: what the decision rests on.
            champion: before the decision.
            challenger: the version it is about, where there is one; else it is about the champion.
            ts: now, where it is not given.
        """
        decision = self._decisions.record(
            action,
            reason,
            numbers,
            champion.id if champion else None,
            challenger.id if challenger else None,
            ts,
        )
        if about := challenger or champion:
            self.tag(about, "immr.decision", json.dumps(decision, ensure_ascii=False))
        return decision

    def decisions(self) -> list[dict[str, Any]]:
        """The promotion log, oldest first."""
        return self._decisions.read()

    # MLflow's side

    @cached_property
    def _experiment_id(self) -> str:
        found = self._store.ask("get_experiment_by_name", self._name, or_none=True)
        if found is not None:
            return str(found.experiment_id)
        return str(self._store.ask("create_experiment", self._name, self._store.artifacts_url))

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(rows), _PARAMS_AT_ONCE):
            self._store.ask("log_batch", run_id, params=rows[start : start + _PARAMS_AT_ONCE])

    def _model(self) -> Any:
        return self._store.ask("get_registered_model", self._name, or_none=True)

    def _roles(self) -> dict[str, str]:
        """Version number (as text) by role."""
        model = self._model()
        return {} if model is None else {role: str(number) for role, number in model.aliases.items()}

    def _search(self, query: str) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        page = self._store.ask("search_model_versions", query)
        while True:
            found += [_version(entry) for entry in page if _KEY in entry.tags]
            if not page.token:
                return sorted(found, key=lambda version: version.number)
            page = self._store.ask("search_model_versions", query, page_token=page.token)


def _version(entry: Any) -> ModelVersion:
    return ModelVersion(
        name=entry.name,
        number=int(entry.version),
        key=entry.tags[_KEY],
        run_id=entry.run_id,
        dim=int(entry.tags["immr.dim"]),
        preprocessing_hash=entry.tags["immr.preprocessing_hash"],
        manifest_hash=entry.tags["immr.manifest_hash"],
        recipe=entry.tags["immr.recipe"],
    )


def _with_roles(version: ModelVersion, roles: Mapping[str, str]) -> str:
    played = sorted(role for role, number in roles.items() if number == str(version.number))
    return f"{version.id} ({', '.join(played)})" if played else version.id


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)[:_PARAM_CHARACTERS]))
    return rows
