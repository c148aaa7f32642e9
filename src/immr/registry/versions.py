"""Model versions in MLflow: what was trained, with its files, and which version plays which role."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from immr.errors import RegistryError
from immr.registry.promotion_log import PromotionLog
from immr.registry.runs import KEY, Runs
from immr.registry.store import Store
from immr.storage.atomic import replace_folder_atomically
from immr.types import ModelVersion, Role

_FILES = "version"  # the artifact folder of a run that holds a version's files


class Registry:
    """One registered model: its runs, versions, roles and decisions.

    Attributes:
        runs: of the experiment that bears the model's name.
    """

    def __init__(self, tracking_url: str, model_name: str, promotion_log: Path) -> None:
        """Nothing is opened before the first question.

        Args:
            tracking_url: `sqlite:///<file>` (artifacts go beside it) or `http(s)://…` of an MLflow server.
            model_name: of the registered model and of the experiment, "immr".
            promotion_log: the JSONL file of the decisions.
        """
        self._store = Store(tracking_url)
        self._name = model_name
        self.runs = Runs(self._store, model_name)
        self._decisions = PromotionLog(promotion_log)

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
            KEY: key,
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
        found = self._search(f"name = '{self._name}' and tags.`{KEY}` = '{key}'")
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
            with replace_folder_atomically(kept) as aside:
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
        decision = {
            "ts": (ts or datetime.now(UTC)).isoformat(),
            "action": action,
            "reason": reason,
            "numbers": dict(numbers),
            "champion": champion.id if champion else None,
            "challenger": challenger.id if challenger else None,
        }
        self._decisions.append(decision)
        if about := challenger or champion:
            self.tag(about, "immr.decision", json.dumps(decision, ensure_ascii=False))
        return decision

    def decisions(self) -> list[dict[str, Any]]:
        """The promotion log, oldest first."""
        return self._decisions.read()

    # MLflow's side

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
            found += [_version(entry) for entry in page if KEY in entry.tags]
            if not page.token:
                return sorted(found, key=lambda version: version.number)
            page = self._store.ask("search_model_versions", query, page_token=page.token)


def _version(entry: Any) -> ModelVersion:
    return ModelVersion(
        name=entry.name,
        number=int(entry.version),
        key=entry.tags[KEY],
        run_id=entry.run_id,
        dim=int(entry.tags["immr.dim"]),
        preprocessing_hash=entry.tags["immr.preprocessing_hash"],
        manifest_hash=entry.tags["immr.manifest_hash"],
        recipe=entry.tags["immr.recipe"],
    )


def _with_roles(version: ModelVersion, roles: Mapping[str, str]) -> str:
    played = sorted(role for role, number in roles.items() if number == str(version.number))
    return f"{version.id} ({', '.join(played)})" if played else version.id
