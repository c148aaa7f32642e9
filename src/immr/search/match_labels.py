"""Labels hits exact, similar or none by the version's rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from immr.evaluation.matches.rule import MatchRule
from immr.index.vector_index import Collection
from immr.types import Candidate, FloatArray, Hit


def with_matches(
    hits: Sequence[Hit],
    candidates: Sequence[Candidate],
    embedding_D: FloatArray,
    elsewhere: bool,
    rule: MatchRule,
    collection: Collection,
) -> list[Hit]:
    """The hits with their matches.

    Args:
        hits: of `candidates`, in the same order.
        candidates: have the cosines.
        embedding_D: of the photo.
        elsewhere: whether the photo is outside the domain of the shop's photos.
        rule: of the version.
        collection: has the items' embeddings, which are read if the rule compares a part of them.

    Raises:
        IndexUnavailableError: the vector database does not answer.
    """
    rows = collection.embeddings([each.item_id for each in candidates]) if rule.learned_dim else {}
    matched = []
    for hit, candidate in zip(hits, candidates, strict=True):
        cosine, pictures_PD = candidate.cosine, rows.get(candidate.item_id)
        closeness = cosine
        if rule.learned_dim:  # an item without rows was deleted meanwhile
            closeness = -1.0 if pictures_PD is None else rule.closeness(embedding_D, pictures_PD)
        matched.append(replace(hit, match=rule.match(cosine, closeness, elsewhere)))
    return matched
