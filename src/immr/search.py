"""The query's way: encode → retrieve → features → rank; the same in a Bento and in evaluation."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from PIL import Image

from immr.data import images
from immr.index.port import Collection
from immr.ranking import RankingRecipe, rank
from immr.types import Candidate, Filters, FloatArray, Hit, ItemFeatures

log = logging.getLogger(__name__)


class QueryEncoder(Protocol):
    """What search asks of an encoder; `immr.model.query_encoder.OnnxQueryEncoder` is one."""

    def encode(self, images: Sequence[Image.Image]) -> FloatArray:
        """(N, D) unit rows from N upright RGB pictures."""


class FeatureReader(Protocol):
    """What search asks of a feature store; every `immr.features.port.FeatureStore` is one."""

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Features of those items that are known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, which parts it had to do without, and how long each stage took."""

    hits: list[Hit]
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

    def search(self, image: bytes, k: int, category: str | None = None) -> Answer:
        """The k best items for a photo; `category` keeps that path and what is below it.

        Raises:
            ImageError: the bytes are not a picture that we read.
            IndexUnavailableError: the vector database does not answer.
        """
        stage_ms: dict[str, float] = {}
        with _timed(stage_ms, "decode"):
            picture = images.decode(image)
        with _timed(stage_ms, "encode"):
            embedding_D = self._encoder.encode([picture])[0]
        with _timed(stage_ms, "retrieve"):
            candidates = self._collection.search(embedding_D, k * self._overfetch, Filters(category))
        with _timed(stage_ms, "features"):
            features, degraded = self._read_features(candidates)
        with _timed(stage_ms, "rank"):
            hits = rank(candidates, features, self._ranking, k, datetime.now(UTC))
        return Answer(hits, degraded, stage_ms)

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
    stage_ms[stage] = 1000 * (time.perf_counter() - start)
