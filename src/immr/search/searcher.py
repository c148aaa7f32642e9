"""The query's way: encode → retrieve → features → rank; the same in a Bento and in evaluation."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from PIL import Image

from immr.features.feature_store import FeatureReader
from immr.index.vector_index import EVERYTHING, Collection
from immr.search.ranking import RankingRecipe, rank
from immr.types import Candidate, Filters, FloatArray, Hit, ItemFeatures

log = logging.getLogger(__name__)


class QueryEncoder(Protocol):
    """What search asks of an encoder; `immr.model.query_encoder.OnnxQueryEncoder` is one."""

    def decode(self, photo: bytes) -> Image.Image:
        """The picture as `encode` takes it; raises ImageError where there is none."""

    def encode(self, pictures: Sequence[Image.Image]) -> FloatArray:
        """(N, D) unit rows from N upright RGB pictures."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, which parts it had to do without, and how long each stage took."""

    hits: list[Hit]
    embedding_D: FloatArray  # of the query, to go on to the next page with
    has_more: bool = False
    degraded: list[str] = field(default_factory=list)
    stage_ms: Mapping[str, float] = field(default_factory=dict)


class Searcher:
    """One model version, ready to answer. Safe to call from several threads where its parts are."""

    def __init__(
        self,
        encoder: QueryEncoder,
        collection: Collection,
        features: FeatureReader | None,
        ranking: RankingRecipe,
        overfetch: int = 3,
    ) -> None:
        """`features=None` ranks without features on purpose; `overfetch` × k candidates are ranked."""
        self._encoder = encoder
        self._collection = collection
        self._features = features
        self._ranking = ranking
        self._overfetch = overfetch
        self._degraded = False

    def search(self, photo: bytes, k: int, filters: Filters = EVERYTHING) -> Answer:
        """The k best items for a photo.

        Raises:
            ImageError: the bytes are not a picture that we read.
            IndexUnavailableError: the vector database does not answer.
        """
        stage_ms: dict[str, float] = {}
        with _timed(stage_ms, "decode"):
            picture = self._encoder.decode(photo)
        with _timed(stage_ms, "encode"):
            embedding_D = self._encoder.encode([picture])[0]
        return self._answer(embedding_D, k, filters, 0, stage_ms)

    def more_like(self, item_id: str, k: int, filters: Filters = EVERYTHING) -> Answer | None:
        """The k items most like this one, which is left out; None where there is no such item.

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
        """The k items of a later page (0 is the first) of what `search` or `more_like` began.

        Pages have no item twice and leave none out, as long as catalogue and features stay as they are.

        Raises:
            IndexUnavailableError: the vector database does not answer.
        """
        return self._answer(embedding_D, k, filters, number, {})

    def _answer(
        self, embedding_D: FloatArray, k: int, filters: Filters, number: int, stage_ms: dict[str, float]
    ) -> Answer:
        """Candidates are ranked in blocks of `overfetch` pages, so that every page of a block is a cut of
        one order."""
        block_k = k * self._overfetch
        block, place = divmod(number, self._overfetch)
        with _timed(stage_ms, "retrieve"):
            # one more than is ranked tells whether another block follows
            found = self._collection.search(embedding_D, block_k + 1, filters, block * block_k)
        candidates = found[:block_k]
        with _timed(stage_ms, "features"):
            features, degraded = self._read_features(candidates)
        with _timed(stage_ms, "rank"):
            ranked = rank(candidates, features, self._ranking, block_k, datetime.now(UTC))
        end = (place + 1) * k
        has_more = len(ranked) > end or (place + 1 == self._overfetch and len(found) > block_k)
        return Answer(ranked[place * k : end], embedding_D, has_more, degraded, stage_ms)

    def _read_features(self, candidates: Sequence[Candidate]) -> tuple[dict[str, ItemFeatures], list[str]]:
        if self._features is None or not candidates:
            return {}, []
        try:
            features = self._features.read([candidate.item_id for candidate in candidates])
        except Exception as error:  # whatever breaks there, a shopper still gets an answer
            # said once per outage, not once per query
            log.log(
                logging.DEBUG if self._degraded else logging.WARNING, "ranking without features: %s", error
            )
            self._degraded = True
            return {}, ["features"]
        self._degraded = False
        return features, []


@contextmanager
def _timed(stage_ms: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stage_ms[stage] = stage_ms.get(stage, 0.0) + 1000 * (time.perf_counter() - start)
