"""`immr serve` as a user runs it: versions, gateway and page start, and stop with Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from immr.deploy.deployer import Deployment
from immr.deploy.local import LocalDeployer
from immr.deploy.readiness import not_ready_because
from immr.errors import DeployError, ExperimentError, ImmrError
from immr.experiment import changes
from immr.experiment.file import load, save
from immr.loop import serve as serve_verb
from immr.loop.deploy import deploy
from immr.loop.experiment.decide import _promote
from immr.loop.experiment.queue import Waiting, start_or_wait
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.rollback import roll_back
from immr.loop.experiment.running_test import running_test
from immr.loop.watch import read_out
from immr.machine import backoff
from immr.packaging import bento
from immr.packaging.application import application_folder
from immr.readout.decision import Verdict
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import Parts, connect
from tests.support import tiny_version
from tests.support.patience import until
from tests.support.stand_in_variant import stand_in
from tests.support.two_versions import version_of
from tests.support.upstream_process import free_port


def serve(settings: Settings, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "immr.cli", "serve", *options]
    environment = settings.environment() | {"PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_promoted_champion_can_be_rolled_back_after_a_restart(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    registry = connect(settings).registry
    for number in (1, 2):
        version = package_version(settings, number)
        deploy(connect(settings), version, bento.tag_of(version.id))
    sides = [(each.version_id, each.url) for each in connect(settings).deployer.current()]
    running = changes.begin(sides[0], {"challenger": sides[1]}, 0.5, datetime.now(UTC))
    save(running, settings.experiment_file)
    verdict = Verdict("challenger", "promote", "It is better.")
    _promote(connect(settings), read_out(connect(settings)), verdict)
    port = free_port()
    with serve(settings, f"--port={port}", f"--page-port={free_port()}") as process:
        try:
            wait_until_it_serves(process)
            assert answered_by(port) == "immr-2"
            previous = load(settings.experiment_file).previous
            assert previous is not None
            # serve does not wait for it
            until(lambda: not_ready_because(previous.url, "immr-1") is None, timeout_s=120)
            roll_back(connect(settings))
            until(lambda: answered_by(port) == "immr-1")
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    champion = registry.role("champion")
    assert champion is not None and champion.id == "immr-1"
    assert gone(previous.url)


@pytest.mark.slow
def test_a_version_deployed_meanwhile_starts_and_is_tested(tmp_path: Path) -> None:
    """`immr deploy` once said "`immr serve` brings it up" while serve was running, and it did not."""
    settings = Settings(home=tmp_path)
    for number in (1, 2):
        package_version(settings, number)
    deploy(connect(settings), connect(settings).registry.get("immr-1"), "immr-search:immr-1")
    port = free_port()
    with serve(settings, f"--port={port}", f"--page-port={free_port()}") as process:
        try:
            wait_until_it_serves(process)
            deploy(connect(settings), connect(settings).registry.get("immr-2"), "immr-search:immr-2")
            assert isinstance(start_or_wait(connect(settings), 0.5), Waiting)
            until(lambda: running_test(connect(settings)) is not None, timeout_s=300)
            users = [f"user-{number}" for number in range(12)]
            until(lambda: {answered_by(port, user) for user in users} == {"immr-1", "immr-2"})
            stop(connect(settings))
            challenger = connect(settings).deployer.current()[1].url
            connect(settings).deployer.remove("challenger")
            assert gone(challenger)
            assert {answered_by(port, user) for user in users} == {"immr-1"}
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def package_version(settings: Settings, number: int) -> ModelVersion:
    """A registered version with its collection and Bento."""
    made, serving = tiny_version.version(number), application_folder() / "serving"
    version = version_of(
        connect(settings).registry,
        settings.home / "trained",
        f"key-{number}",
        manifest_hash=made.manifest_hash,
    )
    folder = tiny_version.write_packaged(settings.home / version.id, number)
    catalogue = tiny_version.items(settings.home / "pictures")
    tiny_version.build_index(settings, folder, catalogue, number)
    bento.build(made, folder, RankingRecipe(), serving, settings.bento_home)
    return version


def wait_until_it_serves(process: subprocess.Popen[str]) -> None:
    output = ""
    while process.stdout and "Ctrl-C" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line


def answered_by(port: int, user: str = "ann") -> str:
    photo = {"image": ("photo.jpg", tiny_version.photo("red"), "image/jpeg")}
    url = f"http://127.0.0.1:{port}/v1/search"
    answer = httpx.post(url, files=photo, data={"user_id": user}, timeout=30)
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
    options = (f"--port={free_port()}", f"--page-port={free_port()}")
    with serve(Settings(home=tmp_path), *options) as process:
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


def test_a_command_that_is_changing_the_experiment_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked the user to try again, although it tries again by itself."""
    parts = connect(Settings(home=tmp_path))
    deployer = parts.deployer
    assert isinstance(deployer, LocalDeployer)
    deployer.apply(tiny_version.version(), "immr-search:immr-1", "champion")
    monkeypatch.setattr(deployer, "follow", deployer.current)
    follow = serve_verb._Follower(parts, deployer)
    with serve_verb.exclusive(parts):
        follow()
        follow()
    assert caplog.messages == ["another command is changing the test; its result is followed once it ends"]


def test_no_duty_depends_on_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While deployments could not be followed, no alert was sent, nothing was recovered, and no brake was pulled."""
    called: list[str] = []

    def duty(name: str) -> Callable[..., None]:
        def fail(*_: object) -> None:
            called.append(name)
            raise {"follow": DeployError, "advance": KeyError}.get(name, ImmrError)(f"{name} failed")

        return fail

    parts = Parts.of(Settings(home=tmp_path), alerts=SimpleNamespace(resume=duty("alerts")))
    for name in ("complete_interrupted", "advance"):
        monkeypatch.setattr(serve_verb, name, duty(name))
    monkeypatch.setattr(serve_verb._Follower, "_guard_ramp", duty("brake"))
    server = SimpleNamespace(restart_if_exited=duty("gateway"))
    follow = serve_verb._Follower(parts, SimpleNamespace(follow=duty("follow")), [server])  # type: ignore[arg-type,list-item]
    for _ in range(2):
        called.clear()
        follow()
        assert called == ["gateway", "follow", "alerts", "complete_interrupted", "advance", "brake"]
    assert [record.getMessage() for record in caplog.records] == [
        "gateway failed",
        "follow failed",
        "alerts failed",
        "complete_interrupted failed",
        "unexpected: KeyError('advance failed')",
        "brake failed",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [False, False, False, False, True, False]


@pytest.mark.slow
def test_a_gateway_or_page_that_exits_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only versions were: without a gateway, `immr serve` went on and said nothing."""
    monkeypatch.setattr(backoff, "FIRST_PAUSE_S", 0.01)
    with stand_in("immr-1") as champion:
        deployed = [Deployment("champion", "immr-1", "immr-search:immr-1", champion.url)]
        monkeypatch.setattr(LocalDeployer, "running", lambda self, **options: nullcontext(deployed))
        monkeypatch.setattr(LocalDeployer, "follow", lambda self: deployed)
        port, page_port = free_port(), free_port()
        with serve_verb.serve(connect(Settings(home=tmp_path)), port, page_port) as served:
            ports = {str(port), str(page_port)}
            started = [each for each in psutil.Process().children() if ports & set(each.cmdline())]
            assert len(started) == 2
            for process in started:
                process.kill()
            assert all(
                gone(url) for url in (served.search_url, served.page_url)
            )  # before any is started again
            for url in (served.search_url, served.page_url):
                until(lambda url=url: served.follow() or answers(url), timeout_s=120)


@pytest.mark.slow
def test_what_a_killed_serve_has_left_behind_gives_its_port_back(tmp_path: Path) -> None:
    port = free_port()
    left_behind = (
        "import sys, time; from immr.loop.serve import page; from immr.settings import Settings\n"
        "from immr.wiring import connect\n"
        "with page(connect(Settings()), int(sys.argv[1])): print('up', flush=True); time.sleep(600)"
    )
    settings = Settings(home=tmp_path)
    command = [sys.executable, "-c", left_behind, str(port)]
    environment = os.environ | settings.environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        process.kill()
    with serve_verb.page(connect(settings), port) as page:
        assert answers(page.url)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


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


def test_a_second_serve_of_the_same_home_is_refused(tmp_path: Path) -> None:
    deployer = connect(Settings(home=tmp_path)).deployer
    assert isinstance(deployer, LocalDeployer)
    deployer.apply(tiny_version.version(), "immr-search:immr-1", "champion")
    options = (f"--port={free_port()}", f"--page-port={free_port()}")
    with deployer._alone(), serve(Settings(home=tmp_path), *options) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "another process serves the versions" in " ".join(output.split())
