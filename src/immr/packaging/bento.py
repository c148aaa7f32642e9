"""Builds a model version's Bento: service, query encoder in ONNX, immr's wheel and pins, without torch."""

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

from immr.deploy.bento_content import CONTENT_LABEL, built_content
from immr.errors import PackagingError
from immr.evaluation.matches.rule import MATCH_RULE
from immr.machine.progress_bar import elapsed
from immr.model.model_card import CARD, QUERY_ENCODER, TEXT_ENCODER, TEXT_WEIGHTS, TOKENIZER, Card
from immr.packaging.own_wheel import write_own_wheel
from immr.packaging.requirements import pinned_requirements
from immr.packaging.version_file import VERSION_FOLDER, VersionFile
from immr.search.ranker import RANKER
from immr.search.ranking import RankingRecipe
from immr.storage import fingerprint
from immr.storage.atomic import replace_folder_atomically, write_atomically
from immr.types import ModelVersion

log = logging.getLogger(__name__)

NAME = "immr-search"
_BUILD_TIMEOUT_S = 300


def build(
    version: ModelVersion,
    version_folder: Path,
    ranking: RankingRecipe,
    service_folder: Path,
    bento_home: Path,
    match_rule: Path | None = None,
) -> str:
    """Build the version's Bento into the store at `bento_home`, unless it has one with the same content.

    Args:
        version: The registered version; its id becomes the Bento's tag.
        version_folder: Contains `card.json`, `query_encoder.onnx` and perhaps `ranker.json`.
        ranking: How this version's hits are ranked.
        service_folder: The application's `serving/`.
        bento_home: BentoML's store.
        match_rule: The rule for matches, if the version has one.

    Returns:
        The tag, for example `immr-search:immr-3`.

    Raises:
        PackagingError: A file is missing, the files belong to another version, or BentoML failed.
    """
    _check(version, version_folder, service_folder)
    tag = tag_of(version.id)
    with tempfile.TemporaryDirectory(prefix="immr-bento-") as temporary:
        stage = Path(temporary)
        _stage_files(stage, version, version_folder, ranking, service_folder)
        if match_rule is not None:
            shutil.copyfile(match_rule, stage / VERSION_FOLDER / MATCH_RULE)
        content = _content(stage)
        if built_content(bento_home, tag) == content:
            log.info("%s already exists", tag)
            return tag
        _write_bentofile(stage, version, content)
        with elapsed(f"building {tag}"):
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
            raise PackagingError(f"{path} is missing, so {version.id} cannot be packaged: train it again")
    packaged = Card.read(version_folder).preprocessing.hash
    if packaged != version.preprocessing_hash:
        raise PackagingError(
            f"{version_folder} has preprocessing {packaged}, but {version.id} was registered with "
            f"{version.preprocessing_hash}: it belongs to another version or release of IMMR. Fetch the "
            "version's files from the registry, or train it again."
        )


def _stage_files(
    stage: Path, version: ModelVersion, version_folder: Path, ranking: RankingRecipe, service_folder: Path
) -> None:
    """Copy the Bento's content into `stage`; the same input gives the same bytes."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    shutil.copytree(service_folder, stage / "serving", ignore=ignored)
    (stage / VERSION_FOLDER).mkdir()
    with_ranker = (version_folder / RANKER).is_file()
    for name in (CARD, QUERY_ENCODER, *([RANKER] if with_ranker else [])):
        shutil.copyfile(version_folder / name, stage / VERSION_FOLDER / name)
    for name in (TEXT_ENCODER, TEXT_WEIGHTS, TOKENIZER):  # of versions that embed words
        if (version_folder / name).is_file():
            shutil.copyfile(version_folder / name, stage / VERSION_FOLDER / name)
    for beside in version_folder.glob(f"{QUERY_ENCODER}.*"):  # weights that ONNX stores in separate files
        shutil.copyfile(beside, stage / VERSION_FOLDER / beside.name)
    VersionFile(version.id, version.dim, version.preprocessing_hash, version.manifest_hash, ranking).write(
        stage / VERSION_FOLDER
    )
    write_own_wheel(stage / "wheels")
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
            "lock_packages": False,  # they are already pinned, and locking needs the network
        },
        "docker": {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"},
    }
    write_atomically(stage / "bentofile.yaml", json.dumps(bentofile, indent=1))  # JSON is YAML


def _content(stage: Path) -> str:
    files = sorted(path for path in stage.rglob("*") if path.is_file())
    hashes = [(path.relative_to(stage).as_posix(), fingerprint.of_file(path)) for path in files]
    return fingerprint.of_values(importlib.metadata.version("bentoml"), hashes)[:32]


def tag_of(version_id: str) -> str:
    """The tag of a version's Bento: `immr-search:immr-3`."""
    return f"{NAME}:{version_id}"


def is_built(bento_home: Path, tag: str) -> bool:
    """Whether the store has a complete Bento with this tag."""
    name, _, version = tag.partition(":")
    return (bento_home / "bentos" / name / version / "bento.yaml").is_file()


def _built_folder(bento_home: Path, version_id: str) -> Path:
    return bento_home / "bentos" / NAME / version_id


def _bentoml_build(stage: Path, version_id: str, target: Path) -> None:
    """Build in a temporary store and a separate process, then move the Bento into `target` atomically."""
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
            f"{failed}: it took longer than {_BUILD_TIMEOUT_S} s; is the machine out of memory?"
        ) from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise PackagingError(f"{failed} ({' '.join(command[1:4])}); the last lines:\n{last}")
