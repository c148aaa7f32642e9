"""One run of training: the job for a launcher, the MLflow run beside it, the version that comes out."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from immr import wiring
from immr.data.training_set import TrainingSet
from immr.errors import RegistryError
from immr.loop import training_sets
from immr.recipes import Recipe
from immr.settings import Settings
from immr.types import ModelVersion

if TYPE_CHECKING:
    from pathlib import Path

    from immr.registry.versions import Registry
    from immr.train.job import TrainJob

log = logging.getLogger(__name__)


def folder_of(settings: Settings, key: str) -> Path:
    """The folder of this key's job."""
    return settings.work_dir / "training" / key[:16]


def finished(settings: Settings, registry: Registry, key: str) -> ModelVersion | None:
    """The version of this key, where its files are still there."""
    version = registry.find(key)
    if version is None:
        return None
    try:
        registry.fetch(version, settings.cache_dir)
    except RegistryError as error:
        log.warning("train: %s is registered, but useless (%s): training it again", version.id, error)
        return None
    return version


def run(
    settings: Settings, registry: Registry, training_set: TrainingSet, recipe: Recipe, key: str
) -> TrainJob:
    """Train, or go on where an earlier run of this key was cut off; what came out lies in the job's `out`.

    Raises:
        TrainingError: a worker failed or the loss is not a number.
    """
    job = _job(settings, registry, training_set, recipe, key)
    try:
        _launch(settings, job)
    except BaseException:
        _note_failure(registry, job)
        raise
    return job


def register(registry: Registry, job: TrainJob) -> ModelVersion:
    """Register what a job has left behind; a version of its key that lost its files gets them again."""
    from immr.model.card import Card

    assert job.run_id is not None
    if lost := registry.find(job.key):
        version = registry.restore(lost, job.out)
    else:
        card = Card.read(job.out)
        version = registry.register(
            job.out,
            job.key,
            job.run_id,
            dim=card.model.embedding_dim,
            preprocessing_hash=card.preprocessing.hash,
            manifest_hash=card.manifest_hash,
            recipe=card.recipe,
        )
    registry.runs.finish(job.run_id)
    return version


def _job(
    settings: Settings, registry: Registry, training_set: TrainingSet, recipe: Recipe, key: str
) -> TrainJob:
    from immr.train.job import TrainJob

    run_id = registry.runs.start(
        f"{recipe.name}-{key[:8]}",
        params=asdict(recipe),
        tags={"manifest_hash": training_set.hash, "recipe": recipe.name},
        key=key,
    )
    folder = folder_of(settings, key)
    return TrainJob(
        training_set=training_sets.below_home(settings, training_set).folder.absolute(),
        out=folder / "version",
        checkpoints=folder / "checkpoints",
        cache_dir=settings.cache_dir,
        recipe_name=recipe.name,
        model=recipe.model,
        train=recipe.train,
        key=key,
        manifest_hash=training_set.hash,
        tracking_url=settings.tracking_url,
        run_id=run_id,
    )


def _launch(settings: Settings, job: TrainJob) -> None:
    from immr.launch.launcher import TrainingJob

    job_file = job.out.parent / "job.json"
    job.write(job_file)
    name = f"immr-{job.key[:12]}"
    wiring.launcher(settings).run(TrainingJob(name, job_file, job.train.processes, job.out))


def _note_failure(registry: Registry, job: TrainJob) -> None:
    """What went wrong counts more than a registry that cannot be told."""
    assert job.run_id is not None
    try:
        registry.runs.finish(job.run_id, failed=True)
    except RegistryError as error:
        log.warning("train: the run could not be marked as failed (%s)", error)
