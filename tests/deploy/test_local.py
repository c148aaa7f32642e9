"""Real Bentos as processes: desired state, readiness, and that no process is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from immr.deploy import process_marks
from immr.deploy.local import LocalDeployer
from immr.errors import DeployError
from immr.packaging import bento
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from tests.support import tiny_version
from tests.support.patience import until

SERVICE = Path(__file__).resolve().parents[2] / "serving"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with one packaged version, immr-1, and its index."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    folder = tiny_version.write_files(settings.home / "version")
    tiny_version.build_index(settings, folder, tiny_version.items(settings.home / "pictures"))
    bento.build(tiny_version.version(), folder, RankingRecipe(), SERVICE, settings.bento_home)
    return settings


@pytest.fixture
def deployer(settings: Settings, tmp_path: Path) -> LocalDeployer:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        ports = {"champion": one.getsockname()[1], "challenger": other.getsockname()[1]}
    return LocalDeployer(tmp_path / "deploy", settings.bento_home, settings.environment(), ports)


def descendants(folder: Path) -> list[psutil.Process]:
    """Every process that was started for this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(process_marks.MARK, "").startswith(f"{folder}|"):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_applying_twice_changes_nothing(deployer: LocalDeployer) -> None:
    version = tiny_version.version()
    challenger = deployer.apply(tiny_version.version(2), "immr-search:immr-2", "challenger")
    champion = deployer.apply(version, "immr-search:immr-1", "champion")
    assert deployer.apply(version, "immr-search:immr-1", "champion") == champion
    assert deployer.current() == [champion, challenger]
    deployer.remove("challenger")
    deployer.remove("challenger")
    assert deployer.current() == [champion]
    newer = deployer.apply(tiny_version.version(3), "immr-search:immr-3", "champion")
    assert deployer.current() == [newer]


def test_the_previous_champion_keeps_its_address(deployer: LocalDeployer, tmp_path: Path) -> None:
    def kept() -> dict[str, tuple[str, str]]:
        rows = json.loads((tmp_path / "deploy" / "deployments.json").read_text())
        return {row["place"]: (row["version_id"], row["url"]) for row in rows}

    first, second = tiny_version.version(1), tiny_version.version(2)
    champion = deployer.apply(first, "immr-search:immr-1", "champion")
    challenger = deployer.apply(second, "immr-search:immr-2", "challenger")
    promoted = deployer.apply(second, "immr-search:immr-2", "champion")
    deployer.remove("challenger")
    assert (promoted.role, promoted.url) == ("champion", challenger.url)
    assert deployer.current() == [promoted]
    assert kept() == {"champion": ("immr-2", challenger.url), "previous": ("immr-1", champion.url)}
    assert deployer.apply(first, "immr-search:immr-1", "champion") == champion
    assert kept() == {"champion": ("immr-1", champion.url), "previous": ("immr-2", challenger.url)}
    assert deployer.apply(second, "immr-search:immr-2", "challenger") == challenger
    with_roles = {"champion": ("immr-1", champion.url), "challenger": ("immr-2", challenger.url)}
    assert kept() == with_roles | {"previous": ("immr-2", challenger.url)}
    deployer.remove("challenger")  # it has lost, and is what a rollback returns to
    assert kept() == {"champion": ("immr-1", champion.url), "previous": ("immr-2", challenger.url)}
    deployer.apply(second, "immr-search:immr-2", "challenger")
    deployer.apply(second, "immr-search:immr-2", "champion")
    deployer.remove("champion")
    assert set(kept()) == {"challenger"}


def test_running_without_a_deployment_is_refused(deployer: LocalDeployer) -> None:
    assert deployer.current() == []
    with pytest.raises(DeployError, match="immr deploy"), deployer.running():
        pass


def test_a_damaged_state_file_is_named(deployer: LocalDeployer, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "deployments.json").write_text("{")
    with pytest.raises(DeployError, match="is damaged"):
        deployer.current()


def test_a_bento_runs_on_a_free_port_and_leaves_no_process(deployer: LocalDeployer, tmp_path: Path) -> None:
    wanted = deployer.apply(tiny_version.version(), "immr-search:immr-1", "champion")
    port = int(wanted.url.rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)), deployer.running(ready_timeout_s=280) as running:
        assert running[0].url != wanted.url
        assert deployer.current() == running
        answer = httpx.post(
            f"{running[0].url}/v1/search",
            files={"image": tiny_version.photo("red")},
            headers={"x-immr-variant": "champion"},
        )
        assert answer.json()["hits"][0]["item_id"] == "red"
        assert answer.json()["model_version"] == "immr-1"
        missing = httpx.get(f"{running[0].url}/nothing")
        assert missing.headers["content-type"] == "application/problem+json"
        assert "immr_stage_seconds" in httpx.get(f"{running[0].url}/metrics").text
        assert httpx.get(f"{running[0].url}/openapi.json").json()["info"]["title"] == "IMMR search"
        assert len(descendants(tmp_path / "deploy")) >= 2
    assert descendants(tmp_path / "deploy") == []


def test_a_bento_that_cannot_start_is_explained(deployer: LocalDeployer, tmp_path: Path) -> None:
    deployer.apply(tiny_version.version(9), "immr-search:immr-9", "champion")
    with pytest.raises(DeployError, match=r"(?s)exited with code.*immr-9"), deployer.running():
        pass
    assert descendants(tmp_path / "deploy") == []


def test_a_setting_that_keeps_a_bento_from_starting_is_one_sentence(
    settings: Settings, tmp_path: Path
) -> None:
    environment = {**settings.environment(), "IMMR_THREADS": "many"}
    deployer = LocalDeployer(tmp_path / "deploy", settings.bento_home, environment, {"champion": 0})
    deployer.apply(tiny_version.version(), "immr-search:immr-1", "champion")
    with pytest.raises(DeployError) as raised, deployer.running(ready_timeout_s=280):
        pass
    assert str(raised.value).startswith("immr-search:immr-1 cannot start: IMMR_THREADS='many': ")
    assert str(raised.value).count("\n") == 0
    assert descendants(tmp_path / "deploy") == []


def test_processes_of_a_killed_run_are_found_and_stopped(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from immr.deploy import process_marks\n"
        "environment = {**os.environ, process_marks.MARK: process_marks.mark(Path(sys.argv[1]), 'champion')}\n"
        "sleeper = ['sleep', '600']\n"
        "print(subprocess.Popen(sleeper, env=environment, start_new_session=True).pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        sleeper = psutil.Process(int(run.stdout.readline()))
        assert process_marks.stop_orphans(tmp_path, timeout_s=5) == 0  # its starter is still alive
        os.kill(run.pid, signal.SIGKILL)
    assert process_marks.stop_orphans(tmp_path, timeout_s=5) == 1
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_during_start_leaves_no_process(
    deployer: LocalDeployer, settings: Settings, tmp_path: Path
) -> None:
    deployer.apply(tiny_version.version(), "immr-search:immr-1", "champion")
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # else ignored in the background
        "from pathlib import Path\n"
        "from immr.deploy.local import LocalDeployer\n"
        "with LocalDeployer(Path(sys.argv[1]), Path(sys.argv[2]), {}).running(): sys.exit('was ready')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "deploy"), str(settings.bento_home)]
    environment = {**os.environ, **settings.environment(), "IMMR_INDEX_URL": f"file://{tmp_path}/none"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as run:
        # the supervisor and its worker
        until(lambda: run.poll() is not None or len(descendants(tmp_path / "deploy")) >= 2, timeout_s=240)
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
        assert run.stderr is not None
        assert b"KeyboardInterrupt" in run.stderr.read()
    assert descendants(tmp_path / "deploy") == []
