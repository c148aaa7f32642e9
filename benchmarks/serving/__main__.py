"""How fast is a version served? The whole path, JPEG in and hits with features out, beside two peers.

    IMMR_HOME=.immr/demo python -m benchmarks.serving ../shared/data/grocery/val --json serving.json

Needs the home of a run (`make demo` leaves one) with a champion, and a folder of JPEGs. The Bento is built
from this source tree. In one run, one after the other because they share the processor: the limit (ONNX
Runtime on ready tensors), FastAPI with eager torch (both in `peers.py`), the Bento, the gateway.

`core_scaling` is the Bento's throughput on all cores as a multiple of its throughput on one. On one, the load
generator has the others for itself; on all, it shares them, so the figure is rather too low.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import typer
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.figures import JsonFile, write_figures
from benchmarks.serving.table import show
from immr.deploy import process_marks
from immr.deploy.bento_process import BentoProcess
from immr.deploy.deployer import Deployment
from immr.deploy.readiness import not_ready_because
from immr.experiment.definition import CHAMPION, Experiment, Variant
from immr.experiment.file import save
from immr.index.collection_names import collection_name
from immr.packaging import bento
from immr.packaging.application import application_folder
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import connect

READY_TIMEOUT_S = 120.0
LOAD_SHARE = 0.7
"""Of its greatest throughput: the load at which the tail is looked at."""


def main(
    photos: Annotated[Path, typer.Argument(help="a folder of JPEGs")],
    seconds: Annotated[float, typer.Option(help="of each measurement")] = 6.0,
    connections: int = 8,
    json_file: JsonFile = None,
) -> None:
    """Measure, print a table, and write the figures."""
    given = Settings()
    registry = connect(given).registry
    version = registry.get("champion")
    folder = registry.fetch(version, given.cache_dir)
    with tempfile.TemporaryDirectory(prefix="immr-benchmark-") as temporary:
        own = Settings(home=Path(temporary), index_url=given.index_url, features_url=given.features_url)
        run = Run(own, version, folder, photos, seconds, connections)
        figures = run.all()
    show(figures)
    write_figures(json_file, figures)


class Run:
    """One run on one version; what it writes goes to a home of its own."""

    def __init__(
        self,
        settings: Settings,
        version: ModelVersion,
        folder: Path,
        photos: Path,
        seconds: float,
        connections: int,
    ) -> None:
        self._settings = settings
        self._version = version
        self._folder = folder
        self._photos = photos
        self._seconds = seconds
        self._connections = connections

    def all(self) -> dict[str, float]:
        """Every figure."""
        figures = {"onnxruntime_per_s": self._limit()}
        with self._fastapi() as url:
            figures["fastapi_torch_per_s"] = self._throughput(url)
        figures |= self._bento()
        # again at the end, because a shared machine's speed drifts
        figures["onnxruntime_per_s"] = (figures["onnxruntime_per_s"] + self._limit()) / 2
        ours = figures["bento_per_s"]
        figures["throughput_vs_fastapi_torch"] = ours / figures["fastapi_torch_per_s"]
        figures["throughput_vs_onnxruntime"] = ours / figures["onnxruntime_per_s"]
        return figures

    def _limit(self) -> float:
        command = [
            "benchmarks.serving.peers",
            "onnxruntime",
            str(self._folder),
            f"--seconds={self._seconds / 2}",
        ]
        return float(_output(command))

    @contextmanager
    def _fastapi(self) -> Iterator[str]:
        collection = Path(urlsplit(self._settings.index_url).path) / collection_name(self._version.id)
        content = collection / (collection / "current").read_text() / "data"
        features = urlsplit(self._settings.features_url).path
        port = _free_port()
        command = ["fastapi", str(self._folder), str(content), features, str(port)]
        with _process("benchmarks.serving.peers", *command, port=port) as url:
            yield url

    def _bento(self) -> dict[str, float]:
        settings = self._settings
        tag = bento.build(
            self._version,
            self._folder,
            RankingRecipe(),
            application_folder() / "serving",
            settings.bento_home,
        )
        url = f"http://127.0.0.1:{_free_port()}"
        deployment = Deployment("champion", self._version.id, tag, url)
        environment = {**os.environ, **settings.environment(), "BENTOML_HOME": str(settings.bento_home)}
        start = time.perf_counter()
        process = BentoProcess.start(deployment, environment, settings.home / "deployments", self._version.id)
        try:
            photo = next(self._photos.rglob("*.jpg")).read_bytes()
            _wait_until(lambda: _answers(url, photo))
            figures = {"cold_start_s": time.perf_counter() - start}
            process.wait_until_ready(time.monotonic() + READY_TIMEOUT_S)
            figures["features_ready_s"] = time.perf_counter() - start
            worker = _worker(process.mark)
            cpu_s = sum(worker.cpu_times()[:2])
            figures["bento_per_s"] = self._throughput(url)
            searches, _ = _stages(url)["total"]
            figures["worker_cpu_ms"] = 1000 * (sum(worker.cpu_times()[:2]) - cpu_s) / searches
            with _on_one_core(worker):
                figures["core_scaling"] = figures["bento_per_s"] / self._throughput(url)
            figures |= self._tail(url, LOAD_SHARE * figures["bento_per_s"])
            before = _stages(url)
            figures |= self._gateway(url)
            after = _stages(url)
            for stage, (count, total_s) in after.items():  # of searches one after the other
                asked, spent_s = count - before[stage][0], total_s - before[stage][1]
                figures[f"{stage}_ms"] = 1000 * spent_s / asked
            figures["memory_mb"] = worker.memory_info().rss / 1024 / 1024
        finally:
            process.stop()
        return figures

    def _tail(self, url: str, rate: float) -> dict[str, float]:
        latencies_ms = self._load(url, f"--rate={rate}", f"--seconds={2 * self._seconds}")["latencies_ms"]
        p50, p99 = np.percentile(latencies_ms, [50, 99])
        return {
            "p50_at_70_ms": float(p50),
            "p99_at_70_ms": float(p99),
            "p99_over_p50_at_70": float(p99 / p50),
        }

    def _gateway(self, bento_url: str) -> dict[str, float]:
        champion = Variant(CHAMPION, bento_url, self._version.id, 1.0)
        save(Experiment("benchmark", "salt", (champion,)), self._settings.experiment_file)
        port = _free_port()
        medians: dict[str, list[float]] = {"bento": [], "gateway": []}
        with _process(
            "serving.gateway", f"--port={port}", port=port, environment=self._settings.environment()
        ) as url:
            for _ in range(3):  # in turns, because a shared machine's speed drifts
                for name, address in (("bento", bento_url), ("gateway", url)):
                    seen = self._load(address, "--connections=1", f"--seconds={self._seconds / 3}")
                    medians[name].append(float(np.median(seen["latencies_ms"])))
        bento_ms, gateway_ms = (float(np.median(medians[name])) for name in ("bento", "gateway"))
        return {
            "bento_p50_ms": bento_ms,
            "gateway_p50_ms": gateway_ms,
            "gateway_overhead_ms": gateway_ms - bento_ms,
        }

    def _throughput(self, url: str) -> float:
        self._load(url, f"--connections={self._connections}", "--seconds=2")  # warm up
        return float(
            self._load(url, f"--connections={self._connections}", f"--seconds={self._seconds}")["per_s"]
        )

    def _load(self, url: str, *options: str) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(
            _output(["benchmarks.serving.load", url, str(self._photos), *options])
        )
        if set(seen["statuses"]) != {"200"}:
            raise SystemExit(f"{url} did not answer every request: {seen['statuses']}")
        return seen


def _output(command: list[str]) -> str:
    done = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


@contextmanager
def _process(
    module: str, *arguments: str, port: int, environment: dict[str, str] | None = None
) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env={**os.environ, **(environment or {})}
    )
    try:
        _wait_until(lambda: process.poll() is not None or not_ready_because(url) is None)
        if process.poll() is not None:
            raise SystemExit(f"{module} ended with {process.returncode}")
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str, photo: bytes) -> bool:
    """Whether searches are answered, even without features."""
    try:
        return httpx.post(f"{url}/v1/search", files={"image": photo}).status_code == 200
    except httpx.HTTPError:
        return False


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not ready after {READY_TIMEOUT_S:g} s")
        time.sleep(0.1)


def _worker(mark: str) -> psutil.Process:
    """The largest process that carries the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(process_marks.MARK) == mark:
                found.append((process.memory_info().rss, process.pid))
        except (psutil.Error, OSError):
            continue
    return psutil.Process(max(found)[1])


@contextmanager
def _on_one_core(process: psutil.Process) -> Iterator[None]:
    """Let all threads of the process share one core, which leaves the others to the load generator."""
    cores = os.sched_getaffinity(process.pid)
    _allow(process, {min(cores)})
    try:
        yield
    finally:
        _allow(process, cores)


def _allow(process: psutil.Process, cores: set[int]) -> None:
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores)


def _stages(url: str) -> dict[str, tuple[float, float]]:
    """How often each stage of a search was passed so far, and the seconds spent in it, from /metrics."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            if family.name == "immr_stage_seconds" and "le" not in sample.labels:
                found.setdefault(sample.labels["stage"], {})[sample.name.rsplit("_", 1)[1]] = sample.value
    return {stage: (values["count"], values["sum"]) for stage, values in found.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    typer.run(main)
