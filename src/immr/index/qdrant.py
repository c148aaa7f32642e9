"""Qdrant as the vector index: one collection per model version, bound to it, verified before it serves."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tqdm import tqdm

from immr.errors import IndexMismatchError, IndexUnavailableError, SettingsError
from immr.index.documents import Binding, Documents, candidate, category_prefixes, point_id
from immr.index.port import IndexReport
from immr.index.storage import SEPARATOR, Connection, LocalFolders, Server, Storage
from immr.index.verify import recall_at_k, sample_rows
from immr.types import Candidate, FloatArray, Item, ModelVersion

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_log = logging.getLogger(__name__)

BATCH_POINTS = 256
RECALL_SAMPLE = 100
MIN_RECALL = 0.95
IDLE_TIMEOUT_S = 600.0
LOCAL_MODE_POINTS = 20_000


class QdrantIndex:
    """Collections in folders (`file:///path`, local mode) or on a server (`http(s)://host:port`).

    Raises:
        SettingsError: a URL of another kind.
    """

    def __init__(self, url: str, timeout_s: int = 10) -> None:
        self._storage = _storage(url, timeout_s)

    def build(self, version: ModelVersion, items: Sequence[Item], embeddings_ND: FloatArray) -> IndexReport:
        """Make and verify the version's collection.

        Idempotent and resumable: the same content is reused, a build that died goes on where it was, and
        what served before serves until the new content is verified. A process that has the old content open
        in local mode keeps it until it opens the collection again.

        Args:
            version: whose documents these are.
            items: the catalogue, each item once.
            embeddings_ND: unit rows, one per item.

        Raises:
            ContractError: see `Documents.of`.
            IndexMismatchError: wrong dimension, or the collection does not hold or find what was put in.
            IndexUnavailableError: the database does not answer, is held elsewhere, or does not get idle.
        """
        documents = Documents.of(version, items, embeddings_ND)
        collection = collection_name(version.id)
        content = f"{collection}{SEPARATOR}{documents.binding.content_hash[:12]}"
        with _answers(self._storage.where):
            finished = self._finished(content, documents.binding)
            binding = finished or self._fill_and_verify(content, documents)
            if self._storage.published(collection) != content:
                self._storage.publish(collection, content)
            self._storage.discard_others(collection, keep=content)
        return IndexReport(collection, binding.points, binding.recall_at_10, reused=finished is not None)

    def open(self, version_id: str, dim: int, preprocessing_hash: str) -> QdrantCollection:
        """Open a version's collection for search.

        Raises:
            IndexMismatchError: it is not there, not finished, or made for something else.
            IndexUnavailableError: the database does not answer, or another process holds the folder.
        """
        collection = collection_name(version_id)
        with _answers(self._storage.where):
            content = self._storage.published(collection)
            metadata = self._storage.metadata(content) if content else None
            binding = Binding.from_metadata(metadata)
            if content is None or binding is None or not binding.ready:
                raise IndexMismatchError(
                    f"{self._storage.where} has no finished collection {collection}: "
                    f"run `immr index --model {version_id}`"
                )
            _check_same(collection, binding, version_id, dim, preprocessing_hash)
            return QdrantCollection(self._storage.connect(content), content, binding, self._storage.where)

    def _finished(self, content: str, wanted: Binding) -> Binding | None:
        found = Binding.from_metadata(self._storage.metadata(content))
        same = found is not None and found.ready and found.content_hash == wanted.content_hash
        return found if same else None

    def _fill_and_verify(self, content: str, documents: Documents) -> Binding:
        if self._storage.is_local and documents.binding.points > LOCAL_MODE_POINTS:
            _log.warning(
                "%d points are many for Qdrant's local mode: set IMMR_INDEX_URL to a server",
                documents.binding.points,
            )
        with closing(self._storage.connect(content)) as connection:
            client = connection.client
            _create(client, content, documents.binding, payload_index=not self._storage.is_local)
            _fill(client, content, documents)
            _wait_until_idle(client, content, IDLE_TIMEOUT_S)
            binding = _verified(client, content, documents)
            client.update_collection(content, metadata=binding.as_metadata())
        _log.info("%s holds %d documents, recall@10 %.3f", content, binding.points, binding.recall_at_10)
        return binding


class QdrantCollection:
    """The documents of one model version, open for search; may be used from many threads."""

    def __init__(self, connection: Connection, content: str, binding: Binding, where: str) -> None:
        self._connection = connection
        self._content = content
        self._where = where
        self.binding = binding

    def search(self, embedding_D: FloatArray, k: int, category: str | None = None) -> list[Candidate]:
        """The k most similar documents, best first.

        Args:
            embedding_D: (D,) unit vector of the query.
            k: how many, at least 1; fewer come back when the category has fewer.
            category: keep this category path and what is below it.

        Raises:
            IndexMismatchError: the embedding is not of the collection's dimension.
            IndexUnavailableError: the database does not answer.
        """
        if embedding_D.shape != (self.binding.dim,):
            raise IndexMismatchError(
                f"the query embedding has the shape {embedding_D.shape}, but the documents of "
                f"{self.binding.version_id} have {self.binding.dim} dimensions: encode it with that version"
            )
        with _answers(self._where):
            points = self._connection.client.query_points(
                self._content, query=embedding_D.tolist(), limit=k, query_filter=_below(category)
            ).points
        return [candidate(point.payload or {}, point.score) for point in points]

    def item(self, item_id: str) -> Candidate | None:
        """One document by its id (its cosine is 1), None where there is none.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with _answers(self._where):
            points = self._connection.client.retrieve(self._content, [point_id(item_id)])
        return candidate(points[0].payload or {}, 1.0) if points else None

    def count(self) -> int:
        """Number of documents.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with _answers(self._where):
            return self._connection.client.count(self._content).count

    def close(self) -> None:
        """Let go of the folder or the connection; closing twice does no harm."""
        self._connection.close()


def collection_name(version_id: str) -> str:
    """`immr-3` → `immr_immr-3`."""
    return f"immr_{version_id}"


def _storage(url: str, timeout_s: int) -> Storage:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return LocalFolders(Path(url2pathname(parts.path)))
    if parts.scheme in ("http", "https") and parts.hostname:
        return Server(url, timeout_s)
    raise SettingsError(f"no index understands {url!r}: use file:///a/folder or http(s)://host:port")


@contextmanager
def _answers(where: str) -> Iterator[None]:
    """Turn what a client throws when nobody answers into our own error."""
    import sqlite3

    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except (ApiException, QdrantException, OSError, sqlite3.Error, RuntimeError) as error:
        reason = getattr(error, "source", error)
        raise IndexUnavailableError(
            f"{where} does not answer ({reason}): check that it is there and that IMMR_INDEX_URL is right"
        ) from error


def _check_same(collection: str, found: Binding, version_id: str, dim: int, preprocessing_hash: str) -> None:
    there = {
        "version": found.version_id,
        "dim": found.dim,
        "preprocessing": found.preprocessing_hash,
        "normalization": found.normalization,
    }
    asked = {
        "version": version_id,
        "dim": dim,
        "preprocessing": preprocessing_hash,
        "normalization": "l2",
    }
    different = [name for name in there if there[name] != asked[name]]
    if different:
        raise IndexMismatchError(
            f"the collection {collection} was made for "
            + ", ".join(f"{name} {there[name]}" for name in different)
            + ", but the query encoder has "
            + ", ".join(f"{name} {asked[name]}" for name in different)
            + f": run `immr index --model {version_id}`"
        )


def _create(client: QdrantClient, content: str, binding: Binding, payload_index: bool) -> None:
    """Make the collection where it is not there yet; payload indexes go before the data."""
    from qdrant_client import models

    if not client.collection_exists(content):
        client.create_collection(
            content,
            vectors_config=models.VectorParams(size=binding.dim, distance=models.Distance.COSINE),
            metadata=binding.as_metadata(),
        )
    if payload_index:
        client.create_payload_index(content, "categories", models.PayloadSchemaType.KEYWORD)


def _fill(client: QdrantClient, content: str, documents: Documents) -> None:
    """Put in the points that are not there yet: the content's name is its hash, so those there are right."""
    from qdrant_client import models

    for start in tqdm(range(0, len(documents.ids), BATCH_POINTS), desc="index", disable=None):
        ids = documents.ids[start : start + BATCH_POINTS]
        there = {str(point.id) for point in client.retrieve(content, ids, with_payload=False)}
        points = [
            models.PointStruct(
                id=ids[offset],
                vector=documents.embeddings_ND[start + offset].tolist(),
                payload=documents.payloads[start + offset],
            )
            for offset in range(len(ids))
            if ids[offset] not in there
        ]
        if points:
            client.upsert(content, points, wait=True)


def _wait_until_idle(client: QdrantClient, content: str, timeout_s: float) -> None:
    from qdrant_client import models

    deadline = time.monotonic() + timeout_s
    while client.get_collection(content).status != models.CollectionStatus.GREEN:
        if time.monotonic() > deadline:
            raise IndexUnavailableError(
                f"the optimizers of {content} are still at work after {timeout_s:.0f} s: look at the "
                "server's load, then run the same `immr index` again, it goes on from here"
            )
        time.sleep(0.5)


def _verified(client: QdrantClient, content: str, documents: Documents) -> Binding:
    count = client.count(content, exact=True).count
    if count != documents.binding.points:
        raise IndexMismatchError(
            f"{content} holds {count} points, but {documents.binding.points} were put in: "
            f"run `immr index --model {documents.binding.version_id}` again"
        )
    recall = _recall_at_10(client, content, documents)
    if recall < MIN_RECALL:
        raise IndexMismatchError(
            f"{content} finds {recall:.3f} of the 10 nearest documents, less than {MIN_RECALL}: "
            "raise hnsw ef_construct on the server and index again"
        )
    return dataclasses.replace(documents.binding, recall_at_10=recall, ready=True)


def _recall_at_10(client: QdrantClient, content: str, documents: Documents) -> float:
    row_of = {point: row for row, point in enumerate(documents.ids)}
    queries_QD = documents.embeddings_ND[sample_rows(len(documents.ids), RECALL_SAMPLE)]
    found = [
        [
            row_of[str(point.id)]
            for point in client.query_points(
                content, query=query_D.tolist(), limit=10, with_payload=False
            ).points
        ]
        for query_D in queries_QD
    ]
    return recall_at_k(found, queries_QD, documents.embeddings_ND, k=10)


def _below(category: str | None) -> models.Filter | None:
    from qdrant_client import models

    prefixes = category_prefixes(category or "")
    if not prefixes:
        return None
    return models.Filter(
        must=[models.FieldCondition(key="categories", match=models.MatchValue(value=prefixes[-1]))]
    )
