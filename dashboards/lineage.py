"""Lineage of the versions: training set → run → version → index → experiment, cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dashboards.cached import CachedValue
from immr.drift.findings import DriftReport
from immr.loop.experiment.aa import COPY_OF
from immr.loop.govern import find_training_set
from immr.registry.versions import PIPELINE_RUN
from immr.types import ModelVersion, Role

_KEEP_S = 30.0


class VersionSource(Protocol):
    """The part of the registry that the page uses; `immr.registry.registry.Registry` is one."""

    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first."""

    def roles(self) -> Mapping[Role, ModelVersion]:
        """The version with each role."""

    def tags(self, version: ModelVersion) -> dict[str, str]:
        """The tags of a version."""

    def created(self, version: ModelVersion) -> datetime:
        """When it was registered."""


@dataclass(frozen=True, slots=True)
class LineageRow:
    """One version and its origin."""

    id: str
    recipe: str
    roles: Sequence[str]
    created: datetime
    manifest_hash: str  # of the training set
    run_id: str
    pipeline_run: str  # empty for a version that was made outside a pipeline
    gate: str  # the gate's sentence; empty without an evaluation
    copy_of: str  # the version that it copies for an A/A test; empty for others


class Lineage:
    """Reads the registry and the feature store.

    Args:
        registry: The model versions.
        freshness: Returns the time of the newest item features (`FeatureStore.freshness`).
        drift_file: The report of `immr drift`; it may be missing.
        training_sets: The folder of kept training sets; a version's own may be missing.
        keep_s: How long values are cached at least.
    """

    def __init__(
        self,
        registry: VersionSource,
        freshness: Callable[[], datetime | None],
        drift_file: Path,
        training_sets: Path,
        keep_s: float = _KEEP_S,
    ) -> None:
        self._registry, self._training_sets = registry, training_sets
        self._known: tuple[str, Mapping[str, str]] = "", {}  # a training set's hash and categories
        self.versions = CachedValue(self._versions, keep_s)
        self.features_from = CachedValue(freshness, keep_s)
        self.categories = CachedValue(self._categories, keep_s)
        self.drift = CachedValue(lambda: DriftReport.read(drift_file), keep_s)

    def _categories(self) -> Mapping[str, str]:
        """Category of each item in the champion's training set."""
        champion = self._registry.roles().get("champion")
        if champion is None:
            return {}
        known, categories = self._known
        if champion.manifest_hash == known:
            return categories
        training_set = find_training_set(self._training_sets, champion.manifest_hash)
        if training_set is None:
            return {}
        self._known = training_set.hash, training_set.categories
        return training_set.categories

    def _versions(self) -> Sequence[LineageRow]:
        """Newest first."""
        players = self._registry.roles()
        return [self._row(version, players) for version in reversed(self._registry.versions())]

    def _row(self, version: ModelVersion, players: Mapping[Role, ModelVersion]) -> LineageRow:
        tags = self._registry.tags(version)
        return LineageRow(
            id=version.id,
            recipe=version.recipe,
            roles=[role for role, player in players.items() if player.id == version.id],
            created=self._registry.created(version),
            manifest_hash=version.manifest_hash,
            run_id=version.run_id,
            pipeline_run=tags.get(PIPELINE_RUN, ""),
            gate=tags.get("gate", ""),
            copy_of=tags.get(COPY_OF, ""),
        )
