"""A release is upgraded under load, one process after the other, and no search fails.

The processes of the earlier release run its own code, which its Bentos carry. As on a cluster, a version's pod is
replaced (this release's image, the same Bento), then the gateway. Events are in the release's SQLite file, or on a
PostgreSQL server, as on a cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest

from immr.experiment.file import load, save
from immr.packaging.serve import own_code
from immr.settings import Settings
from immr.wiring import connect
from tests.e2e.upgrade.test_state import RELEASES
from tests.e2e.upgrade.write_state import SEARCHES, restore_events, settings_of, unpack
from tests.support import http_client, tiny_version
from tests.support.in_process import in_threads, served_gateway
from tests.support.patience import until
from tests.support.upstream_process import await_port, free_port

Process: TypeAlias = "subprocess.Popen[bytes]"
ROOT = Path(__file__).resolve().parents[3]
RED = tiny_version.photo("red")


@dataclass
class Shopper:
    """Searches as a new user each time, at the next of the gateways; `answers` are query id and version."""

    ports: list[int]
    answers: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def shop(self) -> None:
        while not self.done.wait(0.05):
            number = len(self.answers)
            url = f"http://127.0.0.1:{self.ports[number % len(self.ports)]}/v1/search"
            try:
                answer = httpx.post(
                    url, files={"image": RED}, data={"user_id": f"u{number}"}, timeout=60, trust_env=False
                )
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            if answer.status_code == 200:
                self.answers.append((answer.json()["query_id"], answer.json()["model_version"]))
            else:
                self.failures.append(answer.text)

    def hears_from(self, *versions: str) -> None:
        """Wait for further answers of these versions."""
        before = len(self.answers)
        until(
            lambda: set(versions) <= {version for _, version in self.answers[before:]},
            timeout_s=180,
            context=lambda: self.failures[-3:],
        )


class Cluster:
    """Starts the processes of one home."""

    def __init__(self, settings: Settings, undo: ExitStack) -> None:
        self.settings, self.undo = settings, undo

    def bento(self, version: str) -> Path:
        return self.settings.bento_home / "bentos" / "immr-search" / version

    def version(self, version: str, port: int, code: Path | None = None) -> Process:
        """A version's Bento, started by this release; with `code`, as the earlier one did."""
        module = ["bentoml", "serve"] if code else ["immr.packaging.serve"]
        bento = self.bento(version)
        command = [*module, str(bento), "--host", "127.0.0.1", "--port", str(port)]
        return self._start(command, port, code, cwd=bento)

    def move(self, version: str, port: int) -> None:
        """Send a version's users to another port, which the running gateway reads in the experiment file."""
        running, url = load(self.settings.experiment_file), f"http://127.0.0.1:{port}"
        moved = [
            replace(each, url=url) if each.model_version == version else each for each in running.variants
        ]
        save(replace(running, variants=tuple(moved)), self.settings.experiment_file)

    def gateway(self, port: int, code: Path | None = None) -> Process:
        """This release's gateway; with `code`, the earlier one's."""
        cwd = self.bento("immr-1") / "src" if code else ROOT
        return self._start(["serving.gateway", f"--port={port}", "--timeout-s=30"], port, code, cwd)

    def _start(self, command: Sequence[str], port: int, code: Path | None, cwd: Path) -> Process:
        environment = {**os.environ, **self.settings.environment(), "BENTOML_DO_NOT_TRACK": "True"}
        environment["BENTOML_HOME"] = str(self.settings.bento_home)
        if code is not None:
            environment["PYTHONPATH"] = str(code)
        process = subprocess.Popen([sys.executable, "-m", *command], env=environment, cwd=cwd)
        self.undo.callback(process.wait)
        self.undo.callback(process.terminate)
        await_port(process, port, timeout_s=180)
        return process


def stop(process: Process) -> None:
    """End it with SIGTERM, as a pod ends."""
    process.terminate()
    process.wait(timeout=120)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("release", "events"), [*((release, "sqlite") for release in RELEASES), ("9692177", "postgresql")]
)
def test_no_search_fails_and_no_event_is_lost(
    release: str, events: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = settings_of(unpack(release, tmp_path))
    if events == "postgresql":
        server = request.getfixturevalue("postgres")
        settings = settings.model_copy(update={"events_url": restore_events(tmp_path, server, "rolling")})
    before, after, new_port = free_port(), free_port(), free_port()
    ports = {"immr-1": free_port(), "immr-2": free_port()}
    shopper = Shopper([before])
    with ExitStack() as undo:
        cluster = Cluster(settings, undo)
        code = own_code(cluster.bento("immr-1"), tmp_path / "code")
        assert code is not None
        for version, port in ports.items():
            cluster.move(version, port)
        old = {version: cluster.version(version, port, code) for version, port in ports.items()}
        old_gateway = cluster.gateway(before, code)
        for port in ports.values():
            wait_until_ready(port)
        undo.enter_context(in_threads([shopper.shop], shopper.done))
        shopper.hears_from(*ports)

        stop(old["immr-1"])  # an embedded collection is opened by one process at a time
        cluster.version("immr-1", new_port)
        wait_until_ready(new_port)
        cluster.move("immr-1", new_port)
        shopper.hears_from(*ports)

        new_gateway = cluster.gateway(after)
        shopper.ports = [before, after]
        shopper.hears_from(*ports)
        shopper.ports = [after]
        shopper.hears_from(*ports)
        stop(old_gateway)
        shopper.hears_from(*ports)
        shopper.done.set()
        stop(new_gateway)
    assert shopper.failures == [], f"beside {len(shopper.answers)} answers"
    answered = {query_id for query_id, _ in shopper.answers}
    with served_gateway(settings):  # the next start delivers what an earlier process left behind
        until(lambda: recorded(settings) >= answered, context=lambda: answered - recorded(settings))
    assert len(recorded(settings)) == SEARCHES + len(answered)


def wait_until_ready(port: int) -> None:
    url = f"http://127.0.0.1:{port}/health/ready"
    until(lambda: http_client.get(url).status_code == 200, 300, lambda: http_client.get(url).text)


def recorded(settings: Settings) -> set[str]:
    """Query ids in the event log."""
    with connect(settings) as parts:
        return set(parts.events.searches()["query_id"].to_pylist())
