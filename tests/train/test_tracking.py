import json
import time

import pytest

from immr.train.tracking import Tracker
from tests.support.mlflow_server import free_port, mlflow_server


def _lines(journal):
    return [json.loads(line) for line in journal.read_text().splitlines()]


def _run_in(folder, name="mlflow.db"):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/{name}")
    experiment = client.create_experiment("tiny", artifact_location=str(folder))
    return client, client.create_run(experiment).info.run_id


def _losses(client, run_id):
    return sorted((each.step, each.value) for each in client.get_metric_history(run_id, "loss"))


def test_journal_without_mlflow(tmp_path):
    tracker = Tracker(tmp_path / "run" / "metrics.jsonl", None, None)
    tracker.params({"dim": 16})
    tracker.metrics({"loss": 1.5}, step=1)
    tracker.close()
    logged = [
        {name: record[name] for name in record if name != "ts_ms"}
        for record in _lines(tmp_path / "run" / "metrics.jsonl")
    ]
    assert logged == [{"params": {"dim": "16"}}, {"metrics": {"loss": 1.5}, "step": 1}]


def test_mlflow_receives_what_the_journal_has(tmp_path):
    client, run_id = _run_in(tmp_path)
    tracker = Tracker(tmp_path / "metrics.jsonl", f"sqlite:///{tmp_path}/mlflow.db", run_id)
    tracker.params({"dim": 16})
    for step in (1, 2, 3):
        tracker.metrics({"loss": 1.0 / step}, step=step)
    tracker.close()
    assert client.get_run(run_id).data.params == {"dim": "16"}
    assert _losses(client, run_id) == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]


def test_a_restarted_run_reports_each_number_once(tmp_path):
    """Killed after step 3, whose line in the journal is incomplete; the checkpoint was from step 1."""
    client, run_id = _run_in(tmp_path)
    journal = tmp_path / "metrics.jsonl"
    killed = Tracker(journal, None, None)
    killed.params({"dim": 16})
    for step in (1, 2, 3):
        killed.metrics({"loss": 1.0 / step}, step=step)
    journal.write_text(journal.read_text()[:-9])
    again = Tracker(journal, f"sqlite:///{tmp_path}/mlflow.db", run_id)
    again.params({"dim": 16})
    for step in (2, 3, 4):
        again.metrics({"loss": 1.0 / step}, step=step)
    again.close()
    assert _losses(client, run_id) == [(1, 1.0), (2, 0.5), (3, 1.0 / 3), (4, 0.25)]
    assert len(_lines(journal)) == 5


@pytest.mark.slow
def test_nothing_is_lost_if_mlflow_is_down_for_the_whole_run(tmp_path, caplog):
    """Nothing listens on its port until the run is over."""
    client, run_id = _run_in(tmp_path)
    port = free_port()
    tracker = Tracker(tmp_path / "metrics.jsonl", f"http://127.0.0.1:{port}", run_id)
    started = time.monotonic()
    tracker.params({"dim": 16})
    for step in range(20):
        tracker.metrics({"loss": 1.0 / (1 + step)}, step=step)
    assert time.monotonic() - started < 5
    tracker.close()
    assert len(_lines(tmp_path / "metrics.jsonl")) == 21
    assert "metrics.jsonl" in caplog.text
    assert _losses(client, run_id) == []
    with mlflow_server(tmp_path, port) as url:  # and the same command again
        Tracker(tmp_path / "metrics.jsonl", url, run_id).close()
    assert client.get_run(run_id).data.params == {"dim": "16"}
    assert _losses(client, run_id) == [(step, 1.0 / (1 + step)) for step in range(20)]


@pytest.mark.parametrize("run_id", ["not-there"])
def test_records_of_an_unknown_run_stay_in_the_journal(tmp_path, caplog, run_id):
    tracker = Tracker(tmp_path / "metrics.jsonl", f"sqlite:///{tmp_path}/mlflow.db", run_id)
    tracker.metrics({"loss": 1.0}, step=1)
    tracker.close()
    assert "metrics.jsonl" in caplog.text
