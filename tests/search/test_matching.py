from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from immr.evaluation.matches.rule import MatchRule, PhotoDomain
from immr.search.matching import with_matches
from immr.types import Candidate, Hit

CANDIDATES = [Candidate(name, cosine, name, "", "") for name, cosine in (("a", 0.9), ("b", 0.5), ("c", 0.1))]
HITS = [Hit(name, 1.0, name, "", "") for name in ("b", "a", "c")]  # ranked by more than the cosine
RULE = MatchRule(0.8, 0.3, PhotoDomain(0, np.zeros(2, np.float32), np.eye(2, dtype=np.float32), math.inf))


def test_each_hit_is_called_by_its_own_cosine() -> None:
    matched = with_matches(HITS, CANDIDATES, False, RULE)
    assert [(hit.item_id, hit.match) for hit in matched] == [("b", "similar"), ("a", "exact"), ("c", "none")]


def test_nothing_fits_a_photo_from_another_domain() -> None:
    assert {hit.match for hit in with_matches(HITS, CANDIDATES, True, RULE)} == {"none"}


def test_so_close_to_an_item_even_a_photo_from_another_domain_shows_it() -> None:
    certain = replace(RULE, certain_from=0.85)
    matched = with_matches(HITS, CANDIDATES, True, certain)
    assert [(hit.item_id, hit.match) for hit in matched] == [("b", "none"), ("a", "exact"), ("c", "none")]
