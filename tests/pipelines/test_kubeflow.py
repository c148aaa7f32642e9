"""upload, run --on-cluster and schedule: the real client against a small server over real HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.errors import RecipeError, SettingsError
from pipelines import kubeflow
from pipelines.__main__ import app
from tests.pipelines import fake_kubeflow
from tests.pipelines.fake_kubeflow import Kept


@pytest.fixture
def server() -> Iterator[Kept]:
    with fake_kubeflow.serving() as kept:
        yield kept


@pytest.fixture
def already_compiled(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads send files that are compiled once for all tests."""
    monkeypatch.setattr(
        kubeflow, "compile_to", lambda name, folder: shutil.copy(compiled / f"{name}.yaml", folder)
    )


def pipelines(server: Kept, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--endpoint", server.url], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("already_compiled")
def test_run_and_schedule_use_the_version_that_was_uploaded(server: Kept) -> None:
    kubeflow.upload(kubeflow.connect(server.url), "refresh", "2026-01")
    run = [
        "run",
        "/immr/data/shop",
        "--on-cluster",
        "--version",
        "2026-01",
        "--processes",
        "4",
        "--no-deploy",
    ]
    assert "started run runs-1" in pipelines(server, *run)
    schedule = ["schedule", "/immr/data/shop", "--version", "2026-01", "--cron", "0 0 4 * * *"]
    output = pipelines(server, *schedule, "--service-account", "immr-pipeline")
    assert "scheduled recurringruns-1" in output
    assert server.version_names("immr-refresh") == ["2026-01"]
    (started,), (recurring,) = server.runs, server.recurringruns
    for made in (started, recurring):
        assert made["pipeline_version_reference"] == {
            "pipeline_id": "immr-refresh",
            "pipeline_version_id": "immr-refresh-version-2026-01",
        }
        assert made["runtime_config"]["parameters"]["data_uri"] == "/immr/data/shop"
    assert started.get("service_account") is None  # Kubeflow's own, as for a run from the UI
    assert recurring["service_account"] == "immr-pipeline"
    assert started["runtime_config"]["parameters"]["processes"] == 4
    assert started["runtime_config"]["parameters"]["deploy"] is False
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert (recurring["max_concurrency"], recurring["no_catchup"]) == (1, True)


@pytest.mark.usefixtures("already_compiled")
def test_upload_leaves_one_version_of_each_pipeline(server: Kept) -> None:
    """Kubeflow also creates a version named after the pipeline from the first upload."""
    output = pipelines(server, "upload", "--version", "2026-01")
    assert "immr-refresh: pipeline immr-refresh, version immr-refresh-version-2026-01" in output
    for name in kubeflow.PIPELINES:
        assert server.version_names(f"immr-{name}") == ["2026-01"]


@pytest.mark.usefixtures("already_compiled")
def test_with_profiles_pipelines_are_uploaded_to_the_namespace(server: Kept) -> None:
    """They were shared by all profiles, which a profile's user may not write to."""
    server.profiles = True
    server.pipelines.append({"pipeline_id": "theirs", "display_name": "immr-refresh", "namespace": "others"})
    profile = ["--namespace", "immr", "--version", "2026-01"]
    for _ in range(2):
        pipelines(server, "upload", *profile)
    pipelines(server, "run", "/immr/data/shop", "--on-cluster", *profile)
    pipelines(server, "schedule", "/immr/data/shop", *profile)
    assert {one["namespace"] for one in server.pipelines} == {"others", "immr"}
    assert server.version_names("immr-refresh-in-immr") == ["2026-01"] and not server.version_names("theirs")
    for made in (*server.runs, *server.recurringruns):
        assert made["pipeline_version_reference"]["pipeline_id"] == "immr-refresh-in-immr"


def test_an_existing_version_is_found_on_a_later_page_and_not_uploaded(server: Kept) -> None:
    server.page_size = 2
    server.pipelines.append({"pipeline_id": "immr-decide", "display_name": "immr-decide"})
    for number in range(5):
        server.add_version("immr-decide", f"2026-0{number}")
    client = kubeflow.connect(server.url)
    assert kubeflow.upload(client, "decide", "2026-04")[1] == "immr-decide-version-2026-04"
    assert server.uploads == 0


@pytest.mark.usefixtures("already_compiled")
def test_an_upload_asks_for_the_pipeline_once(server: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    client = kubeflow.connect(server.url)
    asked = []
    really = client.list_pipelines
    monkeypatch.setattr(client, "list_pipelines", lambda **given: (asked.append(given), really(**given))[1])
    for _ in range(2):
        kubeflow.upload(client, "decide", "1")
    assert len(asked) == 2


def test_upload_compiles_only_the_pipeline_it_uploads(server: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    really = kubeflow.compile_to
    monkeypatch.setattr(
        kubeflow, "compile_to", lambda name, folder: (compiled.append(name), really(name, folder))[1]
    )
    client = kubeflow.connect(server.url)
    kubeflow.upload(client, "decide", "1")
    kubeflow.upload(client, "decide", "1")
    assert compiled == ["decide"]


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(SettingsError, match=r"does not answer at http://127\.0\.0\.1:9 .*KFP_ENDPOINT"):
        kubeflow.connect("http://127.0.0.1:9")


def test_an_unknown_recipe_is_refused_before_the_server_is_asked() -> None:
    with pytest.raises(RecipeError, match="'none'"):
        CliRunner().invoke(app, ["schedule", "/immr/data", "--recipe", "none"], catch_exceptions=False)
