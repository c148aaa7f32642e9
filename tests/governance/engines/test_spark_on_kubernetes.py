"""Spark asks an API server for executors: the real driver in client mode, against a stand-in for the server.

No executor starts here: the stand-in notes the pods that Spark creates.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from immr.errors import SettingsError
from immr.governance.engines import spark_on_kubernetes
from tests.support.patience import until
from tests.support.stand_in_server import JsonHandler

DRIVER = """
import sys
from immr.governance.engines import spark_on_kubernetes
from immr.governance.engines.spark_engine import SparkEngine

options = {"scratch": "/immr", "spark.executor.instances": "2", "spark.driver.host": "127.0.0.1",
           "spark.driver.port": "0", "spark.driver.blockManager.port": "0",
           "spark.kubernetes.driver.pod.name": "step"}
engine = SparkEngine(f"k8s://{sys.argv[1]}", spark_on_kubernetes.settings("shop", options), "k8s://shop")
print("started", flush=True)
sys.stdin.read()
engine.close()
"""


@contextmanager
def api_server() -> Iterator[tuple[str, list[dict[str, Any]], list[str]]]:
    """Its URL, the pods that were created, and the paths that were called."""
    created: list[dict[str, Any]] = []
    called: list[str] = []

    class Handler(JsonHandler):
        def parse_request(self) -> bool:
            parsed = super().parse_request()
            if parsed:
                called.append(f"{self.command} {self.path.split('?')[0]}")
            return parsed

        def do_GET(self) -> None:
            if "watch=true" in self.path:
                self.answer({})
            elif self.path.split("?")[0].endswith("/pods/step"):
                metadata = {"name": "step", "namespace": "shop", "uid": "of-the-step"}
                self.answer({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
            else:
                self.answer({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []})

        def do_POST(self) -> None:
            pod = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            created.append(pod)
            self.answer(pod, 201)

        def do_DELETE(self) -> None:
            self.answer({})

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", created, called
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_the_driver_creates_executors_that_follow_our_conventions() -> None:
    pytest.importorskip("pyspark", reason="Spark is not installed: `make spark`")
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        pytest.skip("Spark needs Java: `make spark` installs it where apt is at hand")
    environment = {**os.environ, "IMMR_PIPELINE_IMAGE": "immr/spark:1"}
    with api_server() as (url, created, called):
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, url],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: len(created) >= 2 or driver.poll() is not None, 240, lambda: called)
        finally:
            _, errors = driver.communicate("", timeout=120)
    assert driver.returncode == 0, errors
    pod = created[0]
    assert {path.split("/")[5] for _, path in map(str.split, called)} == {"pods"}, "all that its Role allows"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "of-the-step"
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "immr-spark"
    spec = pod["spec"]
    assert spec["serviceAccountName"] == spark_on_kubernetes.ACCOUNT
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert {"name": "home", "persistentVolumeClaim": {"claimName": "immr-home"}} in spec["volumes"]
    (container,) = spec["containers"]
    assert container["image"] == "immr/spark:1"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"name": "home", "mountPath": "/immr"} in container["volumeMounts"]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])


def test_the_image_of_the_executors_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMMR_PIPELINE_IMAGE", raising=False)
    with pytest.raises(SettingsError, match="IMMR_PIPELINE_IMAGE"):
        spark_on_kubernetes.settings("shop", {"scratch": "/immr"})
