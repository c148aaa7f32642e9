"""What cleaning makes of a log whose errors are not spread evenly.

    python -m benchmarks.governance --world swaps-31 --json figures.json
    python -m benchmarks.governance --world all
    python -m benchmarks.governance --world swaps-31 --dataset icons

The worlds are described in label_errors.py. `held-out` and `drift` ask whether recall on held-out photos is what
shoppers will see (held_out_recall.py), on grocery only. oracle: precision and share of right labels kept if the
pairs, their rates and all other true classes were known. Of `icons`, the 80 classes with the most photos are used.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.figures import write_figures
from benchmarks.governance import held_out_recall, oracle
from benchmarks.governance.label_errors import WORLDS, Photos
from immr import recipes
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.datasets.named import load_dataset
from immr.governance.embedder import FrozenEmbedder
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.class_scores import Ints
from immr.governance.labels.cleaning import Labels, clean
from immr.machine import cores
from immr.settings import Settings
from immr.storage import fingerprint
from immr.types import FloatArray

RECIPE = GovernanceRecipe()
RECIPE_OF = {"grocery": "concept", "icons": "many_classes"}
"""The data sets, each with the recipe whose encoder and framing suit its pictures."""
HOLD_OUTS = ("held-out", "drift")
CLASSES, PHOTOS_PER_CLASS = 80, 40  # of icons


@dataclass(frozen=True)
class Figures:
    """One row of the table."""

    world: str
    photos: int
    wrong_share: float
    estimated_wrong_share: float
    precision: float
    kept: float
    tail_third_kept: float
    oracle_precision: float | None = None  # of swaps: see oracle.py
    oracle_kept: float | None = None


class Embedded:
    """A data set's photos as embeddings and numbers of classes."""

    def __init__(self, dataset: str) -> None:
        settings = Settings()
        self._labelled = load_dataset(dataset, settings.data_mirror, settings.cache_dir)
        recipe = recipes.by_name(RECIPE_OF[dataset])
        self._embedder = FrozenEmbedder(recipe.model, settings.cache_dir, cores.usable())
        self._photos = self._labelled.split("train")
        if dataset == "icons":
            self._photos = _of_common_classes(self._labelled)
        classes = {photo.item_id for photo in self._photos}
        items = [item for item in self._labelled.items if item.item_id in classes]
        self._number = {item.item_id: index for index, item in enumerate(items)}
        categories = sorted({item.category for item in items})
        self.category_C = np.array([categories.index(item.category) for item in items])

    def train(self) -> tuple[FloatArray, Ints]:
        """(N, F) embeddings of the training photos, and (N,) true classes."""
        return self._of(self._photos)

    def val(self) -> tuple[FloatArray, Ints]:
        """The same of `val`."""
        return self._of(self._labelled.split("val"))

    def _of(self, photos: list[DatasetPhoto]) -> tuple[FloatArray, Ints]:
        uris = [photo.image for photo in photos]
        hashes = [fingerprint.of_file(Path(uri)) for uri in uris]
        truth_N = np.array([self._number[photo.item_id] for photo in photos])
        return self._embedder.embed(dict(zip(hashes, uris, strict=True)), hashes), truth_N


def _of_common_classes(labelled: LabelledSet) -> list[DatasetPhoto]:
    of_class: dict[str, list[DatasetPhoto]] = defaultdict(list)
    for photo in labelled.split("train"):
        of_class[photo.item_id].append(photo)
    common = sorted(of_class.values(), key=lambda photos: (-len(photos), photos[0].item_id))[:CLASSES]
    return [photo for photos in common for photo in photos[:PHOTOS_PER_CLASS]]


def run(world: str, json_file: Path | None, dataset: str = "grocery") -> None:
    """Measure one world, or `all`, and print a table."""
    if dataset not in RECIPE_OF:
        sys.exit(f"no data set {dataset!r}: choose from {', '.join(RECIPE_OF)}")
    every = [*WORLDS, *(HOLD_OUTS if dataset == "grocery" else ())]
    wanted = every if world == "all" else [world]
    if unknown := set(wanted) - {*every}:
        sys.exit(f"no world {unknown.pop()!r} of {dataset}: choose from all, {', '.join(every)}")
    embedded = Embedded(dataset)
    x_NF, truth_N = embedded.train()
    category_C = embedded.category_C
    found = [
        _judged(name, WORLDS[name](x_NF, truth_N, category_C), len(category_C))
        for name in wanted
        if name in WORLDS
    ]
    if found:
        _show(found, dataset)
    keys: dict[str, object] = {**_keys(found)}
    if "held-out" in wanted:
        keys |= held_out_recall.other_shops(x_NF, truth_N, *embedded.val())
    if "drift" in wanted:
        keys |= held_out_recall.drift(x_NF, truth_N)
    print(json.dumps(keys, indent=1))
    write_figures(json_file, {"worlds": [asdict(one) for one in found], **keys})


def _judged(world: str, photos: Photos, classes: int) -> Figures:
    rows = len(photos.given_N)
    labels = Labels(
        photos.given_N,
        np.full(rows, 0.75, np.float32),
        np.ones(rows, bool),
        np.stack([np.arange(rows), photos.given_N], axis=1),
        np.ones(rows, np.float32),
        classes,
        photos.session_N,
    )
    verdicts = clean(photos.features_NF, [fingerprint.of_values(row) for row in range(rows)], labels, RECIPE)
    out_N, agrees_N = verdicts.class_N >= 0, verdicts.class_N == photos.truth_N
    sizes = np.bincount(photos.truth_N, minlength=classes)
    tail_N = np.isin(photos.truth_N, np.argsort(sizes, kind="stable")[: classes // 3])
    return Figures(
        world,
        rows,
        float(1 - photos.right_N.mean()),
        verdicts.wrong_share,
        float(agrees_N[out_N].mean()),
        float(agrees_N[photos.right_N].mean()),
        float(agrees_N[photos.right_N & tail_N].mean()),
        *_oracle(photos),
    )


def _oracle(photos: Photos) -> tuple[float | None, float | None]:
    """Precision, and the share of the right labels kept, of an oracle; None where no pairs swap labels."""
    if photos.rival_C is None:
        return None, None
    class_N = oracle.labels(photos.features_NF, photos.truth_N, photos.given_N, photos.rival_C, RECIPE)
    agrees_N = class_N == photos.truth_N
    return float(agrees_N[class_N >= 0].mean()), float(agrees_N[photos.right_N].mean())


def _show(found: list[Figures], dataset: str) -> None:
    table = Table(title=f"worlds, {dataset}")
    for column in (
        "world",
        "photos",
        "wrong",
        "estimated",
        "precision",
        "kept",
        "smallest third kept",
        "oracle",
    ):
        table.add_column(column, justify="left" if column == "world" else "right")
    for one in found:
        shares = one.wrong_share, one.estimated_wrong_share, one.precision, one.kept, one.tail_third_kept
        known = "" if one.oracle_precision is None else f"{one.oracle_precision:.3f} / {one.oracle_kept:.3f}"
        table.add_row(one.world, f"{one.photos:,}", *(f"{share:.3f}" for share in shares), known)
    Console().print(table)


def _keys(found: list[Figures]) -> dict[str, float]:
    swapped = [one for one in found if one.world.startswith("swaps")]
    keys: dict[str, float] = {}
    if swapped:
        shares = [one.estimated_wrong_share / one.wrong_share for one in swapped]
        keys["swap_noise_estimated_share_of_true"] = min(shares)
        keys["swap_label_precision"] = min(one.precision for one in swapped)
    for one in found:
        if one.world == "zipf":
            keys["tail_third_kept_share"] = one.tail_third_kept
    return keys
