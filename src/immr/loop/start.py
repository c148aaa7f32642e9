"""Start: a catalogue without clicks becomes a search, with a pretrained version as champion."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from immr import __version__
from immr.data.catalogue_changes import changes_between, listed_ids
from immr.data.contract import IMPRESSIONS, ITEMS
from immr.data.pictures.remote.downloads import Downloads
from immr.data.training_set import TrainingSet
from immr.errors import DeployError
from immr.index.collection_names import collection_name
from immr.loop import catalogue, deploy, govern, index, package
from immr.model.preprocessing import READING
from immr.storage import fingerprint
from immr.storage.atomic import replace_folder_atomically, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from immr.data.sources.shop import Shop
    from immr.recipes import Recipe
    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)

ITEMS_FILE = "items.parquet"  # of a training set


@dataclass(frozen=True)
class Started:
    """What `immr start` made."""

    version_id: str
    training_set: Path
    items: int  # of the catalogue, searchable
    changed: int  # of them, new or different since the last start
    deleted: int  # no longer in the catalogue
    rejected: int  # rows and pictures, with their reasons in the training set's `rejected/`
    waiting: int  # changes that a live version's collection lacks: `immr items deliver`
    bento: str
    collection: str


def start(parts: Parts, shop: Shop, recipe: Recipe) -> Started:
    """Register, package, index and deploy a pretrained version of a catalogue.

    Run again, it delivers what has changed in the catalogue to every version's collection, as `immr items upsert`
    does, and leaves versions and deployments as they are.

    Args:
        parts: The process's adapters.
        shop: Whose items are read.
        recipe: Without training, such as `zero_shot`.

    Raises:
        CapacityError: The index needs more memory or disk than is free.
        ContractError: The items violate the contract, or none has a usable picture.
        DeployError: The champion is a version of another recipe.
        RecipeError: The recipe's model has to be trained.
    """
    from immr.features.item_stats import item_stats

    recipe.model.check_untrained()
    champion = parts.registry.role("champion")
    if champion is not None:
        return _restart(parts, shop, recipe, champion)
    training_set, version = pretrained(parts, shop, recipe)
    items = training_set.items
    bento = package.package(parts, version, recipe).bento
    built = index.index(parts, version, items)
    parts.features.materialize(item_stats(items, IMPRESSIONS.columns.empty_table(), datetime.now(UTC)))
    _remember(parts, pq.read_table(training_set.folder / ITEMS_FILE))
    deploy.deploy(parts, version, bento)
    return _started(training_set, version, bento, items=built.points, changed=built.points)


def pretrained(parts: Parts, shop: Shop, recipe: Recipe) -> tuple[TrainingSet, ModelVersion]:
    """Check a catalogue, and register a version of the pretrained encoder for it.

    Raises:
        ContractError: The items violate the contract, or none has a usable picture.
        RecipeError: The recipe's model has to be trained.
    """
    from immr.recipes import check_encoders, keep_with

    check_encoders(recipe)
    training_set = _catalogue(parts, shop, recipe)
    key = fingerprint.of_values("pretrained", __version__, READING, training_set.hash, recipe.model)
    if existing := parts.registry.find(key):
        log.info("start: reusing %s, made from the same catalogue and recipe", existing.id)
        keep_with(parts.registry, existing, recipe)
        parts.registry.runs.finish_of_reused(existing.run_id)
        return training_set, existing
    folder = parts.settings.work_dir / "training" / key[:16] / "version"
    _write_version(folder, training_set, recipe, key, parts.settings.cache_dir)
    run_id = parts.registry.runs.start(
        f"{recipe.name}-{key[:8]}",
        params=asdict(recipe),
        tags={"manifest_hash": training_set.hash, "recipe": recipe.name},
        key=key,
    )
    version = _register(parts, folder, key, run_id)
    keep_with(parts.registry, version, recipe)
    parts.registry.runs.finish(run_id)
    return training_set, version


def _restart(parts: Parts, shop: Shop, recipe: Recipe, champion: ModelVersion) -> Started:
    """Deliver what has changed in the catalogue since the last start."""
    from immr.model.model_card import Card

    card = Card.read(parts.registry.fetch(champion, parts.settings.cache_dir))
    if (card.recipe, card.model) != (recipe.name, recipe.model):
        raise DeployError(
            f"{champion.id} (recipe {card.recipe}) is already the champion in this IMMR_HOME: change the "
            "catalogue with `immr items upsert`, or start in another IMMR_HOME"
        )
    training_set = _catalogue(parts, shop, recipe)
    changes = changes_between(
        _last_items(parts, champion), training_set.folder / ITEMS_FILE, listed_ids(shop)
    )
    progress = catalogue.change(parts, changes.items, changes.deleted)
    _remember(parts, changes.after)
    bento = next((each.bento for each in parts.deployer.current() if each.version_id == champion.id), "")
    waiting = max((each.waiting for each in progress if each.live), default=0)
    changed, deleted = len(changes.items), len(changes.deleted)
    return _started(training_set, champion, bento, len(changes.after), changed, deleted, waiting)


def _started(
    training_set: TrainingSet,
    version: ModelVersion,
    bento: str,
    items: int,
    changed: int,
    deleted: int = 0,
    waiting: int = 0,
) -> Started:
    steps = training_set.manifest["steps"]
    rejected = sum(step["rows_in"] - step["rows_out"] for step in steps)
    collection = collection_name(version.id)
    return Started(
        version.id, training_set.folder, items, changed, deleted, rejected, waiting, bento, collection
    )


def _remembered(parts: Parts) -> Path:
    return parts.settings.home / "items" / "started.parquet"


def _remember(parts: Parts, rows: pa.Table) -> None:
    """Keep the catalogue that was delivered, because its training set may be written again."""
    content = io.BytesIO()
    pq.write_table(rows, content)
    write_atomically(_remembered(parts), content.getvalue())


def _last_items(parts: Parts, champion: ModelVersion) -> Path:
    """The items of the last start."""
    kept = _remembered(parts)
    return kept if kept.is_file() else govern.training_set_of(parts, champion).folder / ITEMS_FILE


def _catalogue(parts: Parts, shop: Shop, recipe: Recipe) -> TrainingSet:
    from immr.data.content_hashes import FileStamps, content_hash
    from immr.governance.catalogue import catalogue_set

    stamps = FileStamps.of(shop, items_only=True)
    state = content_hash(shop, items_only=True)
    key = fingerprint.of_values("catalogue", __version__, state, recipe.governance, govern.place_of(shop))
    kept = parts.settings.work_dir / "training-sets" / key[:16]
    if kept.is_dir() and not govern.misses_pictures(kept, parts.settings.pictures_dir):
        return TrainingSet(kept)
    _check_capacity(parts, shop, recipe)
    downloads = Downloads(parts.settings.pictures_dir, shop.mapping.pictures)
    return catalogue_set(shop, kept, recipe.governance, parts.settings.engine_url, downloads, stamps)


def _check_capacity(parts: Parts, shop: Shop, recipe: Recipe) -> None:
    from immr.index.resource_estimate import need
    from immr.machine import capacity

    settings = parts.settings
    table = shop.table(ITEMS)
    if rows := table.rows() if table else None:
        needed = need(rows, recipe.model.embedding_dim, here=not settings.index_url.startswith("http"))
        capacity.check("start", needed, settings.home, settings.too_large)


def _write_version(
    folder: Path, training_set: TrainingSet, recipe: Recipe, key: str, cache_dir: Path
) -> None:
    """A version's folder, as training writes it."""
    import torch

    from immr.machine import cores
    from immr.model.encoders.by_name import preprocessing_of
    from immr.model.features.document_features import DocumentFeatures
    from immr.model.features.image_features import Share
    from immr.model.features.stored_features import sampled_rows
    from immr.model.model_card import TOWERS, Card
    from immr.model.towers import Towers
    from immr.train.export import export_query_encoder
    from immr.train.job import CURVES

    features = DocumentFeatures(recipe.model, cache_dir, hashes=training_set.image_hashes())
    features.compute(training_set.items, ["fit"], Share(threads=cores.usable()))
    documents = features.read(training_set.items, ["fit"])
    shown_N = documents.has_picture_N.nonzero().flatten()
    towers = Towers.pretrained(recipe.model, sampled_rows(documents.pictures_NVF, shown_N)[1])
    with replace_folder_atomically(folder) as aside:
        export_query_encoder(recipe.model, towers.query, aside, cache_dir)
        torch.save(towers.state_dict(), aside / TOWERS)
        (aside / CURVES).write_text(json.dumps({}))
        card = Card(recipe.name, recipe.model, preprocessing_of(recipe.model), training_set.hash, key)
        card.write(aside)


def _register(parts: Parts, folder: Path, key: str, run_id: str) -> ModelVersion:
    from immr.model.model_card import Card

    card = Card.read(folder)
    return parts.registry.register(
        folder,
        key,
        run_id,
        dim=card.model.embedding_dim,
        preprocessing_hash=card.preprocessing.hash,
        manifest_hash=card.manifest_hash,
        recipe=card.recipe,
    )
