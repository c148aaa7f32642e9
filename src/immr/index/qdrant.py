"""Qdrant as the vector index: one collection per model version, bound to it, verified before it serves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from immr.errors import IndexMismatchError, SettingsError
from immr.index.answers import answers
from immr.index.build import BATCH_POINTS, fill, verify
from immr.index.client import open_local
from immr.index.collection import QdrantCollection, apply
from immr.index.documents import (
    COLLECTION_PREFIX,
    SEPARATOR,
    Binding,
    Documents,
    check,
    check_bound,
    payload,
    point_id,
)
from immr.index.edge import EdgeEngine
from immr.index.engine import Storage
from immr.index.folders import Folders
from immr.index.journal import Entry
from immr.index.server import Server
from immr.index.vector_index import Changes, Content, IndexReport
from immr.types import FloatArray, Item, ModelVersion

_log = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 3600.0  # a million points took two cores a quarter of an hour
LOCAL_MODE_POINTS = 20_000


class QdrantIndex:
    """Collections by URL: `file:///path` local mode, `edge:///path` the embedded engine, or a server.

    Raises:
        SettingsError: a URL of another kind.
    """

    def __init__(
        self, url: str, timeout_s: int = 10, batch_points: int = BATCH_POINTS, api_key: str | None = None
    ) -> None:
        """`timeout_s` and `api_key` are of a server; `batch_points` go into an engine at once in a build."""
        self._batch_points = batch_points
        self._is_local_mode = url.startswith("file:")
        self._storage = _storage(url, timeout_s, api_key)

    def build(
        self, version: ModelVersion, items: Sequence[Item], embeddings_ND: FloatArray, sequence: int = 0
    ) -> IndexReport:
        """Make and verify the version's collection.

        Idempotent and resumable: the same content is reused, a build that died goes on where it was, and
        what served before serves until the new content is verified. A process that has the old content open
        in an embedded engine takes the new one with its next refresh.

        Args:
            version: whose documents these are.
            items: the catalogue, each item once.
            embeddings_ND: unit rows, one per item.
            sequence: the last catalogue change that the items have in them.

        Raises:
            ContractError: see `Documents.of`.
            IndexMismatchError: wrong dimension, or the collection does not hold or find what was put in.
            IndexUnavailableError: the database does not answer, is held elsewhere, or does not get idle.
        """
        documents = Documents.of(version, items, embeddings_ND, sequence)
        collection = collection_name(version.id)
        content = f"{collection}{SEPARATOR}{documents.binding.content_hash[:12]}"
        with answers(self._storage.where):
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

    def open(self, version_id: str, dim: int, preprocessing_hash: str) -> QdrantCollection:
        """Open a version's collection for search, with all changes that were left for it.

        Raises:
            IndexMismatchError: it is not there, not finished, or made for something else.
            IndexUnavailableError: the database does not answer, or another process holds the folder.
        """
        collection = collection_name(version_id)
        with answers(self._storage.where):
            content, binding = self._published(version_id)
            check_bound(collection, binding, version_id, dim, preprocessing_hash)
            opened = QdrantCollection(self._storage, collection, content, binding)
        try:
            opened.refresh()
        except BaseException:
            opened.close()
            raise
        return opened

    def change(self, version: ModelVersion, changes: Changes) -> None:
        """See `VectorIndex.change`: at once on a server, left in the journal for an embedded engine."""
        check(version, changes.items, changes.embeddings_ND)
        put = [
            Entry(sequence, point_id(item.item_id), payload(item), embedding_D)
            for sequence, item, embedding_D in zip(
                changes.sequences, changes.items, changes.embeddings_ND, strict=False
            )
        ]
        removed = [
            Entry(sequence, point_id(item_id))
            for sequence, item_id in zip(changes.sequences[len(put) :], changes.deleted, strict=True)
        ]
        entries = sorted([*put, *removed], key=lambda entry: entry.sequence)
        with answers(self._storage.where):
            content, _ = self._published(version.id)
            journal = self._storage.journal(collection_name(version.id))
            if journal is not None:
                journal.append(entries)
                return
            with closing(self._storage.serving(collection_name(version.id), content)) as engine:
                apply(engine, entries)

    def content(self, version_id: str) -> Content | None:
        """See `VectorIndex.content`."""
        with answers(self._storage.where):
            try:
                name, binding = self._published(version_id)
            except IndexMismatchError:
                return None
        return Content(name, binding.sequence)

    def applied(self, version_id: str) -> int | None:
        """See `VectorIndex.applied`."""
        collection = collection_name(version_id)
        with answers(self._storage.where):
            content = self._storage.published(collection)
            if content is None or self._storage.journal(collection) is None:
                return None
            return self._storage.applied(content)

    def versions(self) -> list[str]:
        """See `VectorIndex.versions`."""
        with answers(self._storage.where):
            names = self._storage.collections()
        return [name.removeprefix(COLLECTION_PREFIX) for name in names if name.startswith(COLLECTION_PREFIX)]

    def remove(self, version_id: str) -> bool:
        """See `VectorIndex.remove`."""
        with answers(self._storage.where):
            return self._storage.remove(collection_name(version_id))

    def _published(self, version_id: str) -> tuple[str, Binding]:
        collection = collection_name(version_id)
        content = self._storage.published(collection)
        binding = self._storage.binding(content) if content else None
        if content is None or binding is None or not binding.ready:
            raise IndexMismatchError(
                f"{self._storage.where} has no finished collection {collection}: "
                f"run `immr index build --model {version_id}`"
            )
        return content, binding

    def _finished(self, content: str, wanted: Binding) -> Binding | None:
        found = self._storage.binding(content)
        same = found is not None and found.ready and found.content_hash == wanted.content_hash
        return found if same else None

    def _fill_and_verify(self, content: str, documents: Documents) -> Binding:
        if self._is_local_mode and documents.binding.points > LOCAL_MODE_POINTS:
            _log.warning(
                "%d points are many for Qdrant's local mode: set IMMR_INDEX_URL to edge:///a/folder, or to a "
                "server (docs/index.md)",
                documents.binding.points,
            )
        with closing(self._storage.engine(content)) as engine:
            engine.create(documents.binding.dim)
            fill(engine, documents, self._batch_points)
            engine.settle(IDLE_TIMEOUT_S)
            binding = verify(engine, content, documents)
            self._storage.bind(content, binding)
        _log.info("%s holds %d documents, recall@10 %.3f", content, binding.points, binding.recall_at_10)
        return binding


def collection_name(version_id: str) -> str:
    """`immr-3` → `immr_immr-3`."""
    return f"{COLLECTION_PREFIX}{version_id}"


def _storage(url: str, timeout_s: int, api_key: str | None) -> Storage:
    parts = urlsplit(url)
    if "@" in parts.netloc:  # which would be in every message
        raise SettingsError(
            "IMMR_INDEX_URL holds credentials: take them out, and name a file with the server's API key in "
            "IMMR_INDEX_KEY_FILE"
        )
    if parts.scheme == "file" and parts.path:
        return Folders(Path(url2pathname(parts.path)), open_local)
    if parts.scheme == "edge" and parts.path:
        return Folders(Path(url2pathname(parts.path)), EdgeEngine)
    if parts.scheme in ("http", "https") and parts.hostname:
        return Server(url, timeout_s, api_key)
    raise SettingsError(
        f"no index understands {url!r}: use file:///a/folder, edge:///a/folder or http(s)://host:port"
    )
