"""The registry on a real MLflow server, as on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from immr.errors import RegistryError
from immr.registry.registry import Registry
from tests.support import s3_process
from tests.support.mlflow_server import free_port, mlflow_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["sqlite", "postgres", "s3"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, backend = tmp_path_factory.mktemp("server"), ""
    if request.param == "postgres":  # with the driver that k8s/base/mlflow names
        backend = request.getfixturevalue("postgres").url.replace("postgresql:", "postgresql+psycopg:")
    else:
        Registry(f"sqlite:///{folder}/mlflow.db", "immr", folder / "promotions.jsonl").versions()
    with ExitStack() as stack:
        artifacts, environment = "", {}
        if request.param == "s3":  # as the component mlflow-s3 sets it up
            pytest.importorskip("boto3", reason="boto3 is not installed: `make setup`")
            environment = stack.enter_context(s3_process.serving(folder / "s3"))
            environment["MLFLOW_S3_ENDPOINT_URL"] = environment["AWS_ENDPOINT_URL"]
            artifacts = f"s3://{s3_process.BUCKET}/mlflow"
        yield stack.enter_context(mlflow_server(folder, free_port(), backend, artifacts, environment))


def test_a_version_is_stored_on_a_server_and_fetched_back(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(server, "immr", tmp_path / "promotions.jsonl")
    with pytest.raises(RegistryError, match="none is registered yet"):
        registry.get("champion")
    run_id = registry.runs.start("concept", {"dim": 8}, key="key-1")
    assert registry.runs.start("concept", {"dim": 8}, key="key-1") == run_id
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "card.json").write_text("{}")
    version = registry.register(
        tmp_path / "trained",
        "key-1",
        run_id,
        dim=8,
        preprocessing_hash="p",
        manifest_hash="m",
        recipe="concept",
    )
    registry.runs.log_metrics(run_id, {"recall@1": 0.5})
    registry.runs.log_report(run_id, tmp_path / "trained" / "card.json", "gallery.html")
    registry.runs.finish(run_id)
    assert registry.find("key-1") == version

    registry.set_role("champion", version)
    assert registry.get("champion") == registry.role("champion") == version
    registry.record_decision("keep", "No challenger.", {}, version, None)
    assert '"keep"' in registry.tags(version)["immr.decision"]
    registry.clear_roles()
    assert registry.role("champion") is None

    folder = registry.fetch(version, tmp_path / "cache")
    assert (folder / "card.json").read_text() == "{}"
    (folder / "card.json").write_text("kept")
    assert (registry.fetch(version, tmp_path / "cache") / "card.json").read_text() == "kept"
    assert capsys.readouterr().out == ""
