"""Interleaves the answers of two versions by team draft; each hit's click token names its version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from immr.evaluation.matches.rule import strongest
from immr.events import tokens
from immr.experiment.definition import CHALLENGER, CHAMPION
from immr.experiment.interleaving import draft
from serving.wire.schemas import HitBody, SearchBody


def interleave(
    answers: Mapping[str, SearchBody], label: str, key: bytes, now: datetime
) -> tuple[SearchBody, tuple[str, ...]]:
    """Merges both versions' answers to one query.

    The result is the challenger's answer with other hits, and has no next page: a second page would repeat
    items of the first, or miss some.

    Args:
        answers: The champion's and the challenger's, by name.
        label: The variant that the click tokens name.
        key: Signs the click tokens.
        now: When the answer is shown.

    Returns:
        The answer, and the model version of each hit.
    """
    champion, challenger = answers[CHAMPION], answers[CHALLENGER]
    query_id = challenger.query_id
    hits = {name: {_key(hit): hit for hit in answer.hits} for name, answer in answers.items()}
    length = max(map(len, hits.values()))
    drafted = draft(list(hits[CHAMPION]), list(hits[CHALLENGER]), length, query_id)
    versions = tuple(answers[pick.team].model_version for pick in drafted)
    signers = {
        name: tokens.Signer(key, query_id, label, answer.model_version, now)
        for name, answer in answers.items()
    }
    shown = []
    for position, pick in enumerate(drafted, start=1):
        hit, signer = hits[pick.team][pick.item_id], signers[pick.team]
        token = signer.sign(hit.item_id, position)
        shown.append(hit.model_copy(update={"position": position, "click_token": token}))
    degraded = sorted({*champion.degraded, *challenger.degraded})
    merged = {
        "hits": shown,
        "degraded": degraded,
        "next_page": None,
        "match": strongest([champion.match, challenger.match]),
    }
    return challenger.model_copy(update=merged), versions


def _key(hit: HitBody) -> str:
    """The item, or the group that it stands for: versions may show different items of one."""
    return f"item {hit.item_id}" if hit.group is None else f"group {hit.group}"
