"""A training job: one JSON file with everything a process needs, and the version folder it writes."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.data.training_set import TrainingSet
from immr.model.model_card import CARD, IMAGE_ENCODER, TOWERS, Card
from immr.model.model_recipe import ModelRecipe
from immr.storage.atomic import replace_folder_atomically, write_atomically
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

if TYPE_CHECKING:
    from torch import Tensor

    from immr.model.towers import Towers
    from immr.train.tracking import Tracker

CURVES = "curves.json"
JOURNAL = "metrics.jsonl"
_PATHS = ("training_set", "out", "checkpoints", "cache_dir")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainJob:
    """What to train, on which data, and where results go."""

    training_set: Path
    out: Path  # the version's folder: card.json, query_encoder.onnx, towers.pt, curves.json …
    checkpoints: Path
    cache_dir: Path
    recipe_name: str
    model: ModelRecipe
    train: TrainRecipe
    key: str
    manifest_hash: str
    tracking_url: str | None = None
    run_id: str | None = None
    pixels_url: str = ""  # where shards of decoded pictures are kept; empty: below `cache_dir`

    def write(self, path: Path) -> None:
        """Write the job to a JSON file."""
        fields = dataclasses.asdict(self) | {name: str(getattr(self, name).absolute()) for name in _PATHS}
        write_atomically(path, json.dumps(fields, indent=1))

    @classmethod
    def read(cls, path: Path) -> TrainJob:
        """Read a job from its JSON file."""
        fields: dict[str, Any] = json.loads(path.read_text())
        fields |= {name: Path(fields[name]) for name in _PATHS}
        fields["model"] = ModelRecipe(**fields["model"])
        if tuning := fields["train"]["fine_tune"]:
            fields["train"]["fine_tune"] = FineTuneRecipe(**tuning)
        fields["train"] = TrainRecipe(**fields["train"])
        return cls(**fields)

    @property
    def done(self) -> bool:
        """Whether `out` already contains the version of this key."""
        return (self.out / CARD).is_file() and Card.read(self.out).key == self.key


def run(job: TrainJob, world: World) -> None:
    """Train and write the version's folder, unless it already contains this version.

    Metrics that an earlier attempt could not send to MLflow are sent now, even if nothing is left to train.

    Raises:
        TrainingError: the loss is not finite, there are too few data, or the export differs from torch.
    """
    from immr.train.tracking import Tracker

    tracker = None
    if world.leads:
        tracker = Tracker(job.checkpoints.parent / JOURNAL, job.tracking_url, job.run_id)
    try:
        if world.agree(job.done):
            _log.info("%s already contains version %s", job.out, job.key)
        else:
            _train(job, world, tracker)
    finally:
        if tracker:
            tracker.close()


def _train(job: TrainJob, world: World, tracker: Tracker | None) -> None:
    from immr.machine.allocator import keep_large_buffers
    from immr.train.checkpoint import Checkpoints
    from immr.train.inputs.features import training_arrays
    from immr.train.loop import Trainer
    from immr.train.sharded_encoder import whole_state

    started = time.monotonic()
    if tracker:
        tracker.params(_params(job))
    arrays = training_arrays(
        TrainingSet(job.training_set),
        job.model,
        job.train.views,
        job.cache_dir,
        world,
        sample=job.train.frozen_photos,
    )
    featured = time.monotonic()
    trainer = Trainer(arrays, job.model, job.train, world)
    checkpoints = Checkpoints(job.checkpoints, job.key, world)
    trainer.run(checkpoints, tracker)
    encoder_state = None
    if job.train.fine_tune:
        keep_large_buffers()
        own = Checkpoints(job.checkpoints / "fine-tune", job.key, world)
        encoder_state = whole_state(trainer.fine_tune(own, tracker, job.cache_dir, job.pixels_url))
    trained = time.monotonic()
    if tracker:
        difference = _write_version(job, trainer.towers.cpu(), encoder_state, trainer.curves)
        seconds = {"features_s": featured - started, "training_s": trained - featured}
        tracker.metrics(seconds | {"onnx_max_abs_diff": difference}, step=trainer.progress.epoch)
        _log.info("features %.1f s, training %.1f s, ONNX differs by %.1g", *seconds.values(), difference)
    checkpoints.clear()


def _write_version(
    job: TrainJob, towers: Towers, encoder_state: dict[str, Tensor] | None, curves: dict[str, list[float]]
) -> float:
    import torch

    from immr.model.encoders.by_name import preprocessing_of
    from immr.model.features.class_photo_features import class_photos_of
    from immr.model.text_tower import export_text_encoder
    from immr.train.export import export_query_encoder

    with replace_folder_atomically(job.out) as folder:
        if encoder_state:
            torch.save(encoder_state, folder / IMAGE_ENCODER)
        difference = export_query_encoder(job.model, towers.query, folder, job.cache_dir)
        export_text_encoder(job.model, towers.document, folder)
        torch.save(towers.state_dict(), folder / TOWERS)
        if job.model.photos_per_class:
            photos = TrainingSet(job.training_set)
            class_photos_of(photos, job.model, towers.query, folder, job.cache_dir).write(folder)
        (folder / CURVES).write_text(json.dumps(curves, indent=1))
        card = Card(
            recipe=job.recipe_name,
            model=job.model,
            preprocessing=preprocessing_of(job.model),
            manifest_hash=job.manifest_hash,
            key=job.key,
        )
        card.write(folder)
    return difference


def _params(job: TrainJob) -> dict[str, object]:
    parts = {"model": dataclasses.asdict(job.model), "train": dataclasses.asdict(job.train)}
    values = {f"{part}.{name}": value for part, fields in parts.items() for name, value in fields.items()}
    return {"recipe": job.recipe_name, "key": job.key, "manifest_hash": job.manifest_hash} | values
