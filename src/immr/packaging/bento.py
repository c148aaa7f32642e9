"""A model version becomes a Bento: service, query encoder in ONNX, immr's wheel, pins; no torch."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from immr.errors import PackagingError
from immr.model.card import CARD, QUERY_ENCODER, Card
from immr.packaging.requirements import pinned_requirements
from immr.packaging.version_file import VERSION_FOLDER, VersionFile
from immr.search.ranking import RankingRecipe
from immr.storage import fingerprint
from immr.storage.atomic import replace_folder_atomically, write_atomically
from immr.types import ModelVersion

log = logging.getLogger(__name__)

NAME = "immr-search"
CONTENT_LABEL = "immr.content"
_BUILD_TIMEOUT_S = 300


def build(
    version: ModelVersion,
    version_folder: Path,
    ranking: RankingRecipe,
    service_folder: Path,
    bento_home: Path,
) -> str:
    """Build the version's Bento into the store at `bento_home`; one with the same content is reused.

    Args:
        version: from the registry; gives the Bento its tag.
        version_folder: holds `card.json` and `query_encoder.onnx`.
        ranking: how this version's hits are ranked.
        service_folder: the application's `serving/`.
        bento_home: BentoML's own store.

    Returns:
        The tag, for example `immr-search:immr-3`.

    Raises:
        PackagingError: a file is missing, the card is another version's, or BentoML fails; says what it said.
    """
    _check(version, version_folder, service_folder)
    tag = f"{NAME}:{version.id}"
    with tempfile.TemporaryDirectory(prefix="immr-bento-") as temporary:
        stage = Path(temporary)
        _stage_files(stage, version, version_folder, ranking, service_folder)
        content = _content(stage)
        if _content_of_built(bento_home, version.id) == content:
            log.info("%s is built already", tag)
            return tag
        _write_bentofile(stage, version, content)
        _bentoml_build(stage, version.id, _built_folder(bento_home, version.id))
    log.info("built %s", tag)
    return tag


def _check(version: ModelVersion, version_folder: Path, service_folder: Path) -> None:
    for path in (
        version_folder / CARD,
        version_folder / QUERY_ENCODER,
        service_folder / "bento" / "service.py",
    ):
        if not path.is_file():
            raise PackagingError(
                f"{path} is missing: {version.id} cannot be packaged without it, train it again"
            )
    found = Card.read(version_folder).preprocessing.hash
    if found != version.preprocessing_hash:
        raise PackagingError(
            f"{version_folder} has preprocessing {found}, but {version.id} was registered with "
            f"{version.preprocessing_hash}: it is another version's folder, or of a release that read "
            "pictures otherwise; fetch the version's own files from the registry, or train again"
        )


def _stage_files(
    stage: Path, version: ModelVersion, version_folder: Path, ranking: RankingRecipe, service_folder: Path
) -> None:
    """Lay out what goes into the Bento; the same input gives the same bytes."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    shutil.copytree(service_folder, stage / "serving", ignore=ignored)
    (stage / VERSION_FOLDER).mkdir()
    for name in (CARD, QUERY_ENCODER):
        shutil.copyfile(version_folder / name, stage / VERSION_FOLDER / name)
    for beside in version_folder.glob(f"{QUERY_ENCODER}.*"):  # weights that ONNX keeps outside
        shutil.copyfile(beside, stage / VERSION_FOLDER / beside.name)
    VersionFile(version.id, version.dim, version.preprocessing_hash, version.manifest_hash, ranking).write(
        stage / VERSION_FOLDER
    )
    _build_wheel(stage / "wheels")
    write_atomically(stage / "requirements.txt", "\n".join(pinned_requirements("serve")) + "\n")


def _write_bentofile(stage: Path, version: ModelVersion, content: str) -> None:
    bentofile: dict[str, Any] = {
        "service": "serving.bento.service:ImmrSearch",
        "name": NAME,
        "description": f"IMMR visual search by model version {version.id}.",
        "labels": {
            "immr.version": version.id,
            "immr.preprocessing": version.preprocessing_hash,
            "immr.manifest": version.manifest_hash[:63],
            CONTENT_LABEL: content,
        },
        "include": ["serving/", f"{VERSION_FOLDER}/"],
        "python": {
            "requirements_txt": "requirements.txt",
            "wheels": [f"wheels/{wheel.name}" for wheel in (stage / "wheels").iterdir()],
            "lock_packages": False,  # they are pinned already; locking would ask the network
        },
        "docker": {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"},
    }
    write_atomically(stage / "bentofile.yaml", json.dumps(bentofile, indent=1))  # JSON is YAML


def _build_wheel(folder: Path) -> None:
    """immr's own wheel, from the source tree that this process runs from; hatchling needs no network."""
    source = _source_tree()
    folder.mkdir()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1580601600"}  # the same source, the same wheel
    _run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        "immr's wheel could not be built",
        environment,
        source,
    )


def _source_tree() -> Path:
    """Where immr was installed from.

    Raises:
        PackagingError: it was installed from a wheel, and nothing is known of its source.
    """
    described = importlib.metadata.distribution("immr").read_text("direct_url.json")
    url = json.loads(described).get("url", "") if described else ""
    source = Path(url2pathname(urlsplit(url).path)) if url.startswith("file://") else Path()
    if not (source / "src" / "immr").is_dir() or not (source / "pyproject.toml").is_file():
        raise PackagingError(
            "a Bento carries immr's wheel, which is built from its source tree, and this immr was installed "
            "without one: install it with `pip install -e` from a checkout"
        )
    return source


def _content(stage: Path) -> str:
    files = sorted(path for path in stage.rglob("*") if path.is_file())
    hashes = [(path.relative_to(stage).as_posix(), fingerprint.of_file(path)) for path in files]
    return fingerprint.of_values(importlib.metadata.version("bentoml"), hashes)[:32]


def _built_folder(bento_home: Path, version_id: str) -> Path:
    return bento_home / "bentos" / NAME / version_id


def _content_of_built(bento_home: Path, version_id: str) -> str | None:
    import yaml

    try:
        described = yaml.safe_load((_built_folder(bento_home, version_id) / "bento.yaml").read_text())
    except FileNotFoundError:
        return None
    return str(described.get("labels", {}).get(CONTENT_LABEL))


def _bentoml_build(stage: Path, version_id: str, target: Path) -> None:
    """Build in a store and a process of its own (BentoML keeps both for life), then move it in whole."""
    with tempfile.TemporaryDirectory(prefix="immr-bentoml-") as home:
        environment = {**os.environ, "BENTOML_HOME": home, "BENTOML_DO_NOT_TRACK": "True"}
        command = [sys.executable, "-m", "bentoml", "build", "--version", version_id, str(stage)]
        _run(command, "BentoML failed", environment, stage)
        with replace_folder_atomically(target) as aside:
            shutil.copytree(_built_folder(Path(home), version_id), aside, dirs_exist_ok=True)


def _run(command: list[str], failed: str, environment: dict[str, str], cwd: Path) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            cwd=cwd,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PackagingError(
            f"{failed}: no end after {_BUILD_TIMEOUT_S} s; is the machine out of memory?"
        ) from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise PackagingError(f"{failed} ({' '.join(command[1:4])}); its last lines:\n{last}")
