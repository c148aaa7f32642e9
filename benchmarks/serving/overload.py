"""Overload of gateway and Bento: how many searches are still answered, and how fast it recovers.

    IMMR_HOME=.immr/demo python -m benchmarks.serving.overload ../shared/data/grocery/val --json overload.json

Needs what `benchmarks.serving` needs. Capacity is measured in a closed loop. Then an open loop, whose
clients do not wait for answers, sends a multiple of it; then recovery is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil  # type: ignore[import-untyped]
import typer

from benchmarks.figures import JsonFile, write_figures
from benchmarks.serving.table import show
from immr.deploy.readiness import not_ready_because
from immr.experiment.definition import CHAMPION, Experiment, Variant
from immr.experiment.file import save
from immr.packaging import bento
from immr.packaging.application import application_folder
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from immr.wiring import connect

READY_TIMEOUT_S = 120.0
PORT = 8099
RECOVERED_SHARE = 1.5
"""The service has recovered when a search takes no longer than this times what it took before."""


def main(
    photos: Annotated[Path, typer.Argument(help="a folder of JPEGs")],
    seconds: Annotated[float, typer.Option(help="of overload")] = 60.0,
    times: Annotated[float, typer.Option(help="of the capacity")] = 3.0,
    json_file: JsonFile = None,
) -> None:
    """Measures, prints a table, and writes the figures."""
    given = Settings()
    with tempfile.TemporaryDirectory(prefix="immr-overload-") as temporary:
        own = Settings(home=Path(temporary), index_url=given.index_url, features_url=given.features_url)
        with _services(given, own) as url:
            figures = _figures(url, photos, seconds, times, own)
    show(figures)
    write_figures(json_file, figures)


def _figures(url: str, photos: Path, seconds: float, times: float, settings: Settings) -> dict[str, float]:
    def load(*options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.serving.load", url, str(photos), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    photo = next(iter(sorted(photos.rglob("*.jpg"))))
    load("--seconds=3")  # warm up
    before = load("--connections=8", "--seconds=10")["per_s"]
    quiet_s = _search_s(url, photo)
    load(f"--rate={times * before}", "--seconds=5")  # buffers and pools grow to their size once
    memory_mb = _memory_mb(settings)
    overload = load(f"--rate={times * before}", f"--seconds={seconds}")
    ended = time.monotonic()
    _until(lambda: _search_s(url, photo, repeats=1) <= RECOVERED_SHARE * quiet_s)
    recovery_s = time.monotonic() - ended
    # again at the end, because a shared machine's speed drifts
    capacity = (before + load("--connections=8", "--seconds=10")["per_s"]) / 2
    statuses = {int(status): count for status, count in overload["statuses"].items()}
    asked = sum(statuses.values())
    return {
        "capacity_per_s": capacity,
        "capacity_before_per_s": before,
        "asked_per_s": asked / seconds,
        "goodput_per_s": overload["per_s"],
        "goodput_share": overload["per_s"] / capacity,
        "rejected_share": statuses.get(429, 0) / asked,
        "rejected_without_retry_after": overload["without_retry_after"],
        "server_errors": sum(count for status, count in statuses.items() if status >= 500),
        "connections_lost": statuses.get(0, 0),
        "p99_of_answers_ms": overload["latencies_ms"][int(0.99 * len(overload["latencies_ms"]))],
        "memory_before_mb": memory_mb,
        "memory_growth": _memory_mb(settings) / memory_mb - 1,
        "recovery_s": recovery_s,
    }


@contextmanager
def _services(given: Settings, own: Settings) -> Iterator[str]:
    """The champion as a Bento of this source tree, behind a gateway; they write to the home of `own`."""
    registry = connect(given).registry
    version = registry.get("champion")
    tag = bento.build(
        version,
        registry.fetch(version, given.cache_dir),
        RankingRecipe(),
        application_folder() / "serving",
        own.bento_home,
    )
    deployer = connect(own).deployer
    deployer.apply(version, tag, "champion")
    with deployer.running() as (deployment,):
        _until(lambda: bool(httpx.get(f"{deployment.url}/health/ready", timeout=60).json()["features"]))
        champion = Variant(CHAMPION, deployment.url, version.id, 1.0)
        save(Experiment("overload", "salt", (champion,)), own.experiment_file)
        command = [sys.executable, "-m", "serving.gateway", f"--port={PORT}"]
        with subprocess.Popen(command, env={**os.environ, **own.environment()}) as gateway:
            url = f"http://127.0.0.1:{PORT}"
            _until(lambda: not_ready_because(url) is None)
            try:
                yield url
            finally:
                gateway.terminate()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not ready after {READY_TIMEOUT_S:g} s")
        time.sleep(0.1)


def _search_s(url: str, photo: Path, repeats: int = 20) -> float:
    """The median of some searches, one after the other."""
    took_s = []
    with httpx.Client(base_url=url, timeout=60) as client, photo.open("rb") as content:
        for _ in range(repeats):
            content.seek(0)
            start = time.perf_counter()
            answer = client.post("/v1/search", files={"image": content})
            took_s.append(time.perf_counter() - start if answer.status_code == 200 else float("inf"))
    return sorted(took_s)[repeats // 2]


def _memory_mb(settings: Settings) -> float:
    """Resident memory of all processes with this home."""
    total = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get("IMMR_HOME") == str(settings.home):
                total += process.memory_info().rss
        except (psutil.Error, OSError):
            continue
    return total / 1024 / 1024


if __name__ == "__main__":
    typer.run(main)
