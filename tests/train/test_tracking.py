import json
import socket
import time

import pytest

from immr.train.tracking import Tracker


def _lines(journal):
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_journal_without_mlflow(tmp_path):
    tracker = Tracker(tmp_path / "run" / "metrics.jsonl", None, None)
    tracker.params({"dim": 16})
    tracker.metrics({"loss": 1.5}, step=1)
    tracker.close()
    expected = [{"params": {"dim": "16"}}, {"metrics": {"loss": 1.5}, "step": 1}]
    assert _lines(tmp_path / "run" / "metrics.jsonl") == expected


def test_mlflow_has_what_the_journal_has(tmp_path):
    from mlflow.tracking import MlflowClient

    url = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=url)
    run_id = client.create_run(client.create_experiment("tiny", artifact_location=str(tmp_path))).info.run_id
    tracker = Tracker(tmp_path / "metrics.jsonl", url, run_id)
    tracker.params({"dim": 16})
    for step in (1, 2, 3):
        tracker.metrics({"loss": 1.0 / step}, step=step)
    tracker.close()
    assert client.get_run(run_id).data.params == {"dim": "16"}
    history = client.get_metric_history(run_id, "loss")
    assert sorted((each.step, each.value) for each in history) == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]


def test_a_dead_mlflow_stops_nothing(tmp_path, caplog):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    tracker = Tracker(tmp_path / "metrics.jsonl", f"http://127.0.0.1:{port}", "run")
    started = time.monotonic()
    for step in range(20):
        tracker.metrics({"loss": 1.0}, step=step)
    assert time.monotonic() - started < 5
    tracker.close()
    assert len(_lines(tmp_path / "metrics.jsonl")) == 20
    assert "metrics.jsonl" in caplog.text


@pytest.mark.parametrize("run_id", ["not-there"])
def test_records_of_an_unknown_run_stay_in_the_journal(tmp_path, caplog, run_id):
    tracker = Tracker(tmp_path / "metrics.jsonl", f"sqlite:///{tmp_path}/mlflow.db", run_id)
    tracker.metrics({"loss": 1.0}, step=1)
    tracker.close()
    assert "metrics.jsonl" in caplog.text
