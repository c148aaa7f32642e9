"""Reciprocal rank fusion."""

import pytest

from immr.search.rank_fusion import fuse


def test_the_first_of_every_ranking_has_relevance_1():
    fused = fuse({"photo": [1, 2], "words": [1, 3]}, {"photo": 1.0, "words": 3.0})
    assert fused[0].id == 1
    assert fused[0].relevance == pytest.approx(1.0)
    assert fused[0].shares == {"photo": 0.25, "words": 0.75}


def test_an_item_in_both_rankings_beats_the_second_of_either():
    fused = fuse({"photo": [1, 2, 3], "words": [4, 3]}, {"photo": 1.0, "words": 1.0})
    assert [each.id for each in fused] == [3, 1, 4, 2]
    assert fused[0].shares == {"photo": pytest.approx(0.5 * 61 / 63), "words": pytest.approx(0.5 * 61 / 62)}
    assert fused[1].shares == {"photo": 0.5, "words": 0.0}


def test_weights_decide_between_rankings():
    rankings = {"photo": [1, 2], "words": [2, 1]}
    for weight, first in ((0.5, 1), (2.0, 2)):
        assert fuse(rankings, {"photo": 1.0, "words": weight})[0].id == first
    assert fuse({"photo": [], "words": []}, {"photo": 1.0, "words": 1.0}) == []


def test_a_part_of_the_fusion_is_a_cut_of_the_whole():
    rankings = {"photo": [1, 2, 3], "words": [4, 3]}
    weights = {"photo": 1.0, "words": 1.0}
    assert fuse(rankings, weights, 1, 3) == fuse(rankings, weights)[1:3]
