"""The path of a query: encode → retrieve → features → rank. Evaluation shares the encoder, not the ranking."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from immr.features.feature_store import FeatureReader
from immr.index.vector_index import EVERYTHING, Collection
from immr.search.feature_lookup import FeatureLookup
from immr.search.query_encoder import QueryEncoder
from immr.search.ranking import RankingRecipe, rank
from immr.types import Filters, FloatArray, Hit


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of hits, which parts of the search failed, and how long each step took."""

    hits: list[Hit]
    embedding_D: FloatArray  # of the query; `page` takes it for the next page
    has_more: bool = False
    degraded: list[str] = field(default_factory=list)
    stage_ms: Mapping[str, float] = field(default_factory=dict)


class Searcher:
    """Search with one model version. As thread-safe as its parts."""

    def __init__(
        self,
        encoder: QueryEncoder,
        collection: Collection,
        features: FeatureReader | None,
        ranking: RankingRecipe,
        overfetch: int = 3,
    ) -> None:
        """`features=None` ranks without features; `overfetch` × k candidates are ranked."""
        self._encoder = encoder
        self._collection = collection
        self._features = FeatureLookup(features)
        self._ranking = ranking
        self._overfetch = overfetch

    def search(self, photo: bytes, k: int, filters: Filters = EVERYTHING) -> Answer:
        """The k best items for a photo.

        Raises:
            ImageError: the bytes are not a readable picture.
            IndexUnavailableError: the vector database does not answer.
        """
        stage_ms: dict[str, float] = {}
        with _timed(stage_ms, "decode"):
            picture = self._encoder.decode(photo)
        with _timed(stage_ms, "encode"):
            embedding_D = self._encoder.encode([picture])[0]
        return self._answer(embedding_D, k, filters, 0, stage_ms)

    def more_like(self, item_id: str, k: int, filters: Filters = EVERYTHING) -> Answer | None:
        """The k items most similar to an item, without that item; None if it is unknown.

        Raises:
            IndexUnavailableError: the vector database does not answer.
        """
        stage_ms: dict[str, float] = {}
        with _timed(stage_ms, "retrieve"):
            embedding_D = self._collection.embedding(item_id)
        if embedding_D is None:
            return None
        return self._answer(embedding_D, k, replace(filters, exclude=item_id), 0, stage_ms)

    def page(self, embedding_D: FloatArray, k: int, filters: Filters, number: int) -> Answer:
        """A later page (0 is the first) of an answer by `search` or `more_like`.

        Pages neither repeat nor skip an item, as long as catalogue and features do not change.

        Raises:
            IndexUnavailableError: the vector database does not answer.
        """
        return self._answer(embedding_D, k, filters, number, {})

    def _answer(
        self, embedding_D: FloatArray, k: int, filters: Filters, number: int, stage_ms: dict[str, float]
    ) -> Answer:
        """Candidates are ranked in blocks of `overfetch` pages; the pages of a block are cuts of one order."""
        block_k = k * self._overfetch
        block, place = divmod(number, self._overfetch)
        with _timed(stage_ms, "retrieve"):
            # one more than is ranked shows whether another block follows
            found = self._collection.search(embedding_D, block_k + 1, filters, block * block_k)
        candidates = found[:block_k]
        with _timed(stage_ms, "features"):
            features, failed = self._features.read(candidates)
        with _timed(stage_ms, "rank"):
            ranked = rank(candidates, features, self._ranking, block_k, datetime.now(UTC))
        end = (place + 1) * k
        has_more = len(ranked) > end or (place + 1 == self._overfetch and len(found) > block_k)
        degraded = ["features"] if failed else []
        return Answer(ranked[place * k : end], embedding_D, has_more, degraded, stage_ms)


@contextmanager
def _timed(stage_ms: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stage_ms[stage] = stage_ms.get(stage, 0.0) + 1000 * (time.perf_counter() - start)
