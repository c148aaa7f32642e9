"""Train: train a model on a training set and register it as a version."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from immr import __version__
from immr.errors import RegistryError
from immr.loop import govern
from immr.model.preprocessing import READING
from immr.registry import reports
from immr.registry.versions import PIPELINE_RUN
from immr.storage import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from immr.data.training_set import TrainingSet
    from immr.recipes import Recipe
    from immr.train.job import TrainJob
    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def train(parts: Parts, training_set: TrainingSet, recipe: Recipe, pipeline_run: str = "") -> ModelVersion:
    """Train the recipe's towers on a training set and register the result.

    An interrupted run resumes from its last checkpoint. A version trained from the same data and recipe is
    reused as long as its files exist.

    Args:
        parts: The process's adapters.
        training_set: What to train on.
        recipe: How to train.
        pipeline_run: The id of the pipeline run, if this is a step of one; kept with the version.

    Raises:
        CapacityError: Training needs more memory or disk than is free.
        RecipeError: An encoder is unknown, or does not take pictures of the recipe's size; or a slice that the
            gate's settings name does not exist.
        TrainingError: A worker failed, or the loss became NaN.
        RegistryError: MLflow does not answer or refuses the version.
    """
    from immr.evaluation import slices
    from immr.launch.job_lock import job_lock
    from immr.recipes import check_encoders, keep_with

    slices.check_names(recipe.gate.slice_margins, training_set)
    key = fingerprint.of_values("train", __version__, READING, training_set.hash, recipe.model, recipe.train)
    with job_lock(_job_folder(parts, key)):
        if existing := _trained_before(parts, key):
            log.info("train: reusing %s, trained from the same data and recipe", existing.id)
            keep_with(parts.registry, existing, recipe)
            parts.registry.runs.finish_of_reused(existing.run_id)
            return existing
        check_encoders(recipe)
        _check_capacity(parts, training_set, recipe)
        job = _job(parts, training_set, recipe, key, pipeline_run)
        try:
            _launch(parts, job)
        except BaseException:
            _mark_as_failed(parts, job)
            raise
        version = _register(parts, job, training_set, pipeline_run)
        keep_with(parts.registry, version, recipe)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        return version


def stop_training(parts: Parts, run: str) -> list[str]:
    """Stop the training jobs that a pipeline run has left behind; returns their names.

    Raises:
        TrainingError: The cluster refuses.
    """
    return parts.launcher.stop(run)


def _trained_before(parts: Parts, key: str) -> ModelVersion | None:
    version = parts.registry.find(key)
    if version is None:
        return None
    try:
        parts.registry.fetch(version, parts.settings.cache_dir)
    except RegistryError as error:
        log.warning("train: the files of %s are missing (%s): training it again", version.id, error)
        return None
    return version


def _check_capacity(parts: Parts, training_set: TrainingSet, recipe: Recipe) -> None:
    """Refuse training that does not fit this machine. Not for clusters, whose nodes are not known here."""
    from immr.machine import capacity
    from immr.train.inputs.resource_estimate import cached_bytes, need

    settings = parts.settings
    if settings.launch_url.startswith("local:"):
        needed = need(len(training_set.queries), training_set.items, recipe.model, recipe.train)
        if needed.disk_bytes > capacity.free_disk(settings.home):  # a lookup of all features takes a while
            there = cached_bytes(training_set, recipe.model, recipe.train, settings.cache_dir)
            needed = replace(needed, disk_bytes=max(0.0, needed.disk_bytes - there))
        capacity.check("train", needed, settings.home, settings.too_large)


def _job_folder(parts: Parts, key: str) -> Path:
    return parts.settings.work_dir / "training" / key[:16]


def _job(parts: Parts, training_set: TrainingSet, recipe: Recipe, key: str, pipeline_run: str) -> TrainJob:
    from immr.train.job import TrainJob

    tags = {"manifest_hash": training_set.hash, "recipe": recipe.name}
    if pipeline_run:
        tags[PIPELINE_RUN] = pipeline_run
    run_id = parts.registry.runs.start(
        f"{recipe.name}-{key[:8]}",
        params=asdict(recipe),
        tags=tags,
        key=key,
    )
    folder = _job_folder(parts, key)
    return TrainJob(
        training_set=govern.below_home(parts, training_set).folder.absolute(),
        out=folder / "version",
        checkpoints=folder / "checkpoints",
        cache_dir=parts.settings.cache_dir,
        recipe_name=recipe.name,
        model=recipe.model,
        train=recipe.train,
        key=key,
        manifest_hash=training_set.hash,
        tracking_url=parts.settings.tracking_url,
        run_id=run_id,
        pixels_url=parts.pixels_url,
    )


def _launch(parts: Parts, job: TrainJob) -> None:
    from immr.launch.launcher import TrainingJob

    job_file = job.out.parent / "job.json"
    job.write(job_file)
    parts.launcher.run(TrainingJob(f"immr-{job.key[:12]}", job_file, job.train.processes, job.out))


def _register(parts: Parts, job: TrainJob, training_set: TrainingSet, pipeline_run: str) -> ModelVersion:
    """Register a job's output, or restore the files of the version with the same key that lost them."""
    from immr.model.model_card import Card
    from immr.registry.logged_models import Origin

    assert job.run_id is not None, "the job was started with its run"
    registry = parts.registry
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
            origin=Origin(
                card.model.image_size_px,
                str(training_set.folder),
                training_set.sizes(),
                pipeline_run,
                reports.pipeline_run_link(parts.settings, pipeline_run),
            ),
        )
    registry.runs.finish(job.run_id)
    return version


def _mark_as_failed(parts: Parts, job: TrainJob) -> None:
    """Mark the run as failed; an unavailable registry must not hide the cause of the failure."""
    assert job.run_id is not None, "the job was started with its run"
    try:
        parts.registry.runs.finish(job.run_id, failed=True)
    except RegistryError as error:
        log.warning("train: the run could not be marked as failed (%s)", error)
