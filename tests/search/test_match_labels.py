from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from immr.evaluation.matches.rule import MatchRule, PhotoDomain
from immr.index.vector_index import Collection
from immr.search.match_labels import with_matches
from immr.types import Candidate, FloatArray, Hit

CANDIDATES = [Candidate(name, cosine, name, "", "") for name, cosine in (("b", 0.5), ("a", 0.9), ("c", 0.1))]
HITS = [Hit(name, 1.0, name, "", "") for name in ("b", "a", "c")]  # ranked by more than the cosine
RULE = MatchRule(0.8, 0.3, PhotoDomain(0, np.zeros(2, np.float32), np.eye(2, dtype=np.float32), math.inf))
PHOTO_D = np.array([0.8, 0.0, 0.6], dtype=np.float32)


class Embeddings:
    """A collection of some items, which counts how often it was read."""

    def __init__(self, rows: dict[str, list[list[float]]]) -> None:
        self._rows = {item_id: np.array(each, dtype=np.float32) for item_id, each in rows.items()}
        self.read = 0

    def embeddings(self, item_ids: Sequence[str]) -> dict[str, FloatArray]:
        self.read += 1
        return {item_id: self._rows[item_id] for item_id in item_ids if item_id in self._rows}


def matches(rule: MatchRule, collection: Any, elsewhere: bool = False) -> list[tuple[str, str | None]]:
    matched = with_matches(HITS, CANDIDATES, PHOTO_D, elsewhere, rule, cast("Collection", collection))
    return [(hit.item_id, hit.match) for hit in matched]


def test_each_hit_is_called_by_its_own_cosine() -> None:
    collection = Embeddings({})
    assert matches(RULE, collection) == [("b", "similar"), ("a", "exact"), ("c", "none")]
    assert collection.read == 0, "the cosine is known"


def test_exact_hits_are_told_by_the_learned_part() -> None:
    collection = Embeddings({"a": [[0.0, 0.8, 0.6]], "b": [[0.6, 0.0, 0.8]]})
    learned = replace(RULE, learned_dim=2)
    assert matches(learned, collection) == [("b", "exact"), ("a", "similar"), ("c", "none")]
    assert collection.read == 1


def test_nothing_fits_a_photo_from_another_domain() -> None:
    assert {match for _, match in matches(RULE, Embeddings({}), elsewhere=True)} == {"none"}


def test_so_close_to_an_item_even_a_photo_from_another_domain_shows_it() -> None:
    certain = replace(RULE, certain_from=0.85)
    found = matches(certain, Embeddings({}), elsewhere=True)
    assert found == [("b", "none"), ("a", "exact"), ("c", "none")]
