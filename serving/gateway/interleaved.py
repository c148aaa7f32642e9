"""One answer of two versions': their hits by team draft, each with a click token that says whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from immr.events import tokens
from immr.experiment.definition import CHALLENGER, CHAMPION
from immr.experiment.interleaving import draft
from serving.wire.schemas import SearchBody


def interleaved(
    answers: Mapping[str, SearchBody], label: str, key: bytes, now: datetime
) -> tuple[SearchBody, tuple[str, ...]]:
    """Both versions' answers to one query as one.

    It is the challenger's answer but for its hits, and has no next page: a page that follows would repeat
    items of this one, or leave some out.

    Args:
        answers: The champion's and the challenger's, by name.
        label: The variant that the click tokens name.
        key: Signs them.
        now: When the answer is shown.

    Returns:
        The answer, and the model version of each hit.
    """
    champion, challenger = answers[CHAMPION], answers[CHALLENGER]
    query_id = challenger.query_id
    hits = {name: {hit.item_id: hit for hit in answer.hits} for name, answer in answers.items()}
    length = max(map(len, hits.values()))
    drafted = draft(list(hits[CHAMPION]), list(hits[CHALLENGER]), length, query_id)
    versions = tuple(answers[one.team].model_version for one in drafted)
    signers = {
        name: tokens.Signer(key, query_id, label, answer.model_version, now)
        for name, answer in answers.items()
    }
    shown = [
        hits[one.team][one.item_id].model_copy(
            update={"position": position, "click_token": signers[one.team].sign(one.item_id, position)}
        )
        for position, one in enumerate(drafted, start=1)
    ]
    degraded = sorted({*champion.degraded, *challenger.degraded})
    return challenger.model_copy(update={"hits": shown, "degraded": degraded, "next_page": None}), versions
