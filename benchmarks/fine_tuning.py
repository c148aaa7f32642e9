"""What fine-tuning is worth: recall@1 before and after it, of seen and unseen items, and its time.

    python -m benchmarks.fine_tuning --json fine_tuning.json     # both, two processes; minutes
    python -m benchmarks.fine_tuning --only seen --epochs 4

The data set's own labels, so that governance plays no part. A row is a version as it serves: its ONNX query
encoder and its documents. `frozen` is the same recipe without its second stage.

seen: all classes are learned; photos of the split `val` among all documents.
unseen: ten classes of packaged goods are kept out of training, photos and documents both; then all of their
    photos are searched with, among all documents.

Each row also has the recall@1 with plain documents, from one view and without the picture as a photo, and that of the
catalogue's own pictures, searched with as if they were photos.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from benchmarks.fusion import UNSEEN_CATEGORY, UNSEEN_CLASSES, training_set_of
from immr.data.pictures import picture_files
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.datasets.named import load_dataset
from immr.evaluation.exact_search import best_picture
from immr.launch.launcher import TrainingJob
from immr.launch.local import LocalLauncher
from immr.model.documents import encode_pictures
from immr.model.model_card import Card
from immr.model.query_encoder import OnnxQueryEncoder
from immr.recipes import Recipe, by_name
from immr.settings import Settings
from immr.storage import fingerprint
from immr.train.job import TrainJob

_BATCH = 64


def main(
    recipe: str = "grocery",
    dataset: str = "grocery",
    only: Annotated[str, typer.Option(help="seen or unseen; both if empty.")] = "",
    epochs: Annotated[int | None, typer.Option(help="Of fine-tuning, instead of the recipe's.")] = None,
    seed: int = 0,
    json_file: JsonFile = None,
) -> None:
    """Recall@1 and seconds, frozen and fine-tuned, for seen and unseen items."""
    settings = Settings()
    labelled = load_dataset(dataset, settings.data_mirror, settings.cache_dir)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with TemporaryDirectory() as folder:
        for what in [only] if only else ["seen", "unseen"]:
            unseen = _drawn(labelled, seed) if what == "unseen" else frozenset[int]()
            for name, tried in _variants(by_name(recipe), epochs, seed).items():
                place = Path(folder) / f"{what}-{name}"
                figures.setdefault(what, {})[name] = measured(labelled, tried, unseen, place, settings)
    _show(figures)
    write_figures(json_file, figures)


def _variants(recipe: Recipe, epochs: int | None, seed: int) -> dict[str, Recipe]:
    train = replace(recipe.train, seed=seed)
    if train.fine_tune is None:
        raise SystemExit(f"the recipe {recipe.name} does not fine-tune: take one with train.fine_tune")
    tuning = replace(train.fine_tune, epochs=epochs or train.fine_tune.epochs)
    return {
        "frozen": replace(recipe, train=replace(train, fine_tune=None)),
        "fine-tuned": replace(recipe, train=replace(train, fine_tune=tuning)),
    }


def _drawn(labelled: LabelledSet, seed: int) -> frozenset[int]:
    goods = [row for row, item in enumerate(labelled.items) if item.category.startswith(UNSEEN_CATEGORY)]
    chosen = np.random.default_rng(seed).choice(goods, UNSEEN_CLASSES, replace=False)
    return frozenset(int(row) for row in chosen)


def measured(
    labelled: LabelledSet, recipe: Recipe, unseen: frozenset[int], place: Path, settings: Settings
) -> dict[str, float]:
    """Recall of a recipe's version, trained without the classes of some items, and its seconds."""
    place.mkdir()
    training_set = training_set_of(labelled, unseen, place / "training-set")
    job = TrainJob(
        training_set=training_set.folder,
        out=place / "version",
        checkpoints=place / "checkpoints",
        cache_dir=settings.cache_dir,
        recipe_name=recipe.name,
        model=recipe.model,
        train=recipe.train,
        key=fingerprint.of_values(recipe.train, sorted(unseen)),
        manifest_hash="benchmark",
    )
    job.write(place / "job.json")
    began = time.perf_counter()
    LocalLauncher().run(TrainingJob("benchmark", place / "job.json", recipe.train.processes, job.out))
    seconds = time.perf_counter() - began
    row_of = {item.item_id: row for row, item in enumerate(labelled.items)}

    def wanted(photo: DatasetPhoto) -> bool:
        return row_of[photo.item_id] in unseen if unseen else photo.split == "val"

    photos = [photo for photo in labelled.photos if wanted(photo)]
    of_photos = [photo.image for photo in photos], [row_of[photo.item_id] for photo in photos]
    of_catalogue = [item.image for item in labelled.items], list(row_of.values())
    plain = with_documents(job.out, place / "plain", picture_as_photo=0.0, document_views=1)
    return {
        "recall_at_1": _recall(labelled, job.out, settings.cache_dir, *of_photos),
        "plain_documents_recall_at_1": _recall(labelled, plain, settings.cache_dir, *of_photos),
        "catalogue_recall_at_1": _recall(labelled, job.out, settings.cache_dir, *of_catalogue),
        "seconds": seconds,
    }


def with_documents(version: Path, copy: Path, **changes: float) -> Path:
    """A copy of a version that embeds documents by other settings of its `ModelRecipe`."""
    shutil.copytree(version, copy)
    card = Card.read(copy)
    replace(card, model=replace(card.model, **changes)).write(copy)  # type: ignore[arg-type]
    return copy


def _recall(
    labelled: LabelledSet, version: Path, cache_dir: Path, pictures: Sequence[str], right: Sequence[int]
) -> float:
    """recall@1 of pictures as the version serves."""
    encoder = OnnxQueryEncoder(version, threads=torch.get_num_threads())
    parts = [pictures[start : start + _BATCH] for start in range(0, len(pictures), _BATCH)]
    decoded = ([encoder.decode(picture_files.read(picture)) for picture in part] for part in parts)
    queries_ND = np.concatenate([encoder.encode(part) for part in decoded])
    found = encode_pictures(version, labelled.items, cache_dir)
    return float((best_picture(queries_ND @ found.rows_PD.T, found.pictures_N).argmax(1) == right).mean())


def _show(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    columns = ("", "encoder", "recall@1", "plain documents", "of catalogue pictures", "minutes")
    table = Table(*columns, title="Fine-tuning, features and export included")
    for what, rows in figures.items():
        for name, row in rows.items():
            keys = ("recall_at_1", "plain_documents_recall_at_1", "catalogue_recall_at_1")
            recalls = (f"{row[key]:.3f}" for key in keys)
            table.add_row(what, name, *recalls, f"{row['seconds'] / 60:.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
