"""A version's collection, open for search."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from immr.errors import IndexMismatchError, IndexUnavailableError
from immr.index.binding import Binding, check_binding
from immr.index.bm25 import of_query
from immr.index.change_journal import ChangeJournal, apply_changes
from immr.index.documents import BUILT_IN, candidate, point_id
from immr.index.engines.engine import SCORE_DIGITS, Found, VectorEngine
from immr.index.engines.errors import translate_errors
from immr.index.storages.storage import Storage
from immr.index.vector_index import EVERYTHING, MOST_MATCHED
from immr.types import AttributeKind, Candidate, Facet, Filters, FloatArray

_CHANGES_PER_BATCH = 256
_CHANGES_KEPT = 10_000  # for a content under construction; older changes are delivered to it again
_SETTLE_TIMEOUT_S = 600.0
_LOOK_EVERY_S = 10.0  # for a new content on a server
# most neighbours that a filtered search visits do not pass, so it must visit more: docs/vector-index.md
_FILTERED_EF_FACTOR = 4
_FACET_VALUES = 100
_COUNTED_VALUES = 1000  # more than are returned, so that ties do not depend on the engine


class _OpenContent:
    """An open content; its engine is closed when its last user is done."""

    def __init__(self, content: str, binding: Binding, engine: VectorEngine) -> None:
        self.content = content
        self.binding = binding
        self.engine = engine
        self._users = 1  # the collection, plus every search in progress
        self._lock = threading.Lock()

    def acquire(self) -> bool:
        """Register a user; False if the engine is already closed."""
        with self._lock:
            self._users += 1 if self._users else 0
            return self._users > 0

    def release(self) -> None:
        """Unregister a user."""
        with self._lock:
            self._users -= 1
            unused = self._users == 0
        if unused:
            self.engine.close()


class QdrantCollection:
    """The documents of one model version, open for search. Thread safe."""

    def __init__(self, storage: Storage, collection: str, content: str, binding: Binding) -> None:
        """Open the content's engine.

        Raises:
            IndexUnavailableError: Another process holds the folder.
        """
        self._storage = storage
        self._name = collection
        self._open = _OpenContent(content, binding, storage.serving(collection, content))
        self._refreshing, self._looking = threading.Lock(), threading.Lock()
        self._looked_at_s = time.monotonic()
        self._closed = False

    @property
    def binding(self) -> Binding:
        """The binding of the content that is searched now."""
        return self._open.binding

    def search(
        self, embedding_D: FloatArray, k: int, filters: Filters = EVERYTHING, offset: int = 0
    ) -> list[Candidate]:
        """The k most similar documents that pass the filters, best first.

        Args:
            embedding_D: (D,) unit vector of the query.
            k: Number of documents, at least 1; fewer are returned if fewer pass.
            filters: Which documents may be found.
            offset: Number of best documents to skip, for later pages.

        Raises:
            IndexMismatchError: The embedding does not have the collection's dimension.
            IndexUnavailableError: The database is not available.
        """
        [points] = self._nearest(embedding_D, k, [filters], offset)
        return [candidate(point.payload, point.score) for point in points]

    def similar_ids(
        self, embedding_D: FloatArray, k: int, filters: Sequence[Filters]
    ) -> list[dict[int, float]]:
        """See `Collection.similar_ids`.

        Raises:
            IndexMismatchError: The embedding does not have the collection's dimension.
            IndexUnavailableError: The database is not available.
        """
        found = self._nearest(embedding_D, k, filters, with_payload=False)
        return [{point.id: point.score for point in points} for points in found]

    def _nearest(
        self,
        embedding_D: FloatArray,
        k: int,
        filters: Sequence[Filters],
        offset: int = 0,
        with_payload: bool = True,
    ) -> list[list[Found]]:
        if embedding_D.shape != (self.binding.dim,):
            raise IndexMismatchError(
                f"the query embedding has shape {embedding_D.shape}, but the documents of "
                f"{self.binding.version_id} have {self.binding.dim} dimensions: encode it with that version"
            )
        with self._in_use() as opened:
            is_filtered = any(each != EVERYTHING for each in filters)
            hnsw_ef = opened.binding.hnsw_ef * (_FILTERED_EF_FACTOR if is_filtered else 1)
            return opened.engine.nearest(embedding_D, filters, k, hnsw_ef, offset, with_payload)

    @property
    def has_words(self) -> bool:
        """See `Collection.has_words`."""
        return self.binding.words

    def matching_ids(self, text: str, k: int, filters: Sequence[Filters]) -> list[list[int]]:
        """See `Collection.matching_ids`.

        Raises:
            IndexMismatchError: The collection was built by a release without words.
            IndexUnavailableError: The database is not available.
        """
        terms = of_query(text)
        with self._in_use() as opened:
            if not opened.binding.words:
                raise IndexMismatchError(
                    f"the collection {self._name} was built by an earlier release, without words: "
                    f"run `immr index build TRAINING_SET --model {opened.binding.version_id}`"
                )
            if not terms.numbers:
                return [[] for _ in filters]
            # always the same number, because titles often match equally well, and the number decides which come first
            most = min(k, MOST_MATCHED)
            found = opened.engine.matching(terms, filters, MOST_MATCHED, most)
        in_order = [
            sorted([(-round(point.score, SCORE_DIGITS), point.id) for point in points]) for points in found
        ]
        return [[id for _, id in points[:k]] for points in in_order]

    def candidates(self, cosines: Mapping[int, float]) -> dict[int, Candidate]:
        """See `Collection.candidates`.

        Raises:
            IndexUnavailableError: The database is not available.
        """
        if not cosines:
            return {}
        with self._in_use() as opened:
            payloads = opened.engine.payloads(list(cosines))
        return {id: candidate(payload, cosines[id]) for id, payload in payloads.items()}

    @property
    def attributes(self) -> Mapping[str, AttributeKind]:
        """See `Collection.attributes`."""
        return {**BUILT_IN, **self.binding.attributes}

    def facet(self, name: str, filters: Filters = EVERYTHING) -> Facet:
        """See `Collection.facet`; of a keyword the 100 most frequent values, equal counts in order of value.

        Raises:
            KeyError: There is no such attribute.
            IndexUnavailableError: The database is not available.
        """
        kind = self.attributes[name]
        with self._in_use() as opened:
            if kind == "number":
                return Facet({}, *(opened.engine.ends(name, filters) or ()))
            counts = opened.engine.counts(name, filters, _COUNTED_VALUES)
        most = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_FACET_VALUES]
        return Facet(dict(most))

    def item(self, item_id: str) -> Candidate | None:
        """One document by its id, with a cosine of 1, or None.

        Raises:
            IndexUnavailableError: The database is not available.
        """
        with self._in_use() as opened:
            payloads = opened.engine.payloads([point_id(item_id)])
        return next((candidate(payload, 1.0) for payload in payloads.values()), None)

    def embedding(self, item_id: str) -> FloatArray | None:
        """(D,) unit vector of one document's main picture, or None.

        Raises:
            IndexUnavailableError: The database is not available.
        """
        rows_PD = self.embeddings([item_id]).get(item_id)
        return None if rows_PD is None else rows_PD[0]

    def embeddings(self, item_ids: Sequence[str]) -> dict[str, FloatArray]:
        """See `Collection.embeddings`.

        Raises:
            IndexUnavailableError: The database is not available.
        """
        item_of = {point_id(item_id): item_id for item_id in item_ids}
        if not item_of:
            return {}
        with self._in_use() as opened:
            found = opened.engine.embeddings(list(item_of))
        return {item_of[id]: rows_PD for id, rows_PD in found.items()}

    def count(self) -> int:
        """Number of documents.

        Raises:
            IndexUnavailableError: The database is not available.
        """
        with self._in_use() as opened:
            return opened.engine.count()

    def refresh(self) -> int:
        """Switch to a newly published content, and apply the changes in the journal.

        Searches use the previous content until the new one is up to date. Progress is saved after the changes
        are durable, so a crash may cause some to be applied twice, which is harmless.

        A server searches a new content at once and has no journal; its attributes and width are read every 10 s.

        Returns:
            The number of changes applied.

        Raises:
            IndexUnavailableError: The database is not available, or another process holds the new content.
            IndexMismatchError: The new content belongs to another encoder; the previous one stays in use.
        """
        journal = self._storage.journal(self._name)
        if journal is None:
            self._follow_alias()
            return 0
        with self._refreshing, translate_errors(self._storage.where):
            if self._closed:
                return 0
            before, newest = self._open, self._newest()
            try:
                applied = self._apply(newest, journal)
            except BaseException:
                if newest is not before:
                    newest.release()
                raise
            if newest is not before:
                self._open = newest
                before.release()
        return applied

    def close(self) -> None:
        """Release the folder or the connection. May be called twice."""
        with self._refreshing:
            self._closed = True
            self._open.engine.close()

    @contextmanager
    def _in_use(self) -> Iterator[_OpenContent]:
        """The content that is searched now; it stays open within the block."""
        while not (opened := self._open).acquire():
            pass  # just replaced, so the next attempt gets the new one
        try:
            with translate_errors(self._storage.where):
                yield opened
        finally:
            opened.release()

    def _newest(self) -> _OpenContent:
        """The published content; opened if it is not the one that is searched now."""
        content = self._storage.published(self._name)
        if content is None or content == self._open.content:
            return self._open
        binding, now = self._storage.binding(content), self.binding
        if binding is None:
            return self._open
        check_binding(self._name, binding, now.version_id, now.dim, now.preprocessing_hash)
        return _OpenContent(content, binding, self._storage.serving(self._name, content))

    def _follow_alias(self) -> None:
        """Use the binding of the content that a server's alias names now."""
        with self._looking:  # not `_refreshing`: `close` must not wait for a server that hangs
            now_s = time.monotonic()
            if self._closed or now_s - self._looked_at_s < _LOOK_EVERY_S:
                return
            self._looked_at_s, before = now_s, self._open
            try:
                with translate_errors(self._storage.where):
                    newest = self._newest()
            except IndexUnavailableError:
                return  # searches report it
            with self._refreshing:
                unused = newest if self._closed else before
                self._open = before if self._closed else newest
            if newest is not before:
                unused.release()

    def _apply(self, opened: _OpenContent, journal: ChangeJournal) -> int:
        done, applied = self._storage.applied(opened.content), 0
        while changes := journal.after(done, _CHANGES_PER_BATCH):
            apply_changes(opened.engine, changes, opened.binding.dim)
            applied += len(changes)
            done = changes[-1].sequence
            opened.engine.settle(_SETTLE_TIMEOUT_S)
            self._storage.note_applied(opened.content, done)
            journal.forget(done - _CHANGES_KEPT)
        return applied
