"""The supervisor with real processes that stand in for `bentoml serve`."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from immr.deploy import process_marks
from immr.deploy.bento_process import BentoProcess
from immr.deploy.deployer import Deployment
from immr.deploy.local import LocalDeployer
from immr.deploy.supervisor import BentoSupervisor
from immr.errors import DeployError
from immr.machine import backoff
from tests.support import tiny_version
from tests.support.patience import until
from tests.support.upstream_process import free_port

STAND_IN = """
import signal, sys
if "broken" in sys.argv[2]:
    print("the stand-in is broken", flush=True)
    sys.exit(3)
signal.pause()
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[BentoSupervisor]:
    module = tmp_path / "stand-in" / "bentoml"
    module.mkdir(parents=True)
    (module / "__init__.py").touch()
    (module / "__main__.py").write_text(STAND_IN)
    keeper = BentoSupervisor(tmp_path / "logs", tmp_path / "bentos", {"PYTHONPATH": str(module.parent)})
    yield keeper
    keeper.stop()


def deployment(version: str = "immr-1", bento: str = "immr-search:immr-1", port: int = 0) -> Deployment:
    return Deployment("champion", version, bento, f"http://127.0.0.1:{port or free_port()}")


def test_what_is_wanted_runs_and_nothing_else(supervisor: BentoSupervisor) -> None:
    first, second = deployment(), deployment("immr-2", "immr-search:immr-2")
    supervisor.sync({"champion": first, "challenger": second})
    kept, dropped = supervisor.process(first).popen, supervisor.process(second).popen
    supervisor.sync({"champion": first})
    assert supervisor.process(first).popen is kept and kept.poll() is None
    assert dropped.poll() is not None
    supervisor.stop()
    assert kept.poll() is not None


def test_one_version_in_two_places_is_one_process(supervisor: BentoSupervisor) -> None:
    there = supervisor.sync({"champion": deployment(), "previous": deployment()})
    assert there["champion"].url == there["previous"].url


def test_a_port_in_use_is_replaced(supervisor: BentoSupervisor) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        wanted = deployment(port=held.getsockname()[1])
        assert supervisor.sync({"champion": wanted})["champion"].url != wanted.url


@pytest.mark.parametrize("taken", [True, False])
def test_a_port_that_is_taken_while_a_version_starts_is_replaced(
    supervisor: BentoSupervisor, taken: bool
) -> None:
    broken = deployment(bento="immr-search:broken")
    there = supervisor.sync({"champion": broken})["champion"]
    supervisor.process(broken).popen.wait(60)
    with socket.socket() as other:
        if taken:
            other.bind(("127.0.0.1", int(there.url.rpartition(":")[2])))
            other.listen()
        with pytest.raises(
            DeployError, match="exited with code 3"
        ):  # on the other port as well: it is broken
            supervisor.wait_until_ready(broken, time.monotonic() + 60)
    assert (supervisor.process(broken).deployment.url != there.url) == taken


def packaged(home: Path, content: str) -> None:
    file = home / "bentos" / "immr-search" / "immr-1" / "bento.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"labels: {{immr.content: {content}}}")


def test_a_bento_that_was_packaged_again_is_started_by_the_next_deployment(
    supervisor: BentoSupervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "bentos"
    monkeypatch.setattr(BentoProcess, "wait_until_ready", lambda *_: None)
    environment = {"PYTHONPATH": str(tmp_path / "stand-in")}
    ports = {"champion": free_port(), "challenger": free_port()}
    deployer = LocalDeployer(tmp_path / "deploy", home, environment, ports)
    versions = (tiny_version.version(2), "immr-search:immr-2"), (tiny_version.version(), "immr-search:immr-1")
    packaged(home, "first")
    deployer.apply(*versions[0], "champion")
    deployer.apply(*versions[1], "challenger")

    def running() -> list[int]:
        found = [each for each in psutil.process_iter() if is_of(each, tmp_path / "deploy")]
        return sorted(each.pid for each in found)

    def processes() -> list[int]:
        deployer.follow()
        until(lambda: len(running()) == 2)  # a new one is recognized once it runs its program
        return running()

    with deployer.running():
        before = processes()
        packaged(home, "second")
        assert processes() == before, "it is not deployed yet"
        deployer.apply(*versions[1], "champion")
        assert processes() == before, "a promotion replaces no process"
        url = deployer.apply(*versions[1], "challenger").url
        after = processes()
        assert len(after) == len(before) == 2 and len(set(after) & set(before)) == 1
        assert deployer.apply(*versions[1], "challenger").url == url
        assert processes() == after
    packaged(home, "third")
    with deployer.running():
        before = processes()
        deployer.apply(*versions[1], "challenger")
        assert processes() == before, "`immr serve` has started the new one already"


def is_of(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get(process_marks.MARK, "").startswith(f"{folder}|")
    except (psutil.Error, OSError):
        return False


def test_two_versions_never_share_a_port(supervisor: BentoSupervisor) -> None:
    port = free_port()
    one, other = deployment(port=port), deployment("immr-2", "immr-search:immr-2", port)
    there = supervisor.sync({"champion": one, "challenger": other})
    assert there["champion"].url != there["challenger"].url


def test_what_has_exited_is_started_again(
    supervisor: BentoSupervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE_S", 0.0)
    broken = deployment(bento="immr-search:broken")
    supervisor.sync({"champion": broken})
    exited = supervisor.process(broken).popen
    exited.wait(60)

    def restarted() -> bool:
        supervisor.sync({"champion": broken})
        return supervisor.process(broken).popen is not exited

    with caplog.at_level(logging.WARNING):
        assert until(restarted)
    assert "immr-1 exited with code 3" in caplog.text
    [named] = re.findall(r"its output is then in (\S+)", caplog.text)
    assert "broken" in Path(named).read_text(), "the output that says why it exited"
    assert supervisor.process(broken).deployment.url == broken.url  # clients know this address


def test_a_version_that_ran_long_enough_is_restarted_after_the_first_pause(
    supervisor: BentoSupervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(backoff, "SETTLED_S", 0.0)
    broken = deployment(bento="immr-search:broken")

    def exits() -> int:
        supervisor.sync({"champion": broken})
        return caplog.text.count("exited")

    with caplog.at_level(logging.WARNING):
        until(lambda: exits() >= 3)
    assert caplog.text.count("started again in 0.001 s") == caplog.text.count("exited")


def test_a_version_that_has_exited_for_days_is_still_restarted(
    supervisor: BentoSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    broken = deployment(bento="immr-search:broken")
    supervisor.sync({"champion": broken})
    supervisor.process(broken).popen.wait(60)
    next(iter(supervisor._kept.values())).restarts.exits = 2000
    with caplog.at_level(logging.WARNING):
        supervisor.sync({"champion": broken})
    assert "it is started again in 60 s" in caplog.text
