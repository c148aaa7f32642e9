"""Govern: turn a click log and a catalogue into a training set, kept below IMMR_HOME and found by its hash."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from immr import __version__
from immr.data.content_hashes import FileStamps, content_hash
from immr.data.contract import IMPRESSIONS, ITEMS, QUERIES
from immr.data.pictures.relocation import FETCHED
from immr.data.pictures.remote.downloads import Downloads
from immr.data.sources.shop import Shop
from immr.data.training_set import FILES, TrainingSet
from immr.errors import ContractError
from immr.machine import cores
from immr.machine.wording import counted
from immr.registry.reports import Report, publish
from immr.storage import fingerprint
from immr.storage.atomic import check_replaceable, replace_folder_atomically

if TYPE_CHECKING:
    from immr.recipes import Recipe
    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def govern(parts: Parts, data: Shop | str | Path, recipe: Recipe, out: Path | None = None) -> TrainingSet:
    """Clean, group and split a click log and a catalogue into a training set, kept below IMMR_HOME.

    Data are governed once per recipe; the result is cached by the data's content, the recipe and IMMR's version.

    Args:
        parts: The process's adapters.
        data: The shop, or the folder or URL of its tables.
        recipe: Its governance settings are used; slices that its gate names must be in the catalogue.
        out: A folder to copy the training set to; the copy is returned. An earlier one in it is replaced.

    Raises:
        CapacityError: Governance needs more memory or disk than is free.
        ContractError: The data violate the contract; the message names the file and column.
        DataError: `out` holds something other than a training set, or files changed while they were read.
        RecipeError: An encoder is unknown, or does not take pictures of the recipe's size; or a slice that the
            gate's settings name does not exist.
    """
    from immr.evaluation import slices
    from immr.governance.embedder import FrozenEmbedder
    from immr.governance.govern import govern as build
    from immr.recipes import check_encoders

    settings = parts.settings
    if out is not None:
        check_replaceable(out, FILES)  # fail before the work, not after it
    embedder = FrozenEmbedder(recipe.model, settings.cache_dir, threads=cores.usable())
    shop = Shop.of(data)
    stamps = FileStamps.of(shop)
    key = fingerprint.of_values(
        "govern", __version__, content_hash(shop), recipe.governance, place_of(shop), embedder.name
    )
    kept = _training_sets(parts) / key[:16]
    if kept.is_dir() and not misses_pictures(kept, settings.pictures_dir):
        log.info("govern: reusing %s, made from the same data and recipe", kept)
    else:
        check_encoders(recipe)
        _check_capacity(parts, shop, recipe)
        downloads = Downloads(settings.pictures_dir, shop.mapping.pictures)
        build(shop, kept, recipe.governance, settings.engine_url, embedder, downloads, stamps)
    slices.check_names(recipe.gate.slice_margins, TrainingSet(kept))
    if out is not None and out.absolute() != kept:
        with replace_folder_atomically(out, FILES) as aside:
            shutil.copytree(kept, aside, dirs_exist_ok=True)
    training_set = TrainingSet(out or kept)
    photos, classes = len(training_set.queries), training_set.class_count
    sentence = f"{counted(photos, 'training photo')} in {counted(classes, 'class')}"
    publish(
        settings.home,
        training_set.folder / "report.html",
        Report("governance", "Data governance", recipe.name, sentence),
    )
    return training_set


def _check_capacity(parts: Parts, shop: Shop, recipe: Recipe) -> None:
    """Refuse data that do not fit this machine. Rows of compressed text are not counted, so it is not checked."""
    from immr.governance.resource_estimate import Counts, need
    from immr.machine import capacity
    from immr.model.encoders.by_name import image_encoder_spec

    settings = parts.settings
    rows = [
        table.rows() if (table := shop.table(contract)) else None
        for contract in (ITEMS, QUERIES, IMPRESSIONS)
    ]
    counts = [count for count in rows if count is not None]
    if len(counts) == len(rows):
        features = image_encoder_spec(recipe.model.image_encoder).dim
        needed = need(Counts(*counts), recipe.governance, features, settings.engine_url.startswith("duckdb:"))
        capacity.check("govern", needed, settings.home, settings.too_large)


def place_of(shop: Shop) -> str:
    """Where relative paths of pictures start, so it is part of a training set's key."""
    return shop.name if "://" in shop.uri else str(Path(shop.uri).absolute())


def misses_pictures(training_set: Path, pictures_dir: Path) -> bool:
    """Whether a training set is worth another run for its pictures.

    Some could not be fetched, or all are named by the place where they were before the home was moved or copied.
    """
    import pyarrow.parquet as pq

    from immr.data.pictures.inspection import NOT_FETCHED

    for table in ("items", "queries"):
        images = pq.read_table(training_set / f"{table}.parquet", columns=["image"])["image"].to_pylist()
        folders = {match[1] for image in images if (match := FETCHED.fullmatch(image or ""))}
        if folders - {str(pictures_dir)}:
            return True
    rejected = training_set / "rejected" / "images.parquet"
    if not rejected.is_file():
        return False
    return NOT_FETCHED in pq.read_table(rejected, columns=["reason"])["reason"].unique().to_pylist()


def training_set_of(parts: Parts, version: ModelVersion) -> TrainingSet:
    """The training set that a version was trained on.

    Raises:
        ContractError: The training set is not in this home; the message says what to do.
    """
    if kept := find_training_set(_training_sets(parts), version.manifest_hash):
        return kept
    raise ContractError(
        f"the training set of {version.id} (manifest {version.manifest_hash[:16]}) is not in "
        f"{_training_sets(parts)}: run `immr govern` on its data again"
    )


def below_home(parts: Parts, training_set: TrainingSet) -> TrainingSet:
    """The same training set below IMMR_HOME, which is all that training pods share; copied if needed."""
    if training_set.folder.absolute().is_relative_to(parts.settings.home):
        return training_set
    if kept := find_training_set(_training_sets(parts), training_set.hash):
        return kept
    copy = _training_sets(parts) / f"copy-{training_set.hash[:16]}"
    with replace_folder_atomically(copy) as aside:
        shutil.copytree(training_set.folder, aside, dirs_exist_ok=True)
    return TrainingSet(copy)


def find_training_set(training_sets: Path, manifest_hash: str) -> TrainingSet | None:
    """The training set with this hash among those kept in a folder; those that cannot be read are logged."""
    for folder in sorted(training_sets.glob("[!.]*")):  # a dot: it is being written
        try:
            kept = TrainingSet(folder)
            if kept.hash == manifest_hash:
                return kept
        except (ContractError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("ignoring %s, which holds no readable training set (%s)", folder, error)
    return None


def _training_sets(parts: Parts) -> Path:
    return parts.settings.work_dir / "training-sets"
