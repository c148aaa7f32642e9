"""Catalogue: changes between two trainings go to the outbox, and from there to every version's collection.

A change is durable once it is in the outbox. Delivery embeds it with each version's own document tower. If a
collection does not answer, its version keeps its position and receives the rest, in order, on the next delivery.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from immr.data.attributes import CLASS
from immr.data.contract import ITEMS
from immr.data.item_changes import read_ids, read_items
from immr.data.validation.tables import TableCounts
from immr.errors import ContractError, ImmrError, IndexMismatchError
from immr.experiment.definition import load
from immr.experiment.queue import load_queue
from immr.index.outbox import Change, Delivered, Outbox, last_change, with_changes
from immr.index.vector_index import Changes
from immr.loop import govern
from immr.loop.items.request import ItemsProgress

if TYPE_CHECKING:
    from pathlib import Path

    from immr.model.encoders.loading import Loading
    from immr.types import AttributeValue, Item, ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)

CHANGES_AT_ONCE = 512


@dataclass(frozen=True)
class Written:
    """Durable changes: counts by kind, rejected rows by reason with examples, and the sequence of the last change."""

    changed: int
    deleted: int  # of items that some version may have
    unknown: Sequence[str]  # the others; recorded too, because a version that is being made may have them
    rejected: Mapping[str, int]
    examples: Mapping[str, Sequence[str]]
    sequence: int


def outbox(parts: Parts) -> Outbox:
    """The outbox below IMMR_HOME."""
    settings = parts.settings
    path = settings.home / "items" / "outbox.db"
    return Outbox(path, settings.pictures_dir, lambda: last_change(parts.index))


def change(parts: Parts, items: Sequence[Item], deleted: Sequence[str] = ()) -> list[ItemsProgress]:
    """Append changes to the outbox, then deliver all waiting changes."""
    outbox(parts).append(items, deleted)
    return deliver(parts)


def upsert(
    parts: Parts, source: str | Path, map_file: Path | None = None
) -> tuple[TableCounts, list[ItemsProgress]]:
    """Add or replace the items of a file, then deliver all waiting changes.

    Args:
        parts: The process's adapters.
        source: A Parquet, CSV or JSON-lines file, a folder or glob of them, or a URL.
        map_file: From its columns to the contract's.

    Returns:
        Counts of accepted and rejected rows, and the progress of each version's collection.

    Raises:
        ContractError: The file holds no valid item.
    """
    admitted = read_items(source, map_file, parts.settings.pictures_dir)
    return admitted.counts, change(parts, admitted.items)


def unknown(parts: Parts, item_ids: Sequence[str]) -> list[str]:
    """Those of these items that no live version has, and no change added.

    Versions whose training set is not in this home count as having all items.
    """
    box = outbox(parts)
    last = {item_id: box.last_of(item_id) for item_id in item_ids}
    unchanged = {item_id for item_id, change in last.items() if change is None}
    live = live_versions(parts)
    for version in parts.registry.versions() if unchanged else []:
        if version.id in live and unchanged:
            try:
                unchanged -= govern.training_set_of(parts, version).item_ids
            except ContractError:
                unchanged = set()
    deleted = {item_id for item_id, change in last.items() if change is not None and change.item is None}
    return [item_id for item_id in item_ids if item_id in deleted | unchanged]


def record_changes(parts: Parts, changed: Path | None, deleted: Path | None) -> Written:
    """Append two files of changes to the outbox atomically, without delivering them.

    Args:
        parts: The process's adapters.
        changed: New or changed items, in the data contract.
        deleted: Deleted items: a file with a column `item_id`.

    Raises:
        ContractError: A file cannot be read or holds no valid item, or one item is in both.
    """
    admitted = read_items(changed, pictures_dir=parts.settings.pictures_dir) if changed else None
    items = admitted.items if admitted else []
    gone = read_ids(deleted) if deleted else []
    if both := sorted({item.item_id for item in items} & set(gone)):
        raise ContractError(
            f"{both[0]} is both changed and deleted ({len(both)} such items): remove it from one of the files"
        )
    nowhere = unknown(parts, gone)
    sequence = outbox(parts).append(items, gone)
    counts = admitted.counts if admitted else TableCounts(0, 0, {})
    found = len(gone) - len(nowhere)
    return Written(len(items), found, nowhere, counts.rejected, counts.examples, sequence)


def deliver(parts: Parts) -> list[ItemsProgress]:
    """Deliver waiting changes to every available collection; returns the progress of each."""
    box = outbox(parts)
    with box.delivering():
        latest = box.latest()
        errors = {}
        for version in _with_collection(parts):
            try:
                _deliver_to(parts, box, version, latest)
            except ImmrError as error:
                errors[version.id] = str(error)
                log.warning("changes wait for %s: %s", version.id, error)
    return [_with_error(each, errors) for each in status(parts)]


def status(parts: Parts) -> list[ItemsProgress]:
    """The progress of each version's collection; changes nothing."""
    box = outbox(parts)
    live = live_versions(parts)
    progress = []
    for version in _with_collection(parts):
        delivered, searched, error = box.delivered(version.id), None, ""
        try:
            delivered = _delivered(parts, box, version)
            searched = parts.index.applied(version.id)
        except ImmrError as unavailable:
            error = str(unavailable)
        is_live = version.id in live
        progress.append(ItemsProgress(version.id, is_live, delivered.sequence, box.latest(), searched, error))
    return progress


def load_what_changes_need(parts: Parts) -> Iterator[None]:
    """Load the libraries and encoders that a change needs, and connect to MLflow, in steps of a second or two."""
    from immr.data.validation import row_rules
    from immr.model.documents import load_encoders

    row_rules.rules_of(ITEMS, datetime.now(UTC))
    yield
    versions, cache_dir = _with_collection(parts), parts.settings.cache_dir
    yield
    import torch  # noqa: F401

    for version in versions:
        yield
        load_encoders(parts.registry.fetch(version, cache_dir), cache_dir, _loading())
    yield
    status(parts)


def current(parts: Parts, items: Sequence[Item]) -> tuple[list[Item], int]:
    """A catalogue with all changes applied, and the sequence of the last one."""
    box = outbox(parts)
    latest = box.latest()
    classes = _classes(items)
    changed = with_changes(items, box.between(0, latest))
    return [_with_class(item, classes) for item in changed], latest


def deliver_after_build(parts: Parts, version: ModelVersion) -> None:
    """Deliver the changes that arrived while the version's collection was built."""
    box = outbox(parts)
    with box.delivering():
        if latest := box.latest():
            _deliver_to(parts, box, version, latest)


def live_versions(parts: Parts) -> set[str]:
    """Versions in use: with a role, deployed, waiting, or in the experiment (its rollback target included)."""
    live = {version.id for version in parts.registry.roles().values()}
    live |= {deployment.version_id for deployment in parts.deployer.current()}
    if parts.settings.experiment_file.is_file():
        experiment = load(parts.settings.experiment_file)
        live |= {variant.model_version for variant in experiment.variants}
        if experiment.previous is not None:
            live.add(experiment.previous.model_version)
    return live | {each.model_version for each in load_queue(parts.settings.queue_file).versions}


def collect_garbage(parts: Parts, keep: int, dry_run: bool = False) -> dict[str, str]:
    """Delete collections of old versions; returns the outcome for each, by version id.

    Args:
        parts: The process's adapters.
        keep: How many of the newest versions to keep for rollback, besides the live ones.
        dry_run: Report without deleting.
    """
    index = parts.index
    live = live_versions(parts)
    waiting = {each.model_version for each in load_queue(parts.settings.queue_file).versions}
    known = {version.id: version.number for version in parts.registry.versions()}
    ours = sorted((id for id in index.versions() if id in known), key=lambda id: -known[id])
    newest = [id for id in ours if id not in live][:keep]
    fate = {}
    for id in ours:
        if id in live:
            fate[id] = "waits in the queue, kept" if id in waiting else "live, kept"
        elif id in newest:
            fate[id] = f"one of the {keep} newest, kept"
        elif dry_run:
            fate[id] = "would be deleted"
        else:
            fate[id] = "deleted" if index.remove(id) else "in use by a process, kept"
    return fate


def _with_collection(parts: Parts) -> list[ModelVersion]:
    """Registered versions that have a collection: the live ones, and those kept for rollback.

    If the index does not answer, returns the live ones, so that their waiting changes are reported.
    """
    versions = parts.registry.versions()
    try:
        indexed = set(parts.index.versions())
    except ImmrError:
        indexed = live_versions(parts)
    return [version for version in versions if version.id in indexed]


def _deliver_to(parts: Parts, box: Outbox, version: ModelVersion, latest: int) -> None:
    done = _delivered(parts, box, version)
    while done.sequence < latest:
        until = min(latest, done.sequence + CHANGES_AT_ONCE)
        changes = box.between(done.sequence, until)
        try:
            parts.index.change(version, _embedded(parts, version, changes))
        except IndexMismatchError:
            if version.id in live_versions(parts):
                raise
            return  # an unfinished build: whoever finishes it includes the changes
        done = replace(done, sequence=until)
        box.note_delivered(version.id, done)


def _delivered(parts: Parts, box: Outbox, version: ModelVersion) -> Delivered:
    """The last change delivered to the serving content; a rebuilt content lacks its predecessor's changes."""
    noted, content = box.delivered(version.id), parts.index.content(version.id)
    if content is None or content.name == noted.content:
        return noted
    return box.checked(Delivered(content.name, content.sequence))


def _classes_of(parts: Parts, version: ModelVersion, items: Sequence[Item]) -> Mapping[str, AttributeValue]:
    """By item_id, as the version's training set has them; none if it is not in this home."""
    try:
        training_set = govern.training_set_of(parts, version)
    except ContractError as error:
        log.warning("changed items lose their class in %s: %s", version.id, error)
        return {}
    return training_set.classes_of([item.item_id for item in items])


def _classes(items: Sequence[Item]) -> Mapping[str, AttributeValue]:
    return {item.item_id: item.attributes[CLASS] for item in items if CLASS in item.attributes}


def _with_class(item: Item, classes: Mapping[str, AttributeValue]) -> Item:
    """A shop's table has no classes, so a changed item keeps the one that governance gave it."""
    if CLASS in item.attributes or item.item_id not in classes:
        return item
    return replace(item, attributes={**item.attributes, CLASS: classes[item.item_id]})


def _embedded(parts: Parts, version: ModelVersion, changes: Sequence[Change]) -> Changes:
    put = [change for change in changes if change.item is not None]
    gone = [change for change in changes if change.item is None]
    items = [change.item for change in put if change.item is not None]
    embeddings_PD, pictures_N = np.zeros((0, version.dim), dtype=np.float32), list[int]()
    if items:
        from immr.model.documents import encode_pictures

        classes = _classes_of(parts, version, items)
        items = [_with_class(item, classes) for item in items]
        folder = parts.registry.fetch(version, parts.settings.cache_dir)
        embedded = encode_pictures(folder, items, parts.settings.cache_dir, _loading())
        embeddings_PD, pictures_N = embedded.rows_PD, embedded.pictures_N
    sequences = [change.sequence for change in [*put, *gone]]
    return Changes(items, embeddings_PD, [change.item_id for change in gone], sequences, pictures_N)


@cache
def _loading() -> Loading:
    """Changes are few and often, so a service keeps the encoders between them."""
    from immr.model.encoders.loading import Loading

    return Loading.kept()


def _with_error(progress: ItemsProgress, errors: dict[str, str]) -> ItemsProgress:
    return replace(progress, error=errors.get(progress.version_id, progress.error))
