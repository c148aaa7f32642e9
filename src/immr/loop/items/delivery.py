"""Delivery of recorded changes to every version's collection.

A change is embedded with each version's own document tower. If a collection does not answer, its version keeps its
position and receives the rest, in order, on the next delivery.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from immr.data.attributes import CLASS
from immr.data.contract import ITEMS
from immr.errors import ContractError, ImmrError, IndexMismatchError
from immr.index.outbox import Change, Delivered, Outbox, last_change, with_changes
from immr.index.vector_index import Changes
from immr.loop import govern
from immr.loop.experiment.running_test import live_versions
from immr.loop.items.request import ItemsProgress

if TYPE_CHECKING:
    from immr.model.encoders.loading import Loading
    from immr.types import AttributeValue, Item, ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)

CHANGES_AT_ONCE = 512


def outbox(parts: Parts) -> Outbox:
    """The outbox below IMMR_HOME."""
    settings = parts.settings
    return Outbox.below(settings.home, settings.pictures_dir, lambda: last_change(parts.index))


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


@cache
def _loading() -> Loading:
    """Changes are few and often, so a service keeps the encoders between them."""
    from immr.model.encoders.loading import Loading

    return Loading.kept()


def _with_error(progress: ItemsProgress, errors: dict[str, str]) -> ItemsProgress:
    return replace(progress, error=errors.get(progress.version_id, progress.error))
