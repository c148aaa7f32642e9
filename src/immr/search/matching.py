"""Labels hits exact, similar or none by the version's rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from immr.evaluation.matches.rule import MatchRule
from immr.types import Candidate, Hit


def with_matches(
    hits: Sequence[Hit], candidates: Sequence[Candidate], elsewhere: bool, rule: MatchRule
) -> list[Hit]:
    """The hits with their matches.

    Args:
        hits: of `candidates`.
        candidates: have the cosines.
        elsewhere: whether the photo is outside the domain of the shop's photos.
        rule: of the version.
    """
    cosines = {each.item_id: each.cosine for each in candidates}
    return [replace(hit, match=rule.match(cosines[hit.item_id], elsewhere)) for hit in hits]
