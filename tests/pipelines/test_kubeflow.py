"""upload, run --on-cluster and schedule, by the real client, against a small fake over real HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
API = "/apis/v2beta1"


class FakeKubeflow(BaseHTTPRequestHandler):
    """Pipelines with versions, experiments, runs and recurring runs; a client's bodies are kept."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, list[dict[str, Any]]]

    def log_message(self, *arguments: Any) -> None:
        return

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == f"{API}/healthz":
            return self._answer({"multi_user": False})
        if path == f"{API}/pipelines":
            wanted = json.loads(parse_qs(urlsplit(self.path).query)["filter"][0])["predicates"][0]
            there = [one for one in self.kept["pipelines"] if one["display_name"] == wanted["stringValue"]]
            return self._answer({"pipelines": there})
        if path.endswith("/versions"):
            pipeline = path.split("/")[-2]
            there = [one for one in self.kept["versions"] if one["pipeline_id"] == pipeline]
            return self._answer({"pipeline_versions": there})
        if path == f"{API}/experiments":
            return self._answer({"experiments": self.kept["experiments"]})
        return self._answer({"error": path}, 404)

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if parts.path == f"{API}/pipelines/upload":
            made = {"pipeline_id": query["name"], "display_name": query["name"]}
            self.kept["pipelines"].append(made)
            # as Kubeflow does: the first upload is a version too, of the pipeline's own name
            self.kept["versions"].append(made | {"pipeline_version_id": f"{query['name']}-first"})
        elif parts.path == f"{API}/pipelines/upload_version":
            assert query["pipelineid"].encode() in content  # a pipeline's id is its name here
            made = {
                "pipeline_version_id": f"{query['pipelineid']}-{query['name']}",
                "display_name": query["name"],
                "pipeline_id": query["pipelineid"],
            }
            self.kept["versions"].append(made)
        else:
            kind = parts.path.removeprefix(f"{API}/")
            number = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
            made = json.loads(content) | {number[kind]: f"{kind}-1"}
            self.kept[kind].append(made)
        return self._answer(made)

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def kubeflow() -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    kept: dict[str, list[dict[str, Any]]] = {
        kind: [] for kind in ("pipelines", "versions", "experiments", "runs", "recurringruns")
    }
    handler = type("Bound", (FakeKubeflow,), {"kept": kept})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", kept
        finally:
            server.shutdown()
            thread.join()


def pipelines(*arguments: str) -> str:
    command = [sys.executable, "-m", "pipelines", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_upload_run_and_schedule_use_one_version(kubeflow: Any) -> None:
    host, kept = kubeflow
    assert "version immr-refresh-2026-01" in pipelines("upload", "--host", host, "--version", "2026-01")
    said = pipelines(
        "run",
        "/immr/data/shop",
        "--on-cluster",
        "--host",
        host,
        "--version",
        "2026-01",
        "--workers",
        "4",
        "--no-deploy",
    )
    assert "started run runs-1" in said
    said = pipelines(
        "schedule",
        "/immr/data/shop",
        "--host",
        host,
        "--version",
        "2026-01",
        "--cron",
        "0 0 4 * * *",
        "--service-account",
        "immr-pipeline",
    )
    assert "scheduled recurringruns-1" in said
    versions = [one["display_name"] for one in kept["versions"] if one["pipeline_id"] == "immr-refresh"]
    assert versions == ["immr-refresh", "2026-01"]
    (run,), (recurring,) = kept["runs"], kept["recurringruns"]
    for made in (run, recurring):
        assert made["pipeline_version_reference"] == {
            "pipeline_id": "immr-refresh",
            "pipeline_version_id": "immr-refresh-2026-01",
        }
        assert made["runtime_config"]["parameters"]["data_uri"] == "/immr/data/shop"
    assert run.get("service_account") is None  # Kubeflow's own, as from the UI
    assert recurring["service_account"] == "immr-pipeline"
    assert run["runtime_config"]["parameters"]["workers"] == 4
    assert run["runtime_config"]["parameters"]["deploy"] is False
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert (recurring["max_concurrency"], recurring["no_catchup"]) == (1, True)


def test_mistakes_are_one_sentence() -> None:
    said = pipelines("upload", "--host", "http://127.0.0.1:9")
    assert "SettingsError: Kubeflow Pipelines does not answer" in said
    assert "Traceback" not in said
    assert "there is no recipe 'none'" in pipelines("schedule", "/immr/data/shop", "--recipe", "none")
