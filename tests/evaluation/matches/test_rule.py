from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from immr.evaluation.matches.rule import MATCH_RULE, MatchRule, PhotoDomain, strongest
from immr.types import Match

MEAN_P = np.array([1.0, 0.0], dtype=np.float32)
DOMAIN = PhotoDomain(1, MEAN_P, np.diag([2.0, 1.0]).astype(np.float32), farthest=1.1)
RULE = MatchRule(exact_from=0.7, similar_from=0.3, domain=DOMAIN)


@pytest.mark.parametrize(
    ("cosine", "match"), [(1.0, "exact"), (0.7, "exact"), (0.69, "similar"), (0.3, "similar"), (0.29, "none")]
)
def test_a_hit_is_called_by_its_cosine(cosine: float, match: Match) -> None:
    assert RULE.match(cosine, cosine) == match


def test_a_close_hit_is_exact_and_a_similar_one_is_not() -> None:
    assert (RULE.match(0.5, 0.9), RULE.match(0.9, 0.5)) == ("exact", "similar")


@pytest.mark.parametrize(("learned_dim", "closeness"), [(0, 0.8), (2, 0.0)])
def test_closeness_is_of_a_part_and_of_the_most_similar_picture(learned_dim: int, closeness: float) -> None:
    rule = replace(RULE, learned_dim=learned_dim)
    photo_D = np.array([0.6, 0.0, 0.8], dtype=np.float32)
    pictures_PD = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.1, 1.0]], dtype=np.float32)
    assert rule.closeness(photo_D, pictures_PD) == pytest.approx(closeness)


def test_the_domain_measures_its_part_of_an_embedding() -> None:
    near_D, far_D = (np.array([9.0, *part], dtype=np.float32) for part in ((5.0, 0.0), (0.0, 3.0)))
    assert DOMAIN.distance(near_D) == 0.0  # its part has the direction of the mean
    assert DOMAIN.distance(far_D) == pytest.approx(5**0.5)  # (0, 1) − (1, 0), whitened to (−2, 1)
    assert DOMAIN.contains(near_D, None) and not DOMAIN.contains(far_D, None)


def test_a_domain_of_textures_ignores_the_embedding() -> None:
    domain = PhotoDomain(None, MEAN_P, np.eye(2, dtype=np.float32), farthest=1.0)
    embedding_D = np.ones(3, dtype=np.float32)
    assert domain.contains(embedding_D, np.array([2.0, 0.0], dtype=np.float32))
    assert not domain.contains(embedding_D, np.array([2.1, 0.0], dtype=np.float32))
    assert domain.contains(embedding_D, None), "a version of an earlier release computes no textures"


def test_a_photo_whose_part_is_zero_has_a_distance() -> None:
    assert DOMAIN.distance(np.array([1.0, 0.0, 0.0], dtype=np.float32)) == pytest.approx(2.0)


@pytest.mark.parametrize("begin", [1, None])
def test_a_rule_is_read_as_it_was_written(begin: int | None, tmp_path: Path) -> None:
    written = replace(RULE, domain=replace(DOMAIN, begin=begin), certain_from=0.9, learned_dim=128)
    written.write(tmp_path / MATCH_RULE)
    read = MatchRule.read(tmp_path / MATCH_RULE)
    assert read is not None
    assert (read.exact_from, read.similar_from, read.certain_from, read.learned_dim) == (0.7, 0.3, 0.9, 128)
    assert (read.domain.begin, read.domain.farthest) == (begin, 1.1)
    assert np.array_equal(read.domain.mean_P, DOMAIN.mean_P)
    assert np.array_equal(read.domain.whitener_PP, DOMAIN.whitener_PP)


def test_in_a_rule_of_an_earlier_release_no_hit_of_a_photo_from_elsewhere_is_exact(tmp_path: Path) -> None:
    RULE.write(tmp_path / MATCH_RULE)
    with np.load(tmp_path / MATCH_RULE) as fields:
        older = {name: fields[name] for name in ("begin", "mean", "whitener")}
        older["thresholds"] = fields["thresholds"][:3]
    np.savez(tmp_path / MATCH_RULE, **older)
    read = MatchRule.read(tmp_path / MATCH_RULE)
    assert read is not None
    assert (read.match(1.0, 1.0), read.match(1.0, 1.0, elsewhere=True)) == ("exact", "none")
    assert read.learned_dim == 0


def test_a_version_without_a_file_has_no_rule(tmp_path: Path) -> None:
    assert MatchRule.read(tmp_path / MATCH_RULE) is None


def test_the_strongest_match_of_several() -> None:
    assert strongest(["none", "similar", "exact", None]) == "exact"
    assert strongest(["none", "similar"]) == "similar"
    assert strongest(["none"]) == "none"
    assert strongest([None]) is None
