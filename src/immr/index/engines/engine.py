"""The port of an engine, which holds the points of one content of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from immr.index.bm25 import Terms
from immr.types import AttributeKind, Filters, FloatArray

EXACT = 0
"""A search width that compares the query with all points."""
SCORE_DIGITS = 4
"""Engines differ in the rest, so scores are equal if these digits are."""


class Found(NamedTuple):
    """A point that a search returned."""

    id: int  # see `immr.index.documents.point_id`
    score: float
    payload: Mapping[str, Any]  # empty or None in a search without payloads


class _Scored(Protocol):
    @property
    def score(self) -> float: ...


ScoredT = TypeVar("ScoredT", bound=_Scored)


def best_with_ties(points: Sequence[ScoredT], most: int) -> Sequence[ScoredT]:
    """The first `most` points, best first, and those after them that score the same as the last.

    To convert the id of a point takes longer than to find it, so engines leave out points before they convert any.
    """
    if len(points) <= most:
        return points
    last = round(points[most - 1].score, SCORE_DIGITS)
    end = next(
        (row for row in range(most, len(points)) if round(points[row].score, SCORE_DIGITS) < last),
        len(points),
    )
    return points[:end]


def rows_of(vector: Any) -> FloatArray:
    """(pictures, D) the embeddings in a stored vector: one or several, alone or beside the words."""
    return np.atleast_2d(np.asarray(vector[""] if isinstance(vector, dict) else vector, dtype=np.float32))


class VectorEngine(Protocol):
    """One open content; thread safe. Ids of points are the 128 bits of UUIDs. Shapes: N points, D dimensions."""

    def create(
        self, dim: int, attributes: Mapping[str, AttributeKind], several_pictures: bool = False
    ) -> None:
        """Create the content if it does not exist, with payload indexes and without an HNSW graph.

        With `several_pictures`, points have one or more embeddings, and the most similar one counts (MaxSim).
        """

    def missing(self, ids: Sequence[int]) -> set[int]:
        """The ids that have no point."""

    def put(
        self, ids: Sequence[int], embeddings: Sequence[FloatArray], payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert or replace points, with the words of their payloads; they are durable when this returns.

        Each point has (pictures, D) unit rows. A content without `several_pictures` keeps the first.
        """

    def remove(self, ids: Sequence[int]) -> None:
        """Delete points; unknown ids are ignored."""

    def settle(self, timeout_s: float) -> None:
        """Build the HNSW graph and wait until the optimizers are idle."""

    def nearest(
        self,
        embedding_D: FloatArray,
        filters: Sequence[Filters],
        limit: int,
        hnsw_ef: int,
        offset: int = 0,
        with_payload: bool = True,
    ) -> list[list[Found]]:
        """For each of the filters, the most similar points that pass, best first; in one request.

        Reading payloads takes most of the time. With `EXACT` as `hnsw_ef`, all points are compared, without the
        graph.
        """

    def matching(self, terms: Terms, filters: Sequence[Filters], limit: int, most: int) -> list[list[Found]]:
        """For each of the filters, the points that pass whose words match best by BM25, best first, without payloads.

        Only those with at least one of the terms. Of the `limit` best points, `most` are returned, and those that
        score the same as the last of these.
        """

    def counts(self, name: str, filters: Filters, limit: int) -> dict[str, int]:
        """How many points that pass have each value of a keyword attribute, for the most frequent values."""

    def ends(self, name: str, filters: Filters) -> tuple[float, float] | None:
        """The smallest and largest value of a number attribute among points that pass, or None."""

    def payloads(self, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """The payloads of those points that exist, by id."""

    def embeddings(self, ids: Sequence[int]) -> dict[int, FloatArray]:
        """(pictures, D) unit rows of those points that exist, by id; the main picture comes first."""

    def count(self) -> int:
        """The exact number of points."""

    def close(self) -> None:
        """Release files and connections. May be called twice."""
