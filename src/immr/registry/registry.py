"""One registered model in MLflow: its runs, versions, roles and decisions behind one object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from immr.errors import RegistryError
from immr.registry.logged_models import DATASET, LOGGED_MODEL, Origin, digest_of
from immr.registry.roles import Roles
from immr.registry.runs import Runs
from immr.registry.store import Store
from immr.registry.versions import Versions
from immr.storage.json_lines import JsonLines
from immr.types import ALL_ROLES, ModelVersion, Role


class Registry:
    """What the rest of IMMR uses of MLflow.

    Attributes:
        runs: The runs of the experiment that carries the model's name.
    """

    def __init__(self, tracking_url: str, model_name: str, decision_log: Path) -> None:
        """Store the addresses; the first call that needs MLflow connects to it.

        Args:
            tracking_url: `sqlite:///<file>` (artifacts go into a folder beside it) or `http(s)://…` of an
                MLflow server.
            model_name: Name of the registered model and of the experiment, usually "immr".
            decision_log: The JSON lines file of the decisions.

        Raises:
            RegistryError: The URL has another scheme.
        """
        self._store = Store(tracking_url, model_name)
        self._name = model_name
        self.runs = Runs(self._store, model_name)
        self._versions = Versions(self._store, model_name)
        self._roles = Roles(self._store, model_name)
        self._decisions = JsonLines(decision_log)

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
        origin: Origin | None = None,
    ) -> ModelVersion:
        """Store a version's folder with its run and give it the next number; see `Versions.register`."""
        return self._versions.register(
            folder,
            key,
            run_id,
            {
                "dim": str(dim),
                "preprocessing_hash": preprocessing_hash,
                "manifest_hash": manifest_hash,
                "recipe": recipe,
            },
            origin or Origin(),
        )

    def restore(self, version: ModelVersion, folder: Path) -> ModelVersion:
        """Upload the files of a version again after they were lost; its number and tags stay.

        Raises:
            RegistryError: MLflow refused the upload.
        """
        self._versions.restore(version, folder)
        return version

    def versions(self) -> list[ModelVersion]:
        """All versions that IMMR registered, oldest first."""
        return self._versions.all()

    def find(self, key: str) -> ModelVersion | None:
        """The version trained from this key, or None."""
        return self._versions.find(key)

    def get(self, reference: str) -> ModelVersion:
        """Look up a version by id ("immr-3"), number ("3") or role ("champion").

        Raises:
            RegistryError: There is no such version; the message lists those that exist.
        """
        versions, number = self.versions(), reference.removeprefix(f"{self._name}-")
        for version in versions:
            if number == str(version.number):
                return version
        roles = self._roles.numbers()
        for version in versions:
            if roles.get(reference) == str(version.number):
                return version
        known = ", ".join(_with_roles(version, roles) for version in versions)
        raise RegistryError(
            f"no model version {reference!r} in {self._store.shown_url}; "
            + (f"known versions: {known}" if known else "none is registered yet: run `immr train` first")
        )

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        """A local folder with the version's files, for reading only; see `Versions.fetch`."""
        return self._versions.fetch(version, cache_dir)

    def attach(self, version: ModelVersion, file: Path) -> None:
        """Store a file that was made after training, replacing one of the same name."""
        self._versions.attach(version, file)

    def attached(self, version: ModelVersion, name: str) -> AbstractContextManager[Path | None]:
        """A copy of an attached file, deleted after the block; None if there is none."""
        return self._versions.attached(version, name)

    def tag(self, version: ModelVersion, key: str, value: str) -> None:
        """Set a tag on a version, replacing an earlier value."""
        self._versions.tag(version, key, value)

    def tags(self, version: ModelVersion) -> dict[str, str]:
        """All tags of a version."""
        return dict(self._versions.entry(version).tags)

    def log_evaluation(self, version: ModelVersion, metrics: Mapping[str, float]) -> None:
        """Log metrics on the training set's held-out photos with the version's run and LoggedModel."""
        model_id = self._versions.entry(version).tags.get(LOGGED_MODEL)
        named = {"dataset_name": DATASET, "dataset_digest": digest_of(version.manifest_hash)}
        about = {"model_id": model_id, **named} if model_id else {}
        self.runs.log_metrics(version.run_id, metrics, about=about)

    def created(self, version: ModelVersion) -> datetime:
        """When the version was registered, in UTC."""
        return datetime.fromtimestamp(self._versions.entry(version).creation_timestamp / 1000, UTC)

    def set_role(self, role: Role, version: ModelVersion, reason: str = "", link: str = "") -> None:
        """Give a version this role; the version that held it before loses it.

        Args:
            role: The role, which is an alias in MLflow.
            version: The version that gets it.
            reason: Why; stored in the version's description and its tag `immr.<role>`, since an alias has no text.
            link: The address of the decision's report, if there is one.
        """
        self._roles.set(role, version)
        if reason:
            now = datetime.now(UTC)
            change = {"since": now.isoformat(), "reason": reason, "report": link}
            self.tag(version, f"immr.{role}", json.dumps(change, ensure_ascii=False))
            report = f" [Report of the test]({link})" if link else ""
            self._versions.describe(
                version, f"Became **{role}** ", f"on {now:%Y-%m-%d %H:%M} UTC: {reason}{report}"
            )

    def role(self, role: Role) -> ModelVersion | None:
        """The version that holds the role, or None."""
        return self.roles().get(role)

    def roles(self) -> dict[Role, ModelVersion]:
        """The version that holds each role, champion first, without roles that no version holds; two requests.

        Raises:
            RegistryError: A role is held by a version that IMMR did not register.
        """
        numbers = self._roles.numbers()
        held = {role: numbers[role] for role in ALL_ROLES if role in numbers}
        versions = {str(version.number): version for version in self.versions()} if held else {}
        return {role: versions.get(number) or self.get(number) for role, number in held.items()}

    def clear_role(self, role: Role) -> None:
        """Take the role away from whichever version holds it."""
        self._roles.clear(role)

    def clear_roles(self) -> None:
        """Remove all roles."""
        for role in set(ALL_ROLES) & set(self._roles.numbers()):
            self._roles.clear(role)

    def record_decision(
        self,
        action: str,
        reason: str,
        numbers: Mapping[str, float],
        champion: ModelVersion | None,
        challenger: ModelVersion | None,
        ts: datetime | None = None,
        experiment: str = "",
        applied: bool = True,
    ) -> dict[str, Any]:
        """Append a decision to the log, and store it as a tag of the version it is about.

        Args:
            action: "promote", "keep", "wait" or "roll back".
            reason: One sentence.
            numbers: The figures the decision is based on.
            champion: The champion before the decision.
            challenger: The version that the decision is about; if None, it is about the champion.
            ts: Time of the decision, now by default.
            experiment: The test that it decides; empty outside a test.
            applied: Whether it is carried out, or only recommended.

        Returns:
            The decision as it was logged.
        """
        decision = {
            "ts": (ts or datetime.now(UTC)).isoformat(),
            "action": action,
            "reason": reason,
            "numbers": dict(numbers),
            "champion": champion.id if champion else None,
            "challenger": challenger.id if challenger else None,
            "experiment": experiment,
            "applied": applied,
        }
        if (
            about := challenger or champion
        ):  # first, because a decision that is in the log is not recorded again
            self.tag(about, "immr.decision", json.dumps(decision, ensure_ascii=False))
        self._decisions.append(decision)
        return decision

    def decisions(self) -> list[dict[str, Any]]:
        """All decisions, oldest first."""
        return self._decisions.read()


def _with_roles(version: ModelVersion, roles: Mapping[str, str]) -> str:
    """`immr-2 (challenger)`."""
    held = sorted(role for role, number in roles.items() if number == str(version.number))
    return f"{version.id} ({', '.join(held)})" if held else version.id
