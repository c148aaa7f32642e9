"""`immr serve` as a user runs it: versions, gateway and page start, and stop with Ctrl-C."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from immr.deploy.deployer import Deployment
from immr.deploy.readiness import not_ready_because
from immr.errors import DeployError, ExperimentError
from immr.experiment.definition import load
from immr.loop import experiment
from immr.loop import serve as serve_verb
from immr.loop.deploy import deploy
from immr.packaging import bento
from immr.packaging.application import application_folder
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from immr.wiring import connect
from tests.loop.test_experiment import version_of
from tests.support import tiny_version
from tests.support.patience import until
from tests.support.upstream_process import free_port


def serve(settings: Settings, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "immr.cli", "serve", *options]
    environment = settings.environment() | {"PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_deployed_versions_start_and_stop_with_ctrl_c(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(tmp_path / "pictures"))
    version = tiny_version.version()
    tag = bento.build(version, folder, RankingRecipe(), application_folder() / "serving", settings.bento_home)
    connect(settings).deployer.apply(version, tag, "champion")
    port, page_port = free_port(), free_port()
    with serve(settings, f"--port={port}", f"--page-port={page_port}") as process:
        try:
            wait_until_it_serves(process)
            photo = {"image": ("photo.jpg", tiny_version.photo("red"), "image/jpeg")}
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/search", files=photo, timeout=30).json()
            assert answer["hits"] and answer["model_version"] == "immr-1"
            assert httpx.get(f"http://127.0.0.1:{page_port}/", timeout=30).status_code == 200
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert process.returncode == 0
    champion = load(settings.experiment_file).champion
    assert (champion.model_version, champion.weight) == ("immr-1", 1.0)
    for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page_port}", champion.url):
        assert gone(url), url


def test_a_promoted_champion_can_be_rolled_back_after_a_restart(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    registry = connect(settings).registry
    catalogue = tiny_version.items(tmp_path / "pictures")
    for number in (1, 2):
        version = version_of(registry, tmp_path / "trained", f"key-{number}")
        folder = tiny_version.write_packaged(tmp_path / version.id, number)
        tiny_version.build_index(settings, folder, catalogue, number)
        made = tiny_version.version(number)
        tag = bento.build(
            made, folder, RankingRecipe(), application_folder() / "serving", settings.bento_home
        )
        deploy(connect(settings), version, tag)
    running = experiment.start(connect(settings))
    assert running.challenger is not None
    experiment._promote(connect(settings), running, running.challenger)
    port = free_port()
    with serve(settings, f"--port={port}", f"--page-port={free_port()}") as process:
        try:
            wait_until_it_serves(process)
            assert answered_by(port) == "immr-2"
            previous = load(settings.experiment_file).previous
            assert previous is not None
            # serve does not wait for it
            until(lambda: not_ready_because(previous.url, "immr-1") is None, timeout_s=120)
            experiment.roll_back(connect(settings))
            until(lambda: answered_by(port) == "immr-1")
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    champion = registry.role("champion")
    assert champion is not None and champion.id == "immr-1"
    assert gone(previous.url)


def wait_until_it_serves(process: subprocess.Popen[str]) -> None:
    output = ""
    while process.stdout and "Ctrl-C" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line


def answered_by(port: int) -> str:
    photo = {"image": ("photo.jpg", tiny_version.photo("red"), "image/jpeg")}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/search", files=photo, timeout=30)
    return str(answer.json()["model_version"])


def gone(url: str) -> bool:
    def refuses() -> bool:
        try:
            httpx.get(url, timeout=2)
        except httpx.ConnectError:
            return True
        except httpx.HTTPError:
            pass
        return False

    return until(refuses)


def test_without_a_deployment_the_error_says_what_to_do(tmp_path: Path) -> None:
    with serve(Settings(home=tmp_path)) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "nothing is deployed: run `immr deploy` first" in " ".join(output.split())


def test_the_experiment_file_is_written_under_its_lock(tmp_path: Path) -> None:
    parts = connect(Settings(home=tmp_path))
    champion = Deployment("champion", "immr-1", "immr-search:immr-1", "http://127.0.0.1:3001")
    with serve_verb.exclusive(parts), pytest.raises(ExperimentError, match="another process is changing"):
        serve_verb._experiment(parts, [champion])
    assert not parts.settings.experiment_file.exists()
    assert serve_verb._experiment(parts, [champion]).champion.model_version == "immr-1"


def test_a_taken_port_is_refused_by_its_number(tmp_path: Path) -> None:
    """Another home's gateway on this port once passed for our own."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with (
            pytest.raises(DeployError, match=f"port {port} cannot be used"),
            serve_verb.gateway(connect(Settings(home=tmp_path)), port),
        ):
            pass
