"""Qdrant as the vector index: one collection per model version, verified before it serves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from immr.errors import IndexMismatchError, SettingsError
from immr.index.binding import Binding, check_binding
from immr.index.build import BATCH_POINTS, fill, verify
from immr.index.change_journal import PointChange, apply_changes
from immr.index.collection import QdrantCollection
from immr.index.collection_names import collection_name, content_name, version_of
from immr.index.documents import Documents, check, payload, point_id
from immr.index.engines.connection import REQUEST_TIMEOUT_S
from immr.index.engines.errors import translate_errors
from immr.index.storages.folder_storage import EDGE, EDGE_INT8, LOCAL_MODE, FolderStorage
from immr.index.storages.server_storage import ServerStorage
from immr.index.storages.storage import Storage
from immr.index.vector_index import Changes, Content, IndexReport
from immr.machine.wording import counted
from immr.types import FloatArray, Item, ModelVersion

_LOG = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 3600.0  # indexing a million points took a quarter of an hour on two cores
LOCAL_MODE_POINTS = 20_000


class QdrantIndex:
    """Collections at a URL: `edge:///folder`, `file:///folder` (local mode), or `http(s)://` of a server.

    `edge:///folder?quantization=int8` stores int8 vectors beside the original ones.

    Args:
        url: Where the collections are.
        timeout_s: Timeout of a request to a server; searches in an open collection have 2 s at most.
        batch_points: Points that a build inserts at once.
        api_key: API key of a server.

    Raises:
        SettingsError: The URL has another scheme, or contains credentials.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = REQUEST_TIMEOUT_S,
        batch_points: int = BATCH_POINTS,
        api_key: str | None = None,
    ) -> None:
        self._batch_points = batch_points
        self._is_local_mode = url.startswith("file:")
        self._storage = _storage(url, timeout_s, api_key)

    def build(
        self,
        version: ModelVersion,
        items: Sequence[Item],
        embeddings_PD: FloatArray,
        sequence: int = 0,
        pictures_N: Sequence[int] | None = None,
    ) -> IndexReport:
        """Build and verify the version's collection.

        Idempotent and resumable: a finished content with the same documents is reused, and an interrupted
        build resumes. The previous content serves until the new one is verified. A process that has the
        previous content open in an embedded engine switches to the new one at its next refresh.

        Args:
            version: The version that embedded the items.
            items: The catalogue, each item once.
            embeddings_PD: (P, D) unit rows; those of an item are one after the other.
            sequence: The last catalogue change that the items include.
            pictures_N: How many rows each item has; None: one.

        Raises:
            ContractError: See `Documents.of`.
            IndexMismatchError: Wrong dimension, the collection lacks points or recall, or it serves another encoder.
            IndexUnavailableError: The database is unavailable, held by another process, or stays busy.
        """
        documents = Documents.of(version, items, embeddings_PD, sequence, pictures_N)
        collection = collection_name(version.id)
        content = content_name(collection, documents.binding.content_hash, self._storage.suffix)
        with translate_errors(self._storage.where):
            self._check_encoder(collection, documents.binding)
            finished = self._finished(content, documents.binding)
            binding = finished or self._fill_and_verify(content, documents)
            if self._storage.published(collection) != content:
                self._storage.publish(collection, content)
            self._storage.discard_others(collection, keep=content)
        return IndexReport(
            collection,
            binding.points,
            binding.recall_at_10,
            reused=finished is not None,
            sequence=binding.sequence,
        )

    def open(
        self, version_id: str, dim: int, preprocessing_hash: str, manifest_hash: str = ""
    ) -> QdrantCollection:
        """Open a version's collection for search and apply the changes that waited for it.

        Raises:
            IndexMismatchError: The collection is missing, unfinished, or built for another encoder.
            IndexUnavailableError: The database is not available, or another process holds the folder.
        """
        collection = collection_name(version_id)
        with translate_errors(self._storage.where):
            content, binding = self._published(version_id)
            check_binding(collection, binding, version_id, dim, preprocessing_hash, manifest_hash)
            opened = QdrantCollection(self._storage, collection, content, binding)
        try:
            opened.refresh()
        except BaseException:
            opened.close()
            raise
        return opened

    def change(self, version: ModelVersion, changes: Changes) -> None:
        """See `VectorIndex.change`: applied directly on a server, journalled for an embedded engine."""
        first_N = check(version, changes.items, changes.embeddings_PD, changes.pictures_N)
        rows = np.split(changes.embeddings_PD, first_N[1:-1]) if changes.items else []
        put = [
            PointChange(sequence, point_id(item.item_id), payload(item), rows_PD)
            for sequence, item, rows_PD in zip(changes.sequences, changes.items, rows, strict=False)
        ]
        removed = [
            PointChange(sequence, point_id(item_id))
            for sequence, item_id in zip(changes.sequences[len(put) :], changes.deleted, strict=True)
        ]
        in_order = sorted([*put, *removed], key=lambda change: change.sequence)
        with translate_errors(self._storage.where):
            content, binding = self._published(version.id)
            check_binding(
                collection_name(version.id),
                binding,
                version.id,
                version.dim,
                version.preprocessing_hash,
                version.manifest_hash,
            )
            if len(changes.embeddings_PD) > len(changes.items) and not binding.several_pictures:
                _LOG.warning(
                    "%s holds one picture for each item, so changed items are found by their main picture only: "
                    "run `immr index build TRAINING_SET --model %s` to index all of them",
                    content,
                    version.id,
                )
            journal = self._storage.journal(collection_name(version.id))
            if journal is not None:
                journal.append(in_order)
                return
            with closing(self._storage.serving(collection_name(version.id), content)) as engine:
                apply_changes(engine, in_order, version.dim)

    def content(self, version_id: str) -> Content | None:
        """See `VectorIndex.content`."""
        with translate_errors(self._storage.where):
            try:
                name, binding = self._published(version_id)
            except IndexMismatchError:
                return None
        return Content(name, binding.sequence, binding.manifest_hash)

    def obstacle(self, version_id: str) -> str:
        """See `VectorIndex.obstacle`: another engine built it."""
        with translate_errors(self._storage.where):
            content = self._storage.published(collection_name(version_id))
            found = self._storage.obstacle(content) if content else ""
        return (
            f"{found}, or rebuild it with `immr index build TRAINING_SET --model {version_id}`"
            if found
            else ""
        )

    def applied(self, version_id: str) -> int | None:
        """See `VectorIndex.applied`."""
        collection = collection_name(version_id)
        with translate_errors(self._storage.where):
            content = self._storage.published(collection)
            if content is None or self._storage.journal(collection) is None:
                return None
            return self._storage.applied(content)

    def last_change(self, version_id: str) -> int:
        """See `VectorIndex.last_change`."""
        content = self.content(version_id)
        journal = self._storage.journal(collection_name(version_id))
        journalled = journal.last() if journal is not None else 0
        return max(content.sequence if content else 0, self.applied(version_id) or 0, journalled)

    def versions(self) -> list[str]:
        """See `VectorIndex.versions`."""
        with translate_errors(self._storage.where):
            names = self._storage.collections()
        return [version for name in names if (version := version_of(name))]

    def remove(self, version_id: str) -> bool:
        """See `VectorIndex.remove`."""
        with translate_errors(self._storage.where):
            return self._storage.remove(collection_name(version_id))

    def _published(self, version_id: str) -> tuple[str, Binding]:
        collection = collection_name(version_id)
        content = self._storage.published(collection)
        binding = self._storage.binding(content) if content else None
        if content is None or binding is None or not binding.ready:
            if obstacle := self.obstacle(version_id):
                raise IndexMismatchError(obstacle)
            raise IndexMismatchError(
                f"{self._storage.where} has no finished collection {collection}: "
                f"run `immr index build TRAINING_SET --model {version_id}`"
            )
        return content, binding

    def _check_encoder(self, collection: str, wanted: Binding) -> None:
        """On a server the running processes of the other encoder would search the new content at once."""
        published = self._storage.published(collection)
        if published is not None and (existing := self._storage.binding(published)) is not None:
            check_binding(
                collection,
                existing,
                wanted.version_id,
                wanted.dim,
                wanted.preprocessing_hash,
                wanted.manifest_hash,
            )

    def _finished(self, content: str, wanted: Binding) -> Binding | None:
        existing = self._storage.binding(content)
        same = existing and existing.ready and existing.content_hash == wanted.content_hash
        return existing if same else None

    def _fill_and_verify(self, content: str, documents: Documents) -> Binding:
        if self._is_local_mode and documents.binding.points > LOCAL_MODE_POINTS:
            _LOG.warning(
                "%d points are too many for Qdrant's local mode: unset IMMR_INDEX_URL to use Qdrant Edge "
                "(docs/vector-index.md)",
                documents.binding.points,
            )
        with closing(self._storage.engine(content)) as engine:
            binding = documents.binding
            engine.create(binding.dim, binding.attributes, binding.several_pictures)
            fill(engine, documents, self._batch_points)
            engine.settle(IDLE_TIMEOUT_S)
        # loaded as it will be to serve: the first time, Qdrant Edge may need space on disk
        with closing(self._storage.engine(content)) as engine:
            binding = verify(engine, content, documents)
            self._storage.bind(content, binding)
        _LOG.info(
            "%s holds %s, recall@10 %.3f", content, counted(binding.points, "document"), binding.recall_at_10
        )
        return binding


def _storage(url: str, timeout_s: float, api_key: str | None) -> Storage:
    parts = urlsplit(url)
    if "@" in parts.netloc:  # error messages quote the URL
        raise SettingsError(
            "IMMR_INDEX_URL contains credentials: remove them, and put the server's API key into the file "
            "that IMMR_INDEX_KEY_FILE names"
        )
    kinds = {("edge", ""): EDGE, ("edge", "quantization=int8"): EDGE_INT8, ("file", ""): LOCAL_MODE}
    if parts.path and (kind := kinds.get((parts.scheme, parts.query))):
        return FolderStorage(Path(url2pathname(parts.path)), kind)
    if parts.scheme in ("http", "https") and parts.hostname:
        return ServerStorage(url, timeout_s, api_key)
    raise SettingsError(
        f"IMMR_INDEX_URL={url!r} is not an index URL: use edge:///folder (optionally with ?quantization=int8), "
        "file:///folder or http(s)://host:port"
    )
