from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.errors import RegistryError
from immr.registry.registry import Registry
from immr.types import ModelVersion

HIDES_TELEMETRY = ("PYTEST_CURRENT_TEST", "CI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def another(registry: Registry, home: Path) -> Registry:
    """The same registry as another process opens it."""
    return Registry(f"sqlite:///{home}/mlflow/mlflow.db", "immr", home / "promotions.jsonl")


def files(home: Path, content: str = "{}") -> Path:
    folder = home / "trained"
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(content)
    (folder / "query_encoder.onnx").write_bytes(b"onnx")
    return folder


def register(registry: Registry, home: Path, key: str, recipe: str = "concept") -> ModelVersion:
    run_id = registry.runs.start(recipe, {"dim": 8}, key=key)
    version = registry.register(
        files(home), key, run_id, dim=8, preprocessing_hash="p1", manifest_hash="m1", recipe=recipe
    )
    registry.runs.finish(run_id)
    return version


def test_an_empty_registry_asks_for_a_training(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.find("k") is None
    assert registry.role("champion") is None
    registry.clear_roles()
    with pytest.raises(RegistryError, match="none is registered yet: run `immr train`"):
        registry.get("champion")


def test_a_version_is_read_back_with_all_fields(registry: Registry, home: Path) -> None:
    made = register(registry, home, "key-1", recipe="image_only")
    assert made == ModelVersion("immr", 1, "key-1", made.run_id, 8, "p1", "m1", "image_only")
    assert made.id == "immr-1"
    seen_by_another = another(registry, home)
    assert seen_by_another.find("key-1") == made
    assert seen_by_another.versions() == [made]
    assert seen_by_another.find("key-2") is None


@pytest.mark.parametrize("reference", ["immr-2", "2", "challenger"])
def test_a_version_is_found_by_id_number_or_role(registry: Registry, home: Path, reference: str) -> None:
    register(registry, home, "key-1")
    second = register(registry, home, "key-2")
    registry.set_role("challenger", second)
    assert registry.get(reference) == second


@pytest.mark.parametrize("reference", ["immr-9", "9", "best", "champion", "other-1", ""])
def test_an_unknown_reference_is_an_error_that_lists_the_versions(
    registry: Registry, home: Path, reference: str
) -> None:
    register(registry, home, "key-1")
    second = register(registry, home, "key-2")
    registry.set_role("challenger", second)
    with pytest.raises(RegistryError, match=r"known versions: immr-1, immr-2 \(challenger\)"):
        registry.get(reference)


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
        files(home), "key-1", run_id, dim=8, preprocessing_hash="p", manifest_hash="m", recipe="concept"
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


def test_lost_files_are_an_error_and_can_be_restored(registry: Registry, home: Path) -> None:
    version = register(registry, home, "a")
    shutil.rmtree(registry.fetch(version, home / "cache"))
    with pytest.raises(RegistryError, match="are missing"):
        registry.fetch(version, home / "cache")
    assert registry.restore(version, files(home)) == version
    assert list(registry.fetch(version, home / "cache").iterdir())


def test_an_unfinished_run_is_resumed_and_a_finished_one_is_not(registry: Registry, home: Path) -> None:
    first = registry.runs.start("concept", {"train": {"epochs": 3, "seed": 0}}, {"who": "test"}, key="k")
    assert another(registry, home).runs.start("concept", {"train": {"epochs": 9}, "new": 1}, key="k") == first
    registry.runs.finish(first, failed=True)
    assert registry.runs.start("concept", {}, key="k") == first
    assert registry.runs.start("concept", {}, key="other") != first
    registry.runs.finish(first)
    assert registry.runs.start("concept", {}, key="k") != first


def test_params_metrics_and_reports_reach_mlflow(registry: Registry, home: Path) -> None:
    from mlflow.tracking import MlflowClient

    params = {"train": {"epochs": 3}, "long": "x" * 7000, **{f"p{number}": number for number in range(150)}}
    run_id = registry.runs.start("concept", params, {"who": "test"}, key="k")
    registry.runs.log_metrics(run_id, {"recall@1": 0.5, "loss": 2})
    registry.runs.log_metrics(run_id, {"loss": 1.5}, step=1)
    report = home / "some.html"
    report.write_text("<p>hello")
    registry.runs.log_report(run_id, report, "gallery.html")

    url = f"sqlite:///{home}/mlflow/mlflow.db"
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    run = client.get_run(run_id)
    assert run.info.run_name == "concept"
    assert run.data.params["train.epochs"] == "3"
    assert len(run.data.params) == 152
    assert run.data.metrics == {"recall_at_1": 0.5, "loss": 1.5}
    assert run.data.tags["who"] == "test"
    assert [entry.path for entry in client.list_artifacts(run_id, "reports")] == ["reports/gallery.html"]


def test_roles_move_between_versions_and_are_cleared(registry: Registry, home: Path) -> None:
    first, second = register(registry, home, "key-1"), register(registry, home, "key-2")
    registry.set_role("champion", first)
    registry.set_role("challenger", second)
    assert (registry.role("champion"), registry.role("challenger")) == (first, second)
    registry.set_role("champion", second)
    registry.clear_role("challenger")
    assert (registry.role("champion"), registry.role("challenger")) == (second, None)
    registry.clear_roles()
    assert registry.role("champion") is None


def test_a_version_can_hold_both_roles(registry: Registry, home: Path) -> None:
    first = register(registry, home, "key-1")
    registry.set_role("champion", first)
    registry.set_role("challenger", first)
    with pytest.raises(RegistryError, match=r"immr-1 \(challenger, champion\)"):
        registry.get("7")


def test_setting_a_tag_again_replaces_its_value(registry: Registry, home: Path) -> None:
    first = register(registry, home, "key-1")
    registry.tag(first, "gate", "no")
    registry.tag(first, "gate", "yes")
    assert registry.tags(first)["gate"] == "yes"


def test_a_decision_is_logged_and_tagged_on_the_version(registry: Registry, home: Path) -> None:
    first, second = register(registry, home, "key-1"), register(registry, home, "key-2")
    ts = datetime(2025, 1, 2, tzinfo=UTC)
    made = registry.record_decision("promote", "It earned more clicks.", {"lift": 0.1}, first, second, ts)
    assert made == {
        "ts": "2025-01-02T00:00:00+00:00",
        "action": "promote",
        "reason": "It earned more clicks.",
        "numbers": {"lift": 0.1},
        "champion": "immr-1",
        "challenger": "immr-2",
    }
    registry.record_decision("wait", "Too early.", {}, first, None, ts)
    assert [decision["action"] for decision in another(registry, home).decisions()] == ["promote", "wait"]
    assert '"promote"' in registry.tags(second)["immr.decision"]
    assert '"wait"' in registry.tags(first)["immr.decision"]


def test_versions_that_others_registered_are_ignored(registry: Registry, home: Path) -> None:
    from mlflow.tracking import MlflowClient

    first = register(registry, home, "key-1")
    url = f"sqlite:///{home}/mlflow/mlflow.db"
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    client.create_model_version("immr", (home / "trained").as_uri())
    assert registry.versions() == [first]
    with pytest.raises(RegistryError, match=r"known versions: immr-1$"):
        registry.get("2")


def test_a_refusal_by_mlflow_is_a_registry_error(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="failed in set_terminated"):
        registry.runs.finish("no-such-run")


@pytest.mark.parametrize("url", ["postgresql://db/mlflow", "mlflow.db", ""])
def test_urls_of_other_schemes_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="not a registry URL"):
        Registry(url, "immr", tmp_path / "promotions.jsonl")


def test_mlflow_starts_no_threads_and_prints_nothing(registry: Registry, home: Path) -> None:
    code = (
        "import sys, threading; from pathlib import Path; from immr.registry.registry import Registry\n"
        "home = Path(sys.argv[1])\n"
        "registry = Registry(f'sqlite:///{home}/mlflow/mlflow.db', 'immr', home / 'log.jsonl')\n"
        "assert 'mlflow' not in sys.modules, 'imported too early'\n"
        "registry.runs.start('concept', {}, key='k')\n"
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)],
        capture_output=True,
        text=True,
        cwd=home,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name not in HIDES_TELEMETRY},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in home.iterdir()) == ["mlflow"]


@pytest.mark.slow
def test_two_processes_can_create_the_database_at_the_same_time(tmp_path: Path) -> None:
    """The second waits for the first and uses its database."""
    code = (
        "import sys; from pathlib import Path; from immr.registry.registry import Registry\n"
        "home = Path(sys.argv[1])\n"
        "registry = Registry(f'sqlite:///{home}/new/mlflow.db', 'immr', home / 'log.jsonl')\n"
        "print(registry.runs.start('concept', {}, key=sys.argv[2]))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), key], stdout=subprocess.PIPE, text=True)
        for key in ("a", "b")
    ]
    first, second = (process.communicate(timeout=120)[0].strip() for process in running)
    assert [process.returncode for process in running] == [0, 0]
    registry = Registry(f"sqlite:///{tmp_path}/new/mlflow.db", "immr", tmp_path / "log.jsonl")
    assert registry.runs.start("concept", {}, key="a") == first
    assert registry.runs.start("concept", {}, key="b") == second


def test_importing_mlflow_triggers_no_garbage_collection(home: Path) -> None:
    """Every rollback waits for this import. A second registry in the same process freezes nothing more."""
    code = (
        "import gc, sys\n"
        "from pathlib import Path\n"
        "from immr.registry.registry import Registry\n"
        "def ask():\n"
        "    home = Path(sys.argv[1])\n"
        "    Registry(f'sqlite:///{home}/mlflow/mlflow.db', 'immr', home / 'promotions.jsonl').versions()\n"
        "    return gc.get_freeze_count()\n"
        "looked = []\n"
        "gc.callbacks.append(lambda phase, info: looked.append('mlflow' in sys.modules))\n"
        "assert ask() > 100_000\n"
        "assert looked.count(True) < 20, looked.count(True)\n"
        "assert gc.isenabled()\n"
        "before = gc.get_freeze_count()\n"
        "assert ask() <= before\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
