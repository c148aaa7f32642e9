"""Where governed training sets are kept, and found again."""

from __future__ import annotations

import shutil

from immr.data.training_set import TrainingSet
from immr.errors import ContractError
from immr.settings import Settings
from immr.storage.atomic import replace_folder_atomically
from immr.types import ModelVersion


def training_set_of(settings: Settings, version: ModelVersion) -> TrainingSet:
    """The training set that a version was trained on, where this machine governed it.

    Raises:
        ContractError: it is not here; the message says what to do.
    """
    for folder in sorted((settings.work_dir / "training-sets").glob("[!.]*")):
        kept = TrainingSet(folder)
        if kept.hash == version.manifest_hash:
            return kept
    raise ContractError(
        f"the training set of {version.id} (manifest {version.manifest_hash[:16]}) is not in "
        f"{settings.work_dir / 'training-sets'}: run `immr govern` on its data again"
    )


def below_home(settings: Settings, training_set: TrainingSet) -> TrainingSet:
    """The same training set where training processes see it too: a cluster's pods share IMMR_HOME only."""
    if training_set.folder.absolute().is_relative_to(settings.home):
        return training_set
    sets = settings.work_dir / "training-sets"
    for folder in sorted(sets.glob("[!.]*")):
        kept = TrainingSet(folder)
        if kept.hash == training_set.hash:
            return kept
    with replace_folder_atomically(sets / f"copy-{training_set.hash[:16]}") as aside:
        shutil.copytree(training_set.folder, aside, dirs_exist_ok=True)
    return TrainingSet(sets / f"copy-{training_set.hash[:16]}")
