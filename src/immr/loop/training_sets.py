"""The training sets kept below IMMR_HOME, found by their hash."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from immr.data.training_set import TrainingSet
from immr.errors import ContractError
from immr.storage.atomic import replace_folder_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def training_set_of(parts: Parts, version: ModelVersion) -> TrainingSet:
    """The training set that a version was trained on.

    Raises:
        ContractError: The training set is not in this home; the message says what to do.
    """
    if kept := _find(parts, version.manifest_hash):
        return kept
    raise ContractError(
        f"the training set of {version.id} (manifest {version.manifest_hash[:16]}) is not in "
        f"{_folder(parts)}: run `immr govern` on its data again"
    )


def below_home(parts: Parts, training_set: TrainingSet) -> TrainingSet:
    """The same training set below IMMR_HOME, which is all that training pods share; copied if needed."""
    if training_set.folder.absolute().is_relative_to(parts.settings.home):
        return training_set
    if kept := _find(parts, training_set.hash):
        return kept
    copy = _folder(parts) / f"copy-{training_set.hash[:16]}"
    with replace_folder_atomically(copy) as aside:
        shutil.copytree(training_set.folder, aside, dirs_exist_ok=True)
    return TrainingSet(copy)


def _folder(parts: Parts) -> Path:
    return parts.settings.work_dir / "training-sets"


def _find(parts: Parts, manifest_hash: str) -> TrainingSet | None:
    for folder in sorted(_folder(parts).glob("[!.]*")):
        try:
            kept = TrainingSet(folder)
            if kept.hash == manifest_hash:
                return kept
        except (ContractError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("ignoring %s, which holds no readable training set (%s)", folder, error)
    return None
