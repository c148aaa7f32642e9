"""Index: write the catalogue's document embeddings to the collection of one model version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from immr.data.pictures.relocation import item_kept_here
from immr.loop import catalogue

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
    items, sequence = catalogue.current(parts, items)
    folder = parts.registry.fetch(version, parts.settings.cache_dir)
    photos = ClassPhotos.read(folder)
    further = sum(len(item.images) for item in items)
    further += photos.number_of(item.item_id for item in items) if photos else 0
    needed = need(len(items), version.dim, not settings.index_url.startswith("http"), further)
    capacity.check("index", needed, settings.home, settings.too_large)
    embedded = encode_pictures(folder, items, parts.settings.cache_dir)
    report = parts.index.build(version, items, embedded.rows_PD, sequence, embedded.pictures_N)
    catalogue.deliver_after_build(parts, version)
    return report
