"""Which fusion of picture and text finds the right item, seen in training or not?

    python -m benchmarks.fusion --json fusion.json                        # all fusions, three seeds
    python -m benchmarks.fusion --fusion concept_slots --seeds 1          # one fusion

Trains on the data set's own labels, so that governance plays no part, with the default recipe but for the
fusion. Each training leaves out ten classes of packaged goods, photos and documents, different ones for each
seed. Every figure is recall@1 among all documents, mean ± standard deviation over seeds.

seen: photos of the split `val`, of classes that were trained.
unseen: all photos of the ten classes that were left out.
no picture, no text: `seen` if all documents lack it, or every second one does.
same concepts: mean pairwise cosine of a document's concepts, for fusions that have them; 1 if all are equal.

Beside the fusions: `image` without the plain part of an embedding, and also with a projection of its own for
each side; and the plain part alone, which is fitted without labels.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Annotated, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.figures import JsonFile, write_figures
from immr.data.training_set import TrainingSet
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.datasets.named import load_dataset
from immr.model.features.document_features import DocumentFeatures
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.fusion import ConceptFusion
from immr.model.model_recipe import FusionName, ModelRecipe
from immr.model.towers import DocumentBatch, Towers
from immr.recipes import Recipe, by_name
from immr.settings import Settings
from immr.train.checkpoint import Checkpoints
from immr.train.inputs.features import TrainingArrays, training_arrays
from immr.train.loop import Trainer
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

UNSEEN_CLASSES, UNSEEN_CATEGORY = 10, "Packages"
COLUMNS = ("seen", "unseen", "no picture", "half no picture", "no text", "half no text", "same concepts")
VARIANTS = {
    "image, no plain part": ModelRecipe(fusion="image", plain_share=0.0),
    "image, no plain part, own projections": ModelRecipe(
        fusion="image", plain_share=0.0, shared_projection=False
    ),
}
PLAIN = "plain part alone"
Figures = dict[str, dict[str, list[float]]]
"""Row of the table → column → one figure per seed."""


@dataclass(frozen=True)
class Photos:
    """Query photos."""

    features_NF: Tensor
    items_N: Tensor  # row of the right item


class Bench:
    """The data set and its frozen features, shared by all trainings."""

    def __init__(self, recipe: Recipe, dataset: str, settings: Settings, folder: Path):
        self.recipe, self.folder, self.cache_dir = recipe, folder, settings.cache_dir
        self.labelled: LabelledSet = load_dataset(dataset, settings.data_mirror, settings.cache_dir)
        self.row_of = {item.item_id: row for row, item in enumerate(self.labelled.items)}
        photos = ImageFeatures(recipe.model, self.cache_dir)
        hashes = image_hashes([photo.image for photo in self.labelled.photos])
        photos.compute(hashes, ["fit"], Share(threads=torch.get_num_threads()))
        read = photos.read([hashes[photo.image] for photo in self.labelled.photos], ["fit"])
        self.features = read.in_view(0).float()
        self._arrays: dict[tuple[frozenset[int], bool], TrainingArrays] = {}

    def measure(self, model: ModelRecipe, seed: int) -> dict[str, float]:
        """All columns for one training; `plain` is `unseen` with the plain part alone."""
        left_out = self._left_out(seed)
        towers, batch = self._trained(model, seed, left_out), self._documents(model)
        seen = self._photos(lambda photo: photo.split == "val" and self.row_of[photo.item_id] not in left_out)
        unseen = self._photos(lambda photo: self.row_of[photo.item_id] in left_out)
        figures = {"seen": _recall(towers, seen, batch), "unseen": _recall(towers, unseen, batch)}
        if model.embedding_dim > model.dim:
            figures["plain"] = _recall(towers, unseen, batch, start=model.dim)
        if isinstance(towers.document.fusion, ConceptFusion):
            figures["same concepts"] = _concept_cosine(towers.document.fusion, batch)
        if towers.document.fusion.uses_picture and towers.document.fusion.uses_text:
            every = torch.ones(len(batch.has_picture_B), dtype=torch.bool)
            half = torch.arange(len(every)) % 2 == seed % 2
            for name, rows_B in (("", every), ("half ", half)):
                figures[f"{name}no picture"] = _recall(towers, seen, _without_picture(batch, rows_B))
                figures[f"{name}no text"] = _recall(towers, seen, _without_text(batch, rows_B))
        return figures

    def _left_out(self, seed: int) -> frozenset[int]:
        items = self.labelled.items
        goods = [self.row_of[item.item_id] for item in items if item.category.startswith(UNSEEN_CATEGORY)]
        return frozenset(np.random.default_rng(seed).choice(goods, UNSEEN_CLASSES, replace=False).tolist())

    def _photos(self, wanted: Callable[[DatasetPhoto], bool]) -> Photos:
        rows = [row for row, photo in enumerate(self.labelled.photos) if wanted(photo)]
        right = [self.row_of[self.labelled.photos[row].item_id] for row in rows]
        return Photos(self.features[rows], torch.tensor(right))

    def _documents(self, model: ModelRecipe) -> DocumentBatch:
        features = DocumentFeatures(model, self.cache_dir)
        features.compute(self.labelled.items, ["fit"])
        rows = torch.arange(len(self.labelled.items))
        return features.read(self.labelled.items, ["fit"]).batch(rows, torch.zeros_like(rows))

    def _trained(self, model: ModelRecipe, seed: int, unseen: frozenset[int]) -> Towers:
        recipe = self.recipe.train
        # one process with the batch of all the recipe's processes
        recipe = replace(
            recipe,
            seed=seed,
            processes=1,
            batch_size=recipe.batch_size * recipe.processes,
            document_batch_size=recipe.document_batch_size * recipe.processes,
        )
        arrays = self._read(model, unseen)
        with TemporaryDirectory(dir=self.folder) as scratch:
            trainer = Trainer(arrays, model, _without_checkpoints(recipe), World())
            return trainer.run(Checkpoints(Path(scratch), "benchmark", World()), tracker=None)

    def _read(self, model: ModelRecipe, unseen: frozenset[int]) -> TrainingArrays:
        """Training features, shared by all fusions but those that need patches."""
        patches = model.fusion == "concept_patch"
        if (unseen, patches) not in self._arrays:
            whole = replace(model, fusion="concept_patch" if patches else "concept")
            training_set = training_set_of(self.labelled, unseen, self.folder / str(len(self._arrays)))
            self._arrays[unseen, patches] = training_arrays(
                training_set, whole, self.recipe.train.views, self.cache_dir, World()
            )
        return self._arrays[unseen, patches]


def main(
    seeds: int = 3,
    fusion: Annotated[list[str] | None, typer.Option(help="Only these fusions; all by default.")] = None,
    dataset: str = "grocery",
    recipe: Annotated[str, typer.Option(help="Everything but the fusion.")] = "concept",
    json_file: JsonFile = None,
) -> None:
    """Recall@1 by fusion, of seen and unseen items."""
    began = time.perf_counter()
    figures: Figures = defaultdict(lambda: defaultdict(list))
    with TemporaryDirectory() as folder:
        bench = Bench(by_name(recipe), dataset, Settings(), Path(folder))
        for seed in range(seeds):  # outer loop, so that an interrupted run has fewer seeds
            for name, model in _rows(bench.recipe.model, fusion):
                found = bench.measure(model, seed)
                if "plain" in found and name == "image":
                    figures[PLAIN]["unseen"].append(found["plain"])
                for column in COLUMNS:
                    if column in found:
                        figures[name][column].append(found[column])
                print(f"{time.perf_counter() - began:5.0f} s  seed {seed}  {name}: {found}", flush=True)
    _show(figures, f"{dataset}, recall@1, {seeds} seeds")
    write_figures(json_file, _keys(figures) | {"seconds": time.perf_counter() - began})


def _rows(model: ModelRecipe, only: list[str] | None) -> Iterator[tuple[str, ModelRecipe]]:
    names: tuple[FusionName, ...] = get_args(FusionName)
    for name in names:
        if not only or name in only:
            yield name, replace(model, fusion=name)
    if not only:
        yield from VARIANTS.items()


def _recall(towers: Towers, photos: Photos, batch: DocumentBatch, start: int = 0) -> float:
    """Recall@1 by the embedding's dimensions from `start` on."""
    with torch.inference_mode():
        query_ND, document_MD = towers.query(photos.features_NF), towers.document(batch)
        found_N = (query_ND[:, start:] @ document_MD[:, start:].T).argmax(1)
    return float((found_N == photos.items_N).float().mean())


def _concept_cosine(fusion: ConceptFusion, batch: DocumentBatch) -> float:
    """Mean cosine of two different concepts of the same document."""
    with torch.inference_mode():
        concepts_BKD = F.normalize(fusion.read(batch.tokens_BTE, batch.mask_BT), dim=-1)
    cosines_BKK = concepts_BKD @ concepts_BKD.transpose(1, 2)
    different = ~torch.eye(concepts_BKD.shape[1], dtype=torch.bool)
    return float(cosines_BKK[:, different].mean())


def _without_picture(batch: DocumentBatch, rows_B: Tensor) -> DocumentBatch:
    patches_BPF = batch.patches_BPF
    return replace(
        batch,
        pictures_BF=batch.pictures_BF * ~rows_B[:, None],
        patches_BPF=None if patches_BPF is None else patches_BPF * ~rows_B[:, None, None],
        has_picture_B=batch.has_picture_B & ~rows_B,
    )


def _without_text(batch: DocumentBatch, rows_B: Tensor) -> DocumentBatch:
    return replace(
        batch,
        tokens_BTE=batch.tokens_BTE * ~rows_B[:, None, None],
        mask_BT=batch.mask_BT & ~rows_B[:, None],
    )


def training_set_of(labelled: LabelledSet, unseen: frozenset[int], folder: Path) -> TrainingSet:
    """A training set as governance writes it, from the data set's own labels; an item's row is its class."""
    folder.mkdir()
    row_of = {item.item_id: row for row, item in enumerate(labelled.items)}
    items = [
        asdict(item)
        | {"attributes": json.dumps(dict(item.attributes)), "class_id": row, "unseen": row in unseen}
        for row, item in enumerate(labelled.items)
    ]
    now = datetime.now(UTC)
    queries = [
        {
            "query_id": f"q{number}",
            "user_id": "u",
            "ts": now,
            "image": photo.image,
            "class_id": row_of[photo.item_id],
            "weight": 1.0,
        }
        for number, photo in enumerate(labelled.split("train"))
        if row_of[photo.item_id] not in unseen
    ]
    for table, rows in (("items", items), ("queries", queries)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{table}.parquet")
    (folder / "manifest.json").write_text(json.dumps({"hash": folder.name}))
    return TrainingSet(folder)


def _without_checkpoints(recipe: TrainRecipe) -> TrainRecipe:
    return replace(recipe, checkpoint_every_steps=10**9)


def _keys(figures: Figures) -> dict[str, object]:
    means = {name: {column: mean(values) for column, values in row.items()} for name, row in figures.items()}
    return {
        "seen": {name: row["seen"] for name, row in means.items() if "seen" in row},
        "unseen": {name: row["unseen"] for name, row in means.items() if "unseen" in row},
        "by_seed": figures,
    }


def _show(figures: Figures, title: str) -> None:
    table = Table(title=title)
    for column in ("", *COLUMNS):
        table.add_column(column)
    for name, row in figures.items():
        table.add_row(name, *(_figure(row.get(column, [])) for column in COLUMNS))
    Console(width=140).print(table)


def _figure(values: list[float]) -> str:
    if not values:
        return ""
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    typer.run(main)
