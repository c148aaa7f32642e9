"""A standalone Spark cluster on loopback, from pip's pyspark: a master and two workers, each a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.patience import until
from tests.support.upstream_process import free_port

_SMALL = {"SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1"}
_READY_S = 180.0


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    url: str  # spark://127.0.0.1:port
    page: str
    workers: Sequence[subprocess.Popen[bytes]]

    def alive(self) -> int:
        """Workers that the master counts as alive."""
        with urlopen(f"{self.page}/json/", timeout=10) as answer:
            return int(json.load(answer)["aliveworkers"])


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose workers have one core and 1 GB each; skips without pyspark or Java."""
    pytest.importorskip("pyspark", reason="Spark is not installed: `make spark`")
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        pytest.skip("Spark needs Java: `make spark` installs it where apt is at hand")
    port, page = free_port(), free_port()
    url = f"spark://127.0.0.1:{port}"
    with ExitStack() as running:
        master = ("--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page))
        running.enter_context(_process(folder / "master", "master.Master", *master))
        workers = [
            running.enter_context(
                _process(
                    folder / f"worker-{number}",
                    "worker.Worker",
                    *("--host", "127.0.0.1", "--webui-port", "0", "--cores", "1", "--memory", "1g"),
                    *("--work-dir", str(folder / f"worker-{number}"), url),
                )
            )
            for number in range(2)
        ]
        made = Cluster(url, f"http://127.0.0.1:{page}", workers)
        until(lambda: _alive(made) == 2, _READY_S, lambda: _logs(folder))
        yield made


def _alive(made: Cluster) -> int:
    try:
        return made.alive()
    except OSError:  # the master is starting
        return 0


@contextmanager
def _process(folder: Path, daemon: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    import pyspark

    home = Path(pyspark.__file__).parent
    folder.mkdir(parents=True)
    environment = {**os.environ, **_SMALL, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [home / "bin" / "spark-class", f"org.apache.spark.deploy.{daemon}", *arguments],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _logs(folder: Path) -> str:
    return "\n".join(file.read_text()[-1000:] for file in sorted(folder.glob("*/log")))
