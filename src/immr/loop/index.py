"""Index: write the catalogue's document embeddings to a version's collection, and delete those of old versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from immr.data.pictures.relocation import item_kept_here
from immr.experiment.queue import load_queue
from immr.loop.experiment.running_test import live_versions
from immr.loop.items import delivery

if TYPE_CHECKING:
    from immr.index.vector_index import IndexReport
    from immr.types import Item, ModelVersion
    from immr.wiring import Parts


def index(parts: Parts, version: ModelVersion, items: Sequence[Item]) -> IndexReport:
    """Embed the catalogue with the version's document tower into the version's own collection.

    The build includes catalogue changes made since `items` was read. Changes that arrive during the build are
    delivered after it.

    Raises:
        CapacityError: The build needs more memory or disk than is free.
        IndexUnavailableError: The vector database does not answer.
        IndexMismatchError: The collection belongs to another version, or its recall is too low.
    """
    from immr.index.resource_estimate import need
    from immr.machine import capacity
    from immr.model.class_photos import ClassPhotos
    from immr.model.documents import encode_pictures

    settings = parts.settings
    items = [item_kept_here(item, settings.pictures_dir) for item in items]
    items, sequence = delivery.current(parts, items)
    folder = parts.registry.fetch(version, parts.settings.cache_dir)
    photos = ClassPhotos.read(folder)
    further = sum(len(item.images) for item in items)
    further += photos.number_of(item.item_id for item in items) if photos else 0
    needed = need(len(items), version.dim, not settings.index_url.startswith("http"), further)
    capacity.check("index", needed, settings.home, settings.too_large)
    embedded = encode_pictures(folder, items, parts.settings.cache_dir)
    report = parts.index.build(version, items, embedded.rows_PD, sequence, embedded.pictures_N)
    delivery.deliver_after_build(parts, version)
    return report


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
    known = {version.id: version for version in parts.registry.versions()}
    found = {id: index.content(id) for id in index.versions() if id in known}
    ours = sorted(
        (id for id, content in found.items() if content is None or content.is_of(known[id])),
        key=lambda id: -known[id].number,
    )
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
