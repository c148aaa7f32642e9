"""Versions are registered once, with all their files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from immr.errors import RegistryError
from immr.registry.registry import Registry
from immr.registry.versions import Versions
from immr.types import ModelVersion
from tests.registry.conftest import open_registry, register, version_files


def test_a_version_is_read_back_with_all_fields(registry: Registry, home: Path) -> None:
    version = register(registry, home, "key-1", recipe="image_only")
    assert version == ModelVersion("immr", 1, "key-1", version.run_id, 8, "p1", "m1", "image_only")
    assert version.id == "immr-1"
    seen_by_another = open_registry(home)
    assert seen_by_another.find("key-1") == version
    assert seen_by_another.versions() == [version]
    assert seen_by_another.find("key-2") is None


def test_registering_a_key_again_changes_nothing(registry: Registry, home: Path) -> None:
    first = register(registry, home, "key-1")
    assert register(registry, home, "key-1") == first
    assert registry.versions() == [first]


def test_register_completes_an_interrupted_registration(registry: Registry, home: Path) -> None:
    run_id = registry.runs.start("concept", {}, key="key-1")
    half = home / "mlflow" / "artifacts" / run_id / "artifacts" / "version"
    half.mkdir(parents=True)
    (half / "card.json").write_text("{")
    assert registry.find("key-1") is None
    version = registry.register(
        version_files(home),
        "key-1",
        run_id,
        dim=8,
        preprocessing_hash="p",
        manifest_hash="m",
        recipe="concept",
    )
    assert version.number == 1
    assert (registry.fetch(version, home / "cache") / "card.json").read_text() == "{}"


def test_a_folder_without_files_is_not_registered(registry: Registry, home: Path) -> None:
    run_id = registry.runs.start("concept", {}, key="key-1")
    with pytest.raises(RegistryError, match="run `immr train` first"):
        registry.register(
            home / "nothing", "key-1", run_id, dim=8, preprocessing_hash="p", manifest_hash="m", recipe="r"
        )
    assert registry.versions() == []


def test_fetch_returns_the_artifact_folder_itself(registry: Registry, home: Path) -> None:
    version = register(registry, home, "key-1")
    folder = registry.fetch(version, home / "cache")
    assert folder == registry.fetch(version, home / "cache")
    assert {path.name for path in folder.iterdir()} == {"card.json", "query_encoder.onnx"}
    assert not (home / "cache").exists()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(RegistryError, match="files of immr-1 are missing"):
        registry.fetch(version, home / "cache")


def test_files_that_were_fetched_are_not_asked_for_again(
    registry: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(registry, home, "key-1")
    folder = registry.fetch(version, home / "cache")
    monkeypatch.setattr(Versions, "entry", lambda *_: pytest.fail("MLflow was asked"))
    assert registry.fetch(version, home / "cache") == folder


def test_lost_files_are_an_error_and_can_be_restored(registry: Registry, home: Path) -> None:
    version = register(registry, home, "a")
    shutil.rmtree(registry.fetch(version, home / "cache"))
    with pytest.raises(RegistryError, match="are missing"):
        registry.fetch(version, home / "cache")
    assert registry.restore(version, version_files(home)) == version
    assert list(registry.fetch(version, home / "cache").iterdir())


def test_versions_that_others_registered_are_ignored(registry: Registry, home: Path) -> None:
    from mlflow.tracking import MlflowClient

    first = register(registry, home, "key-1")
    url = f"sqlite:///{home}/mlflow/mlflow.db"
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    client.create_model_version("immr", (home / "trained").as_uri())
    assert registry.versions() == [first]
    with pytest.raises(RegistryError, match=r"known versions: immr-1$"):
        registry.get("2")


def test_a_file_can_be_attached_later_and_replaced(registry: Registry, home: Path) -> None:
    version = register(registry, home, "key-1")
    with registry.attached(version, "rule.json") as nothing:
        assert nothing is None
    for content in ("old", "new"):
        (home / "rule.json").write_text(content)
        registry.attach(version, home / "rule.json")
    with open_registry(home).attached(version, "rule.json") as attached:
        assert attached is not None and attached.read_text() == "new"
    assert not (registry.fetch(version, home / "cache") / "rule.json").exists()
