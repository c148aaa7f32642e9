"""Is training ever worse than none? Recall@1 of small and lopsided shops, on photos held out of `train`.

    python -m benchmarks.few_photos --json few_photos.json          # grocery and icons, towers on frozen features
    python -m benchmarks.few_photos --dataset grocery --only "5 classes" --fine-tuned   # as it serves, too

Each case keeps few photos of the split `train`: one, two or five of each class, or a number that falls with the
class's rank (Zipf). The whole catalogue is trained and searched. Of `grocery`, the last quarter of a class's photos
by file name is held out, and photos are drawn from the first 60 %, because neighbours show the same shelf; of
`icons`, the photos of twenty designers are held out.

untrained     the pretrained encoder, as `immr start` serves it
image_only    the recipe
towers        the towers of `grocery`, before it fine-tunes the encoder
grocery       the whole recipe, with --fine-tuned

Photos whose class had photos in training are searched with; the mean over seeds, which draw other classes and photos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from benchmarks.fine_tuning import measured
from benchmarks.fusion import training_set_of
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.datasets.named import load_dataset
from immr.model.features.document_features import DocumentFeatures
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import Towers
from immr.recipes import Recipe, by_name
from immr.settings import Settings
from immr.train.checkpoint import Checkpoints
from immr.train.inputs.features import training_arrays
from immr.train.loop import Trainer
from immr.train.world import World

HELD_OUT_DESIGNERS, ICON_CLASSES, OTHER_ICONS = 20, 1000, 1000


@dataclass(frozen=True)
class Case:
    """How many classes have photos: the class of rank r has `first` / r^`skew` of them, at least one."""

    name: str
    classes: int
    first: int
    skew: float = 0.0

    def count(self, rank: int) -> int:
        """Photos of the class of this rank, which starts at 1."""
        return max(1, round(self.first / rank**self.skew))


CASES = {
    "grocery": (
        Case("5 classes, 1 photo each", 5, 1),
        Case("10 classes, 5 photos each", 10, 5),
        Case("81 classes, 1 photo each", 81, 1),
        Case("81 classes, 2 photos each", 81, 2),
        Case("81 classes, 5 photos each", 81, 5),
        Case("81 classes, Zipf from 40 photos", 81, 40, 1.0),
    ),
    "icons": (
        Case("10 classes, 1 photo each", 10, 1),
        Case("81 classes, 2 photos each", 81, 2),
        Case("1000 classes, 1 photo each", 1000, 1),
        Case("1000 classes, 5 photos each", 1000, 5),
        Case("1000 classes, Zipf from 10 photos", 1000, 10, 1.0),
    ),
}


def main(
    dataset: Annotated[str, typer.Option(help="grocery or icons; both if empty.")] = "",
    only: Annotated[str, typer.Option(help="Only cases whose name begins so.")] = "",
    fine_tuned: Annotated[bool, typer.Option("--fine-tuned", help="Also the whole recipe grocery.")] = False,
    seeds: int = 2,
    json_file: JsonFile = None,
) -> None:
    """Recall@1 by case, untrained and trained."""
    settings = Settings()
    figures: dict[str, dict[str, float]] = {}
    for name in [dataset] if dataset else list(CASES):
        labelled = _split(load_dataset(name, settings.data_mirror, settings.cache_dir))
        for case in CASES[name]:
            if not case.name.startswith(only):
                continue
            found: dict[str, list[float]] = defaultdict(list)
            for seed in range(seeds):
                few = some_photos(labelled, case, seed)
                with TemporaryDirectory() as folder:
                    for row, recall in _recalls(few, seed, Path(folder), settings, fine_tuned):
                        found[row].append(recall)
            figures[f"{name}: {case.name}"] = {row: mean(recalls) for row, recalls in found.items()}
            print(case.name, figures[f"{name}: {case.name}"], flush=True)
            write_figures(json_file, figures)
    table = Table("", *next(iter(figures.values())), title=f"recall@1, {seeds} seeds")
    for name, row in figures.items():
        table.add_row(name, *(f"{recall:.3f}" for recall in row.values()))
    Console().print(table)


def _split(labelled: LabelledSet) -> LabelledSet:
    """The same with photos to draw from as `train`, and held-out photos as `val`, both from `train`."""
    return _split_by_file(labelled) if labelled.name == "grocery" else _split_by_designer(labelled)


def _split_by_file(labelled: LabelledSet) -> LabelledSet:
    photos: list[DatasetPhoto] = []
    for own in _by_item(labelled.split("train")).values():
        own = sorted(own, key=lambda photo: photo.image)
        photos += own[: int(len(own) * 0.6)]
        photos += [photo._replace(split="val") for photo in own[int(len(own) * 0.75) :]]
    return replace(labelled, photos=photos)


def _split_by_designer(labelled: LabelledSet) -> LabelledSet:
    """A thousand classes with photos by held-out and other designers, and as many other items."""
    rng, train = np.random.default_rng(0), labelled.split("train")
    by_item = _by_item(train)
    held = set(rng.choice(sorted({photo.source for photo in train}), HELD_OUT_DESIGNERS, replace=False))
    known = [
        item
        for item, own in by_item.items()
        if any(photo.source in held for photo in own) and sum(photo.source not in held for photo in own) >= 5
    ]
    photos: list[DatasetPhoto] = []
    chosen = rng.permutation(sorted(known))[:ICON_CLASSES].tolist()
    for item in chosen:
        ours = [photo for photo in by_item[item] if photo.source not in held]
        theirs = [photo for photo in by_item[item] if photo.source in held]
        photos += [ours[row] for row in rng.permutation(len(ours))[:10]]
        photos += [theirs[row]._replace(split="val") for row in rng.permutation(len(theirs))[:4]]
    others = [
        item.item_id for item in labelled.items if item.item_id not in {*chosen, *labelled.unseen_items}
    ]
    kept = {*chosen, *rng.permutation(others)[:OTHER_ICONS].tolist()}
    items = [item for item in labelled.items if item.item_id in kept]
    return replace(labelled, items=items, photos=photos)


def _by_item(photos: Sequence[DatasetPhoto]) -> dict[str, list[DatasetPhoto]]:
    found: dict[str, list[DatasetPhoto]] = defaultdict(list)
    for photo in photos:
        found[photo.item_id].append(photo)
    return found


def some_photos(labelled: LabelledSet, case: Case, seed: int) -> LabelledSet:
    """The same catalogue with this case's photos, and the held-out photos of their classes."""
    rng, by_item = np.random.default_rng(seed), _by_item(labelled.split("train"))
    held = _by_item(labelled.split("val"))
    chosen = rng.permutation(sorted(by_item.keys() & held.keys()))[: case.classes].tolist()
    photos: list[DatasetPhoto] = []
    for rank, item in enumerate(chosen, start=1):
        photos += [by_item[item][row] for row in rng.permutation(len(by_item[item]))[: case.count(rank)]]
        photos += held[item]
    return replace(labelled, photos=photos)


def _recalls(
    labelled: LabelledSet, seed: int, folder: Path, settings: Settings, fine_tuned: bool
) -> Iterator[tuple[str, float]]:
    recipes = {
        "image_only": _framed(by_name("image_only"), labelled),
        "towers": _framed(by_name("grocery"), labelled),
    }
    yield "untrained", _recall(None, recipes["towers"].model, labelled, settings)
    for name, recipe in recipes.items():
        yield (
            name,
            _recall(
                _trained(recipe, labelled, seed, folder / name, settings), recipe.model, labelled, settings
            ),
        )
    if fine_tuned:
        recipe = recipes["towers"]
        recipe = replace(recipe, train=replace(recipe.train, seed=seed))
        found = measured(labelled, recipe, frozenset(), folder / "grocery", settings)
        yield "grocery", found["recall_at_1"]


def _framed(recipe: Recipe, labelled: LabelledSet) -> Recipe:
    """For drawings: framed and of the size that `many_classes` has."""
    if labelled.name == "grocery":
        return recipe
    drawn = by_name("many_classes").model
    model = replace(recipe.model, framing=drawn.framing, image_size_px=drawn.image_size_px)
    return replace(recipe, model=model, train=replace(recipe.train, views=1))


def _trained(recipe: Recipe, labelled: LabelledSet, seed: int, folder: Path, settings: Settings) -> Towers:
    folder.mkdir()
    wanted = recipe.train
    train = replace(
        wanted,
        seed=seed,
        processes=1,
        batch_size=wanted.batch_size * wanted.processes,
        document_batch_size=wanted.document_batch_size * wanted.processes,
        fine_tune=None,
    )
    training_set = training_set_of(labelled, frozenset(), folder / "training-set")
    arrays = training_arrays(training_set, recipe.model, train.views, settings.cache_dir, World())
    trainer = Trainer(arrays, recipe.model, train, World())
    return trainer.run(Checkpoints(folder / "checkpoints", "benchmark", World()), tracker=None)


def _recall(towers: Towers | None, model: ModelRecipe, labelled: LabelledSet, settings: Settings) -> float:
    """Recall@1 of the held-out photos by frozen features; untrained without towers."""
    photos = labelled.split("val")
    features, share = ImageFeatures(model, settings.cache_dir), Share(threads=torch.get_num_threads())
    hashes = image_hashes([photo.image for photo in photos])
    features.compute(hashes, ["fit"], share)
    read = features.read([hashes[photo.image] for photo in photos], ["fit"])
    of_items = DocumentFeatures(model, settings.cache_dir)
    of_items.compute(labelled.items, ["fit"], share)
    rows_M = torch.arange(len(labelled.items))
    documents = of_items.read(labelled.items, ["fit"]).batch(rows_M, torch.zeros_like(rows_M))
    if towers is None:
        plain = replace(model, plain_share=0.0, shared_projection=True)
        towers = Towers.pretrained(plain, documents.pictures_BF)
    with torch.inference_mode():
        photos_ND = towers.query(read.in_view(0).float())
        found_N = (photos_ND @ towers.document(documents).T).argmax(1).numpy()
    return float(
        np.mean(
            [labelled.items[row].item_id == photo.item_id for row, photo in zip(found_N, photos, strict=True)]
        )
    )


if __name__ == "__main__":
    typer.run(main)
