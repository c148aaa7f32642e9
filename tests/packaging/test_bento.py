"""A real Bento, built offline: its content, and when it is rebuilt."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from immr.errors import PackagingError
from immr.packaging import bento
from immr.packaging.requirements import pinned_requirements
from immr.packaging.version_file import VersionFile
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.trees import Trees
from tests.support import tiny_version

SERVICE = Path(__file__).resolve().parents[2] / "serving"


@pytest.fixture(scope="module")
def version_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_version.write_files(tmp_path_factory.mktemp("version"))
    Ranker({}, RankingRecipe(), 1.0, Trees([])).write(folder)
    tiny_version.write_text_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def bento_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="module")
def built(version_folder: Path, bento_home: Path) -> Path:
    tag = bento.build(tiny_version.version(3), version_folder, RankingRecipe(), SERVICE, bento_home)
    assert tag == "immr-search:immr-3"
    return bento_home / "bentos" / "immr-search" / "immr-3"


def test_it_contains_the_version(built: Path, version_folder: Path) -> None:
    inside = built / "src" / "version"
    for name in (
        "card.json",
        "query_encoder.onnx",
        "ranker.json",
        "text_encoder.xml",
        "text_encoder.bin",
        "tokenizer.json",
    ):
        assert (inside / name).read_bytes() == (version_folder / name).read_bytes()
    assert not (inside / "towers.pt").exists()
    made = VersionFile.read(inside)
    assert (made.id, made.ranking) == ("immr-3", RankingRecipe())


def test_it_is_labelled(built: Path) -> None:
    described = yaml.safe_load((built / "bento.yaml").read_text())
    labels = described["labels"]
    assert labels["immr.version"] == "immr-3"
    assert labels["immr.preprocessing"] == tiny_version.PREPROCESSING.hash
    assert labels["immr.manifest"].startswith("aaaa")


def test_it_carries_immr_and_no_torch(built: Path) -> None:
    wheels = list((built / "env" / "python" / "wheels").glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["immr"]
    requirements = (built / "env" / "python" / "requirements.txt").read_text().splitlines()
    names = {line.split("==")[0] for line in requirements}
    assert {"bentoml", "openvino", "qdrant-client", "feast", "fastapi", "tokenizers"} <= names
    assert not {"torch", "transformers", "mlflow", "kfp", "lightgbm"} & names
    assert all("==" in line for line in requirements if line)


def test_the_service_imports_no_torch(built: Path) -> None:
    code = (
        "import sys, serving.bento.service, serving.bento.app\n"
        "heavy = {'torch', 'feast', 'mlflow', 'transformers', 'qdrant_client'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(built / "src")}
    subprocess.run([sys.executable, "-c", code], cwd=built / "src", env=environment, check=True, timeout=60)


def test_the_same_content_is_reused(built: Path, version_folder: Path, bento_home: Path) -> None:
    before = (built / "bento.yaml").stat().st_mtime_ns
    bento.build(tiny_version.version(3), version_folder, RankingRecipe(), SERVICE, bento_home)
    assert (built / "bento.yaml").stat().st_mtime_ns == before


def test_changed_content_is_rebuilt_and_a_failed_build_keeps_the_old_one(
    built: Path, version_folder: Path, bento_home: Path, tmp_path: Path
) -> None:
    version = tiny_version.version(3)
    service = shutil.copytree(SERVICE, tmp_path / "serving")
    shutil.copytree(bento_home, tmp_path / "home")
    built = tmp_path / "home" / built.relative_to(bento_home)
    bento.build(version, version_folder, RankingRecipe(ctr_weight=0.5), service, tmp_path / "home")
    assert json.loads((built / "src/version/version.json").read_text())["ranking"]["ctr_weight"] == 0.5
    (service / "bento" / "service.py").write_text("raise RuntimeError('broken on purpose')")
    with pytest.raises(PackagingError, match="broken on purpose"):
        bento.build(version, version_folder, RankingRecipe(), service, tmp_path / "home")
    assert (built / "bento.yaml").is_file()


def test_files_of_another_version_are_refused(version_folder: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(tiny_version.version(5), preprocessing_hash="something else")
    with pytest.raises(PackagingError, match="something else"):
        bento.build(other, version_folder, RankingRecipe(), SERVICE, tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match=r"card\.json is missing"):
        bento.build(tiny_version.version(), tmp_path, RankingRecipe(), SERVICE, tmp_path)


def test_a_broken_version_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text('{"id": "x"}')
    with pytest.raises(PackagingError, match="immr package"):
        VersionFile.read(tmp_path)


def test_requirements_are_those_of_the_extra_only() -> None:
    names = [line.split("==")[0] for line in pinned_requirements("serve")]
    assert names == sorted(names)
    assert "starlette" in names  # what fastapi needs is pinned too
    assert "torch" not in names and "pytest" not in names
