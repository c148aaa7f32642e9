"""The port of a process that is started without `immr`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboards.__main__ import main as serve_page
from serving.gateway.app import main as serve_gateway


@pytest.mark.parametrize("port", ["65536", "0", "-1", "http"])
@pytest.mark.parametrize("main", [serve_gateway, serve_page])
def test_a_port_out_of_range_is_refused_in_one_sentence(
    main: Callable[[], object],
    port: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("IMMR_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["python -m server", f"--port={port}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"'{port}' is not a port: give a number from 1 to 65535" in capsys.readouterr().err
