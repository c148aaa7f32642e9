"""The demo's shop: a named data set as catalogue and simulated click log, created once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from demo.shoppers import ShopperPhoto
from immr.datasets.labelled_set import LabelledSet
from immr.datasets.named import load_dataset
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.errors import DatasetError
from immr.settings import Settings
from immr.storage.atomic import replace_folder_atomically, write_atomically

BROKEN_ROWS = 40  # rows for the data contract to reject


def choose(settings: Settings, wanted: str, say: Callable[[str], None]) -> LabelledSet:
    """The wanted data set, or `synthetic` if it is unavailable, with a sentence that says so."""
    try:
        return load_dataset(wanted, settings.data_mirror, settings.cache_dir)
    except DatasetError as error:
        if wanted == "synthetic":
            raise
        say(f"{error}. Using the synthetic data set instead.")
        return load_dataset("synthetic", settings.data_mirror, settings.cache_dir)


def make_shop(settings: Settings, labelled: LabelledSet) -> Path:
    """A folder with items, queries, impressions and judgements; an earlier run's is reused."""
    folder = settings.home / "shop"
    recipe = SimulationRecipe(broken_rows=BROKEN_ROWS)
    made_from = {"dataset": labelled.name, "photos": len(labelled.photos), "recipe": repr(recipe)}
    note = settings.home / "shop.json"
    if folder.is_dir() and note.is_file() and json.loads(note.read_text()) == made_from:
        return folder
    simulate(labelled, folder, recipe)
    write_atomically(note, json.dumps(made_from, indent=1))
    return folder


def photos_for_shoppers(labelled: LabelledSet) -> list[ShopperPhoto]:
    """Photos outside the training data, with the items they really show."""
    category_of = {item.item_id: item.category for item in labelled.items}
    return [
        ShopperPhoto(Path(photo.image), photo.item_id, category_of[photo.item_id])
        for photo in labelled.split("val")
    ]


def samples(settings: Settings, labelled: LabelledSet, count: int = 12) -> Path:
    """A folder of a few photos outside the training data, for the page to offer."""
    photos = labelled.split("val")
    with replace_folder_atomically(settings.home / "samples") as folder:
        for photo in photos[:: max(1, len(photos) // count)][:count]:
            shutil.copyfile(photo.image, folder / f"{photo.item_id}{Path(photo.image).suffix}")
    return settings.home / "samples"
