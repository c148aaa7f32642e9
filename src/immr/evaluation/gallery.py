"""The gallery of the report: photos with a version's answers, failures first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from immr.evaluation.metrics import IntArray
from immr.evaluation.result import Evaluation
from immr.types import Item

Picture = Callable[[str], str]
"""Maps a picture's URI to a thumbnail as a data URI; empty if the picture cannot be read."""

_FAILURE_SHARE = 0.75


@dataclass(frozen=True)
class GalleryItem:
    """An item as the gallery shows it."""

    title: str
    picture: str  # data URI, or empty
    score: float | None
    right: bool


@dataclass(frozen=True)
class GalleryQuery:
    """A photo of the gallery with its answers."""

    query_id: str
    picture: str  # data URI, or empty
    rank: int  # of the first right answer
    right: GalleryItem
    answers: Sequence[GalleryItem]
    other_ranks: Mapping[str, int]  # by name of another version


def choose(ranks_Q: IntArray, limit: int) -> list[int]:
    """Positions of the queries to show: failures, worst rank first, then successes spread over the set.

    At most three quarters are failures, as long as successes fill the rest.
    """
    worst_first = np.argsort(-ranks_Q, kind="stable")
    successes = np.flatnonzero(ranks_Q == 1)
    room = max(int(limit * _FAILURE_SHARE), limit - len(successes))
    failures = worst_first[ranks_Q[worst_first] > 1][:room]
    wanted = min(limit - len(failures), len(successes))
    spread = np.linspace(0, len(successes) - 1, wanted).round().astype(np.int64)
    return [int(index) for index in [*failures, *successes[spread]]]


def gallery_item(
    items: Mapping[str, Item], item_id: str, score: float | None, right: bool, picture: Picture
) -> GalleryItem:
    """An item with its title and thumbnail; one that left the catalogue shows its id."""
    item = items.get(item_id)
    return GalleryItem(item.title if item else item_id, picture(item.image) if item else "", score, right)


def gallery_queries(
    evaluation: Evaluation,
    items: Mapping[str, Item],
    others: Mapping[str, Evaluation],
    chosen: Sequence[int],
    picture: Picture,
) -> list[GalleryQuery]:
    """The chosen queries with their answers.

    Args:
        evaluation: the version whose answers are shown.
        items: by item_id.
        others: evaluations of other versions by name, whose rank is shown beside.
        chosen: positions of the queries.
        picture: makes thumbnails.
    """
    other_ranks = {
        name: dict(zip(other.query_ids, other.ranks.tolist(), strict=True)) for name, other in others.items()
    }
    shown = []
    for index in chosen:
        query = evaluation.queries[index]
        answers = zip(
            evaluation.top_items[index],
            evaluation.top_scores[index].tolist(),
            evaluation.top_right[index].tolist(),
            strict=True,
        )
        shown.append(
            GalleryQuery(
                query_id=query.query_id,
                picture=picture(query.image),
                rank=int(evaluation.ranks[index]),
                right=gallery_item(items, evaluation.right_items[index], None, True, picture),
                answers=[gallery_item(items, *answer, picture) for answer in answers],
                other_ranks={
                    name: ranks[query.query_id]
                    for name, ranks in other_ranks.items()
                    if query.query_id in ranks
                },
            )
        )
    return shown
