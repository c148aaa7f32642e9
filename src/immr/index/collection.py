"""A version's collection, open for search."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from immr.errors import IndexMismatchError
from immr.index.answers import answers
from immr.index.documents import Binding, candidate, check_bound, point_id
from immr.index.engine import Engine, Storage
from immr.index.journal import Entry, Journal
from immr.index.vector_index import EVERYTHING
from immr.types import Candidate, Filters, FloatArray

_ENTRIES_AT_ONCE = 256
_ENTRIES_KEPT = 10_000  # for a content that is being built: what is older is delivered to it anew
_SETTLE_TIMEOUT_S = 600.0
_FILTERED_WIDER = 4  # a filter leaves few of those that a search comes by: it looks at more (docs/index.md)


class _Opened:
    """A content that is open; its engine is closed once nobody uses it any more."""

    def __init__(self, content: str, binding: Binding, engine: Engine) -> None:
        self.content = content
        self.binding = binding
        self.engine = engine
        self._users = 1  # the collection; and every search that is under way
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Use it; False where it was let go of meanwhile."""
        with self._lock:
            self._users += 1 if self._users else 0
            return self._users > 0

    def let_go(self) -> None:
        """Use it no more."""
        with self._lock:
            self._users -= 1
            unused = self._users == 0
        if unused:
            self.engine.close()


class QdrantCollection:
    """The documents of one model version, open for search; may be used from many threads."""

    def __init__(self, storage: Storage, collection: str, content: str, binding: Binding) -> None:
        """Opens the content's engine.

        Raises:
            IndexUnavailableError: another process holds the folder.
        """
        self._storage = storage
        self._name = collection
        self._opened = _Opened(content, binding, storage.serving(collection, content))
        self._refreshing = threading.Lock()
        self._closed = False

    @property
    def binding(self) -> Binding:
        """What the content is bound to that is searched now."""
        return self._opened.binding

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
        with self._in_use() as opened:
            hnsw_ef = opened.binding.hnsw_ef * (1 if filters == EVERYTHING else _FILTERED_WIDER)
            points = opened.engine.nearest(embedding_D, k, offset, filters, hnsw_ef)
        return [candidate(point.payload, point.score) for point in points]

    def item(self, item_id: str) -> Candidate | None:
        """One document by its id (its cosine is 1), None where there is none.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with self._in_use() as opened:
            payload = opened.engine.payload(point_id(item_id))
        return candidate(payload, 1.0) if payload is not None else None

    def embedding(self, item_id: str) -> FloatArray | None:
        """(D,) unit vector of one document, None where there is none.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with self._in_use() as opened:
            return opened.engine.embedding(point_id(item_id))

    def count(self) -> int:
        """Number of documents.

        Raises:
            IndexUnavailableError: the database does not answer.
        """
        with self._in_use() as opened:
            return opened.engine.count()

    def refresh(self) -> int:
        """Take over what others left: a content that a build has published since, and the journal's changes.

        Searches go on in the content before until the new one is up to date. What is applied is noted after
        it is durable: after a sudden death it is done again, without harm.

        Returns:
            The number of changes.

        Raises:
            IndexUnavailableError: the database does not answer, or another process holds the new content.
            IndexMismatchError: the new content was made for something else; searches stay in the one before.
        """
        journal = self._storage.journal(self._name)
        if journal is None:
            return 0
        with self._refreshing, answers(self._storage.where):
            if self._closed:
                return 0
            before, newest = self._opened, self._newest()
            try:
                taken = self._take_over(newest, journal)
            except BaseException:
                if newest is not before:
                    newest.let_go()
                raise
            if newest is not before:
                self._opened = newest
                before.let_go()
        return taken

    def close(self) -> None:
        """Let go of the folder or the connection; closing twice does no harm."""
        with self._refreshing:
            self._closed = True
            self._opened.engine.close()

    @contextmanager
    def _in_use(self) -> Iterator[_Opened]:
        """The content that is searched now, which stays open for as long as the block takes."""
        while not (opened := self._opened).take():
            pass  # replaced between the two: the next one is there already
        try:
            with answers(self._storage.where):
                yield opened
        finally:
            opened.let_go()

    def _newest(self) -> _Opened:
        """The content that is published, opened where it is another than the one that is searched."""
        content = self._storage.published(self._name)
        if content is None or content == self._opened.content:
            return self._opened
        binding, now = self._storage.binding(content), self.binding
        if binding is None:
            return self._opened
        check_bound(self._name, binding, now.version_id, now.dim, now.preprocessing_hash)
        return _Opened(content, binding, self._storage.serving(self._name, content))

    def _take_over(self, opened: _Opened, journal: Journal) -> int:
        done, taken = self._storage.applied(opened.content), 0
        while entries := journal.after(done, _ENTRIES_AT_ONCE):
            apply(opened.engine, entries)
            taken += len(entries)
            done = entries[-1].sequence
            opened.engine.settle(_SETTLE_TIMEOUT_S)
            self._storage.note_applied(opened.content, done)
            journal.forget(done - _ENTRIES_KEPT)
        return taken


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
