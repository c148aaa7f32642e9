"""`immr doctor` on this machine: every finding has a remedy, and nothing that is down raises."""

import socket
from pathlib import Path

import pytest

from immr import __version__
from immr.doctor import local
from immr.doctor.finding import Finding
from immr.doctor.local import URLS, examine
from immr.packaging import application
from immr.settings import Settings
from immr.wiring import connect


def finding(settings: Settings, what: str) -> Finding:
    return next(found for found in examine(connect(settings)) if found.what == what)


def test_embedded_services_need_not_exist_yet(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new")
    findings = {found.what: found for found in examine(connect(settings))}
    assert all(findings[f"IMMR_{name.upper()}_URL"].ok for name in URLS)
    assert findings["IMMR_HOME"].ok
    assert findings["IMMR_TRACKING_URL"].found.endswith("(created on first use)")
    assert findings["registry"].found == "no version trained yet"
    assert not (tmp_path / "new").exists()


def test_an_installed_wheel_needs_no_libraries_of_pipelines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(local, "_version", lambda name: None)
    missing = {
        found.what: found.remedy for found in examine(connect(Settings(home=tmp_path))) if not found.ok
    }
    assert "libraries to pipeline" not in missing
    assert missing["libraries to train"].endswith(f"'immr-{__version__}-py3-none-any.whl[train]'")
    monkeypatch.undo()
    assert finding(Settings(home=tmp_path), "libraries to pipeline").remedy.endswith(
        "--editable '.[pipeline]'"
    )


def test_a_server_that_is_down_is_named_with_its_remedy(tmp_path: Path) -> None:
    found = finding(Settings(home=tmp_path, index_url="http://127.0.0.1:9"), "IMMR_INDEX_URL")
    assert not found.ok and "correct IMMR_INDEX_URL" in found.remedy


@pytest.mark.parametrize("prefix", ["", "/mlflow"])
def test_with_mlflow_down_the_table_is_complete(tmp_path: Path, prefix: str) -> None:
    findings = {
        found.what: found
        for found in examine(connect(Settings(home=tmp_path, tracking_url=f"http://127.0.0.1:9{prefix}")))
    }
    assert not findings["IMMR_TRACKING_URL"].ok
    assert findings["registry"].found == "MLflow does not answer" and not findings["registry"].ok


def test_a_mirror_without_the_data_is_reported(tmp_path: Path) -> None:
    found = finding(Settings(home=tmp_path, data_mirror=tmp_path), "grocery photos")
    assert not found.ok and "IMMR_DATA_MIRROR" in found.remedy


def test_a_mirror_that_is_not_set_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMMR_DATA_MIRROR", raising=False)
    with socket.socket():
        assert finding(Settings(home=tmp_path), "grocery photos").ok
