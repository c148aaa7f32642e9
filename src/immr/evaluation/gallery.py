"""The gallery: photos with what a version answered, its failures first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from immr.evaluation.evaluate import Evaluation
from immr.evaluation.metrics import IntArray
from immr.types import Item

Picture = Callable[[str], str]
"""A picture's URI → its thumbnail as a data URI; empty where it cannot be read."""

_FAILURE_SHARE = 0.75


@dataclass(frozen=True)
class Answer:
    """An item as a query sees it."""

    title: str
    picture: str
    score: float | None
    right: bool


@dataclass(frozen=True)
class Shown:
    """One query of the gallery."""

    query_id: str
    picture: str
    rank: int
    right: Answer
    answers: Sequence[Answer]
    other_ranks: Mapping[str, int]


def choose(ranks_Q: IntArray, limit: int) -> list[int]:
    """Positions of the queries to show: failures, worst rank first, then successes spread over the set.

    At most three quarters are failures while there are successes to fill the rest.
    """
    worst_first = np.argsort(-ranks_Q, kind="stable")
    successes = np.flatnonzero(ranks_Q == 1)
    room = max(int(limit * _FAILURE_SHARE), limit - len(successes))
    failures = worst_first[ranks_Q[worst_first] > 1][:room]
    wanted = min(limit - len(failures), len(successes))
    spread = np.linspace(0, len(successes) - 1, wanted).round().astype(np.int64)
    return [int(index) for index in [*failures, *successes[spread]]]


def shown(
    evaluation: Evaluation,
    items: Mapping[str, Item],
    others: Mapping[str, Evaluation],
    chosen: Sequence[int],
    picture: Picture,
) -> list[Shown]:
    """The chosen queries with their answers.

    Args:
        evaluation: whose answers are shown.
        items: by item_id.
        others: evaluations by name, whose rank is told beside.
        chosen: positions of queries.
        picture: gives a picture's data URI.
    """
    other_ranks = {
        name: dict(zip(other.query_ids, other.ranks.tolist(), strict=True)) for name, other in others.items()
    }

    def answer(item_id: str, score: float | None, right: bool) -> Answer:
        item = items.get(item_id)
        return Answer(item.title if item else item_id, picture(item.image) if item else "", score, right)

    found = []
    for index in chosen:
        query = evaluation.queries[index]
        row = zip(
            evaluation.top_items[index],
            evaluation.top_scores[index].tolist(),
            evaluation.top_right[index].tolist(),
            strict=True,
        )
        found.append(
            Shown(
                query_id=query.query_id,
                picture=picture(query.image),
                rank=int(evaluation.ranks[index]),
                right=answer(evaluation.right_items[index], None, True),
                answers=[answer(*entry) for entry in row],
                other_ranks={
                    name: ranks[query.query_id]
                    for name, ranks in other_ranks.items()
                    if query.query_id in ranks
                },
            )
        )
    return found
