"""New data start one run on Kubeflow Pipelines: the real client against a small server over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from immr.data.contract import IMPRESSIONS, ITEMS, QUERIES
from immr.data.sources.files import FilePart
from immr.errors import SettingsError
from pipelines import kubeflow
from pipelines.__main__ import app
from pipelines.new_data import NewData
from tests.pipelines import fake_kubeflow
from tests.pipelines.fake_kubeflow import Kept


@pytest.fixture
def server() -> Iterator[Kept]:
    with fake_kubeflow.serving() as kept:
        kept.pipelines.append({"pipeline_id": "immr-refresh", "display_name": "immr-refresh"})
        kept.add_version("immr-refresh", "1")
        yield kept


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for contract in (ITEMS, QUERIES, IMPRESSIONS):
        row = dict.fromkeys(contract.columns.names)
        pq.write_table(pa.Table.from_pylist([row], contract.columns), tmp_path / f"{contract.name}.parquet")
    return tmp_path


def export(shop: Path) -> None:
    """One more row of clicks."""
    file = shop / "impressions.parquet"
    rows = pq.read_table(file)
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), file)


def once(server: Kept, shop: Path, *options: str, exit_code: int = 0) -> str:
    command = ["on-new-data", str(shop), "--once", "--version", "1", "--endpoint", server.url, *options]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == exit_code, done.output
    return done.output


def watched(server: Kept, shop: Path) -> NewData:
    client = kubeflow.connect(server.url)
    experiment = client.create_experiment("immr").experiment_id

    def start(name: str) -> str:
        run = client.run_pipeline(
            experiment, job_name=name, pipeline_id="immr-refresh", version_id="immr-refresh-version-1"
        )
        return str(run.run_id)

    return NewData(client, str(shop), "refresh-concept", experiment, start)


def test_the_same_data_start_one_run(server: Kept, shop: Path) -> None:
    assert "started run runs-1" in once(
        server, shop, "--processes", "4", "--service-account", "immr-pipeline"
    )
    assert "no new data: run runs-1" in once(server, shop)
    [run] = server.runs
    assert run["runtime_config"]["parameters"]["data_uri"] == str(shop)
    assert run["runtime_config"]["parameters"]["processes"] == 4
    assert run["service_account"] == "immr-pipeline"


def test_a_run_waits_for_the_one_before_and_starts_once_it_has_ended(server: Kept, shop: Path) -> None:
    once(server, shop)
    export(shop)
    assert "waiting for run runs-1 to end" in once(server, shop, exit_code=3)
    server.runs[0]["state"] = "FAILED"
    assert "started run runs-2" in once(server, shop)
    assert server.runs[0]["display_name"] != server.runs[1]["display_name"]


def test_data_that_are_still_written_start_no_run(server: Kept, shop: Path) -> None:
    watching = watched(server, shop)
    assert "waiting until they stay the same" in watching.check().sentence
    export(shop)
    assert "waiting until they stay the same" in watching.check().sentence
    assert "started run runs-1" in watching.check().sentence
    assert "no new data" in watching.check().sentence


def test_a_run_whose_answer_got_lost_is_not_started_again(server: Kept, shop: Path) -> None:
    watching = watched(server, shop)
    watching.check()
    server.lose_answers = True
    assert watching.check_or_log() is None
    server.lose_answers = False
    assert "no new data: run runs-1" in watching.check().sentence
    assert len(server.runs) == 1


def test_a_share_that_is_away_is_tried_again(
    server: Kept, shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watching = watched(server, shop)
    away = shop.rename(shop.with_name("away"))
    assert watching.check_or_log() is None
    assert "the check failed and is repeated" in caplog.text
    away.rename(shop)
    assert "waiting until they stay the same" in watching.check().sentence


def test_a_pipeline_that_was_not_uploaded_is_named(server: Kept, shop: Path) -> None:
    server.versions.clear()
    with pytest.raises(SettingsError, match="run `python -m pipelines upload`"):
        once(server, shop)


def test_no_table_is_read(server: Kept, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FilePart, "batches", lambda *_: pytest.fail("the rows were read"))
    monkeypatch.setattr(FilePart, "state", lambda *_: pytest.fail("the content was read"))
    assert "started run runs-1" in once(server, shop)
    assert "no new data" in once(server, shop)


def test_the_pods_token_goes_with_each_request(
    server: Kept, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The component `new-data` mounts a token for Kubeflow Pipelines and names it in this variable."""
    (tmp_path / "token").write_text("of-the-pod")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    once(server, shop)
    assert server.authorizations == {"Bearer of-the-pod"}
