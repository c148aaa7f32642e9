import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from immr.errors import DeployError
from immr.machine import backoff, processes
from tests.support.patience import until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_is_ready_inside_the_block_and_stopped_after_it(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = ["-m", "http.server", "--bind", "127.0.0.1", url.rsplit(":", 1)[1]]
    with processes.serving(command, {}, tmp_path / "log", url):
        assert httpx.get(url).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_server_that_has_exited_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE_S", 0.01)
    command = ["-c", "print('up', flush=True); import time; time.sleep(600)"]
    server = processes.Server(command, {}, tmp_path / "log", None)
    first = server.process
    try:
        server.restart_if_exited()
        assert server.process is first
        until(lambda: (tmp_path / "log").read_text() == "up\n")
        first.kill()
        first.wait(60)
        until(lambda: server.restart_if_exited() or server.process is not first)
        until(lambda: (tmp_path / "log").read_text() == "up\nup\n")
    finally:
        processes.stop(server.process)
    assert (
        f"exited with code -9: it is started again in 0.01 s, and its output is in {tmp_path}/log"
        in caplog.text
    )


def test_a_server_that_exits_at_once_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    with (
        pytest.raises(DeployError, match="no such thing"),
        processes.serving(
            ["-c", "raise SystemExit('no such thing')"], {}, tmp_path / "log", "http://127.0.0.1:9"
        ),
    ):
        pass


def test_a_setting_that_keeps_a_server_from_starting_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("immr.errors.SettingsError: of an earlier run\n")
    wrong = "from immr.errors import SettingsError; raise SettingsError('IMMR_X=1: too small. Unset it.')"
    with (
        pytest.raises(DeployError) as raised,
        processes.serving(["-c", wrong], {}, tmp_path / "log", "http://127.0.0.1:9"),
    ):
        pass
    assert str(raised.value) == f"`python -c {wrong}` cannot start: IMMR_X=1: too small. Unset it."


def test_an_exit_is_not_called_a_timeout(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("line of an earlier run\n")
    with (
        pytest.raises(DeployError, match="ended with exit code 3 before") as raised,
        processes.serving(["-c", "raise SystemExit(3)"], {}, tmp_path / "log", "http://127.0.0.1:9"),
    ):
        pass
    assert "earlier run" not in str(raised.value)


def test_a_port_that_speaks_no_http_is_not_ready(tmp_path: Path) -> None:
    port = free_port()
    server = (
        f"import socket, time; server = socket.create_server(('127.0.0.1', {port}))\n"
        "while True: connection = server.accept()[0]; connection.send(b'SSH-2.0\\r\\n'); connection.close()"
    )
    with (
        pytest.raises(DeployError, match="was not ready"),
        processes.serving(["-c", server], {}, tmp_path / "log", f"http://127.0.0.1:{port}", timeout_s=2.0),
    ):
        pass


def test_a_run_reports_its_lines_and_its_failure(tmp_path: Path) -> None:
    lines: list[str] = []
    processes.run(["-c", "print('one'); print('two')"], {}, tmp_path / "log", lines.append)
    assert lines == ["one\n", "two\n"] and (tmp_path / "log").read_text() == "one\ntwo\n"
    with pytest.raises(DeployError, match="went wrong"):
        processes.run(["-c", "raise SystemExit('went wrong')"], {}, tmp_path / "log", lines.append)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # nobody may be there to reap it
    except psutil.NoSuchProcess:
        return True


def test_stopping_a_process_stops_its_children(tmp_path: Path) -> None:
    parent = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid); child.wait()"
    with subprocess.Popen(
        [sys.executable, "-uc", parent], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        processes.stop(process)
    until(lambda: ended(child))
