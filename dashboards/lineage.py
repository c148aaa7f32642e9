"""Where the versions come from: training set → run → version → index → experiment; read rarely and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dashboards.figures import Kept
from immr.data.training_set import TrainingSet
from immr.drift.findings import DriftReport
from immr.types import ModelVersion, Role

_KEEP_S = 30.0
_ROLES: tuple[Role, ...] = ("champion", "challenger")


class VersionsThere(Protocol):
    """What is asked of the registry; `immr.registry.registry.Registry` is one."""

    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first."""

    def role(self, role: Role) -> ModelVersion | None:
        """Who plays the role."""

    def tags(self, version: ModelVersion) -> dict[str, str]:
        """What is noted on a version."""

    def created(self, version: ModelVersion) -> datetime:
        """When it was registered."""


@dataclass(frozen=True, slots=True)
class Line:
    """One version and what it was made of."""

    id: str
    recipe: str
    roles: Sequence[str]
    created: datetime
    manifest_hash: str  # of the training set
    run_id: str
    gate: str  # what the gate said, if it was asked


class Lineage:
    """Reads the registry and the feature store.

    Args:
        registry: the model versions.
        freshness: gives the time of the newest item features (`FeatureStore.freshness`).
        drift_file: where `immr drift` leaves its report; it need not be there.
        training_sets: where training sets are kept; those of the versions need not be among them.
        keep_s: how long an answer is kept at least.
    """

    def __init__(
        self,
        registry: VersionsThere,
        freshness: Callable[[], datetime | None],
        drift_file: Path,
        training_sets: Path,
        keep_s: float = _KEEP_S,
    ) -> None:
        self._registry, self._training_sets = registry, training_sets
        self.versions = Kept(self._versions, keep_s)
        self.features_from = Kept(freshness, keep_s)
        self.categories = Kept(self._categories, keep_s)
        self.drift = Kept(lambda: DriftReport.read(drift_file), keep_s)

    def _categories(self) -> Mapping[str, str]:
        """Category of each item that the champion knows, from its training set."""
        champion = self._registry.role("champion")
        for manifest in self._training_sets.glob("*/manifest.json") if champion else ():
            training_set = TrainingSet(manifest.parent)
            if champion and training_set.hash == champion.manifest_hash:
                return {item.item_id: item.category for item in training_set.items}
        return {}

    def _versions(self) -> Sequence[Line]:
        """Newest first."""
        players = {role: self._registry.role(role) for role in _ROLES}
        return [
            Line(
                id=version.id,
                recipe=version.recipe,
                roles=[role for role, player in players.items() if player and player.id == version.id],
                created=self._registry.created(version),
                manifest_hash=version.manifest_hash,
                run_id=version.run_id,
                gate=self._registry.tags(version).get("gate", ""),
            )
            for version in reversed(self._registry.versions())
        ]
