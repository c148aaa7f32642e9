"""What the page reads about versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dashboards.lineage import Lineage
from immr.data.training_set import TrainingSet
from immr.types import ModelVersion, Role


class Registry:
    """A champion that can change."""

    def __init__(self, manifest_hash: str) -> None:
        self.manifest_hash = manifest_hash

    def versions(self) -> list[ModelVersion]:
        return [ModelVersion("immr-1", 1, "key", "run", 8, "prep", self.manifest_hash, "none")]

    def roles(self) -> Mapping[Role, ModelVersion]:
        return {"champion": self.versions()[0]}

    def tags(self, version: ModelVersion) -> dict[str, str]:
        return {}

    def created(self, version: ModelVersion) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC)


def test_the_categories_of_a_training_set_are_read_once(
    training_set: TrainingSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry = Registry(training_set.hash)
    lineage = Lineage(registry, lambda: None, tmp_path / "drift.json", training_set.folder.parent, keep_s=0)
    assert lineage.categories() == training_set.categories
    opened: list[Any] = []
    monkeypatch.setattr("dashboards.lineage.find_training_set", lambda *wanted: opened.append(wanted))
    assert lineage.categories.renewed() == training_set.categories
    assert not opened


def test_without_the_champions_training_set_there_are_no_categories(
    training_set: TrainingSet, tmp_path: Path
) -> None:
    lineage = Lineage(
        Registry("another"), lambda: None, tmp_path / "drift.json", training_set.folder.parent, keep_s=0
    )
    assert lineage.categories() == {}


@pytest.mark.parametrize("name", [".next.x1", "broken"])
def test_a_training_set_that_is_being_written_or_broken_is_skipped(
    training_set: TrainingSet, tmp_path: Path, name: str
) -> None:
    unfinished = tmp_path / "sets" / name
    unfinished.mkdir(parents=True)
    (unfinished / "manifest.json").write_text('{"hash": ')
    (tmp_path / "sets" / "kept").symlink_to(training_set.folder)
    lineage = Lineage(
        Registry(training_set.hash), lambda: None, tmp_path / "drift.json", tmp_path / "sets", keep_s=0
    )
    assert lineage.categories() == training_set.categories
