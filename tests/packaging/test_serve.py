"""A Bento is served with the code that it carries, not with the installed one."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from immr.errors import PackagingError
from immr.packaging import serve


def bento(folder: Path, line: str = "RELEASE = 'earlier'") -> Path:
    """A Bento with a wheel of one module."""
    wheels = folder / "env" / "python" / "wheels"
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "immr-0.0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("immr/__init__.py", line)
    return folder


def test_its_code_is_unpacked_once_per_content(tmp_path: Path) -> None:
    first = serve.own_code(bento(tmp_path / "a"), tmp_path / "code")
    assert first is not None and (first / "immr" / "__init__.py").read_text() == "RELEASE = 'earlier'"
    assert serve.own_code(tmp_path / "a", tmp_path / "code") == first
    assert serve.own_code(bento(tmp_path / "b"), tmp_path / "code") == first
    assert serve.own_code(bento(tmp_path / "c", "RELEASE = 'later'"), tmp_path / "code") != first


def test_a_damaged_wheel_is_named(tmp_path: Path) -> None:
    wheels = tmp_path / "env" / "python" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / "immr-1.whl").write_bytes(b"no archive")
    with pytest.raises(PackagingError, match=r"immr-1\.whl cannot be unpacked"):
        serve.own_code(tmp_path, tmp_path / "code")


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(
        os, "execve", lambda program, command, environment: calls.append((command, environment))
    )
    return calls


def test_its_code_comes_first_on_the_path(
    tmp_path: Path, executed: list[tuple[list[str], dict[str, str]]]
) -> None:
    store = {"BENTOML_HOME": str(tmp_path), "PYTHONPATH": "/other"}
    bento(tmp_path / "bentos" / "immr-search" / "immr-1")
    serve.serve("immr-search:immr-1", ["--port", "1"], store)
    [(command, environment)] = executed
    assert command[1:] == ["-m", "bentoml", "serve", "immr-search:immr-1", "--port", "1"]
    own, other = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(own) / "immr" / "__init__.py").is_file() and other == "/other"


def test_the_store_is_bentomls_own_unless_another_is_set(
    tmp_path: Path, executed: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bento(tmp_path / "bentoml" / "bentos" / "immr-search" / "immr-1")
    serve.serve("immr-search:immr-1", [], {})
    [(_, environment)] = executed
    assert (Path(environment["PYTHONPATH"]) / "immr" / "__init__.py").read_text() == "RELEASE = 'earlier'"


def test_without_a_wheel_the_installed_code_serves(
    tmp_path: Path, executed: list[tuple[list[str], dict[str, str]]]
) -> None:
    serve.serve(str(tmp_path), [], {"BENTOML_HOME": str(tmp_path)})
    [(_, environment)] = executed
    assert environment["PYTHONPATH"] == ""


def test_other_libraries_are_logged(
    tmp_path: Path, executed: list[tuple[list[str], dict[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    folder = bento(tmp_path / "bento")
    (folder / "env" / "python" / "requirements.txt").write_text("pytest==0.1\nno-such-library==2\n")
    serve.serve(str(folder), [], {"BENTOML_HOME": str(tmp_path)})
    assert f"pytest 0.1 (here {pytest.__version__}), no-such-library 2 (here missing)" in caplog.text
