"""IMMR installed from its wheel, far from any checkout: it can still package a version."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from immr.packaging.application import application_folder
from immr.packaging.own_wheel import write_own_wheel
from tests.support import tiny_version

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = """
import sys
from pathlib import Path
import immr
from immr.packaging import bento
from immr.packaging.application import application_folder
from immr.search.ranking import RankingRecipe
from immr.types import ModelVersion
version, folder, home = eval(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
print(immr.__file__)
print(bento.build(version, folder, RankingRecipe(), application_folder() / "serving", home))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with IMMR installed from its wheel, without its requirements."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = (folder / "dist").glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*install, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True, timeout=120
    )
    return folder / "site"


def test_an_installed_immr_packages_a_version(installed: Path, tmp_path: Path) -> None:
    folder, home = tiny_version.write_files(tmp_path / "version"), tmp_path / "bentoml"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    environment.pop("IMMR_APP", None)
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE, repr(tiny_version.version(3)), str(folder), str(home)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [str(installed / "immr" / "__init__.py"), "immr-search:immr-3"]
    built = home / "bentos" / "immr-search" / "immr-3"
    assert (built / "src" / "serving" / "bento" / "service.py").is_file()
    (wheel,) = (built / "env" / "python" / "wheels").glob("immr-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "immr/search/ranking.py" in names
    assert not [name for name in names if "_application" in name or name.endswith(".pyc")]


def test_an_installed_immr_brings_the_page_and_the_gateway(installed: Path) -> None:
    application = installed / "immr" / "_application"
    assert (application / "dashboards" / "__main__.py").is_file()
    assert (application / "serving" / "gateway" / "app.py").is_file()


def test_a_checkout_is_its_own_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMMR_APP", raising=False)
    monkeypatch.chdir(tmp_path)
    assert application_folder() == ROOT


def test_a_repacked_wheel_installs(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom immr.packaging.own_wheel import write_own_wheel\n"
        "print(write_own_wheel(Path(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "wheels")],
        env=environment, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    again = tmp_path / "again"
    subprocess.run([*install, "--target", str(again), done.stdout.strip()], check=True, timeout=60)
    assert (again / "immr" / "py.typed").is_file()


def test_the_same_code_gives_the_same_wheel(tmp_path: Path) -> None:
    first, second = (write_own_wheel(tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
