"""A version's collection, open for search."""

from __future__ import annotations

import threading

import numpy as np

from immr.errors import IndexMismatchError
from immr.index.answers import answers
from immr.index.documents import Binding, candidate, point_id
from immr.index.engine import Engine, Storage
from immr.index.journal import Entry
from immr.index.port import EVERYTHING
from immr.types import Candidate, Filters, FloatArray

_ENTRIES_AT_ONCE = 256
_SETTLE_TIMEOUT_S = 600.0


class QdrantCollection:
    """The documents of one model version, open for search; may be used from many threads."""

    def __init__(self, storage: Storage, collection: str, content: str, binding: Binding) -> None:
        """Opens the content's engine.

        Raises:
            IndexUnavailableError: another process holds the folder.
        """
        self._storage = storage
        self._name = collection
        self._content = content
        self._engine: Engine = storage.serving(collection, content)
        self._refreshing = threading.Lock()
        self.binding = binding

    def search(
        self, embedding_D: FloatArray, k: int, filters: Filters = EVERYTHING, offset: int = 0
    ) -> list[Candidate]:
        """The k most similar documents that pass, best first.

        Args:
            embedding_D: (D,) unit vector of the query.
            k: how many, at least 1; fewer come back when fewer pass.
            filters: which documents may be found.
            offset: how many of the best to leave out, for the pages after the first.

        Raises:
            IndexMismatchError: the embedding is not of the collection's dimension.
            IndexUnavailableError: the database does not answer.
        """
        if embedding_D.shape != (self.binding.dim,):
            raise IndexMismatchError(
                f"the query embedding has the shape {embedding_D.shape}, but the documents of "
                f"{self.binding.version_id} have {self.binding.dim} dimensions: encode it with that version"
            )
        with answers(self._storage.where):
            points = self._engine.nearest(embedding_D, k, offset, filters, self.binding.hnsw_ef)
        return [candidate(point.payload, point.score) for point in points]

    def item(self, item_id: str) -> Candidate | None:
        """One document by its id (its cosine is 1), None where there is none.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with answers(self._storage.where):
            payload = self._engine.payload(point_id(item_id))
        return candidate(payload, 1.0) if payload is not None else None

    def embedding(self, item_id: str) -> FloatArray | None:
        """(D,) unit vector of one document, None where there is none.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with answers(self._storage.where):
            return self._engine.embedding(point_id(item_id))

    def count(self) -> int:
        """Number of documents.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with answers(self._storage.where):
            return self._engine.count()

    def refresh(self) -> int:
        """Take over changes that others left in the journal; returns how many.

        What is applied is noted after it is durable: after a sudden death it is done again, without harm.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        journal = self._storage.journal(self._name)
        if journal is None:
            return 0
        taken = 0
        with self._refreshing, answers(self._storage.where):
            done = self._storage.applied(self._content)
            while entries := journal.after(done, _ENTRIES_AT_ONCE):
                apply(self._engine, entries)
                taken += len(entries)
                done = entries[-1].sequence
                self._engine.settle(_SETTLE_TIMEOUT_S)
                self._storage.note_applied(self._content, done)
        return taken

    def close(self) -> None:
        """Let go of the folder or the connection; closing twice does no harm."""
        with self._refreshing:
            self._engine.close()


def apply(engine: Engine, entries: list[Entry]) -> None:
    """Bring the last entry of each point into the engine."""
    last = {entry.point: entry for entry in entries}
    put = [entry for entry in last.values() if entry.payload is not None]
    removed = [entry.point for entry in last.values() if entry.payload is None]
    if put:
        engine.put(
            [entry.point for entry in put],
            np.stack([entry.embedding_D for entry in put if entry.embedding_D is not None]),
            [entry.payload or {} for entry in put],
        )
    if removed:
        engine.remove(removed)
