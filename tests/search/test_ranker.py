from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.errors import RankingError
from immr.search.personal_signals import Personal, personal_names
from immr.search.ranker import RANKER, Ranker
from immr.search.ranking import RankingRecipe, rank
from immr.search.signals import names
from immr.search.trees import Tree, Trees
from immr.types import Candidate, Hit, UserFeatures

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CANDIDATES = [
    Candidate(item_id, cosine, "", "", "") for item_id, cosine in (("a", 0.9), ("b", 0.8), ("c", 0.7))
]
# lifts what is less than 0.75 similar by 2 units
LIFT = Tree([names({}).index("cosine")], [0.75], [False], [1], [2.0, 0.0])


def ranker(*trees: Tree) -> Ranker:
    return Ranker({}, RankingRecipe(), 0.2, Trees(trees))


def hits_of(by: Ranker) -> list[Hit]:
    learned = by.added(CANDIDATES, range(1, 1 + len(CANDIDATES)), CANDIDATES, {}, NOW)
    return rank(CANDIDATES, {}, by.ranking, 3, NOW, learned=learned)


def order(by: Ranker) -> list[str]:
    return [hit.item_id for hit in hits_of(by)]


def test_trees_add_to_the_hand_weights() -> None:
    reordered = hits_of(ranker(LIFT))
    assert [hit.item_id for hit in reordered] == ["c", "a", "b"]
    assert reordered[0].score == pytest.approx(0.7 + 2 * 0.2)
    for hit in reordered:
        assert hit.score == pytest.approx(sum(hit.score_parts.values()))
    assert reordered[0].score_parts["learned"] == pytest.approx(0.4)


def test_without_trees_it_ranks_as_the_hand_weights_do() -> None:
    assert order(ranker()) == ["a", "b", "c"]


def test_it_survives_its_file(tmp_path: Path) -> None:
    made = Ranker({"size": "number"}, RankingRecipe(ctr_weight=0.3), 0.2, Trees([LIFT]))
    made.write(tmp_path)
    read = Ranker.read(tmp_path)
    assert read == made
    assert read is not None
    assert order(read) == ["c", "a", "b"]


STEADY = UserFeatures(("b",), ("",), (1.0,), ({},))
# lifts what the user has clicked by 3 units
AGAIN = Tree([personal_names({}).index("clicked_before")], [0.5], [True], [1], [0.0, 3.0])


def personal() -> Ranker:
    return Ranker({}, RankingRecipe(), 0.2, Trees([LIFT]), Personal(0.1, Trees([AGAIN])))


def test_a_personal_ranker_adds_for_a_user_with_clicks_alone() -> None:
    def added(by: Ranker, user: UserFeatures | None) -> dict[str, float]:
        return by.added(CANDIDATES, range(1, 1 + len(CANDIDATES)), CANDIDATES, {}, NOW, user)

    base = added(ranker(LIFT), None)
    assert added(ranker(LIFT), STEADY) == base  # off
    for stranger in (None, UserFeatures((), (), (), ())):
        assert added(personal(), stranger) == base
    assert added(personal(), STEADY) == {**base, "b": pytest.approx(base["b"] + 0.3)}


def test_without_trees_it_applies_to_users_with_clicks_alone() -> None:
    only_personal = Ranker({}, RankingRecipe(), 0.2, Trees([]), Personal(0.1, Trees([AGAIN])))
    strangers = (None, UserFeatures((), (), (), ()))
    assert [only_personal.applies_to(user) for user in (STEADY, *strangers)] == [True, False, False]
    assert [personal().applies_to(user) for user in (STEADY, *strangers)] == [True] * 3
    assert not ranker().applies_to(STEADY)


def test_a_personal_ranker_survives_its_file_and_changes_no_other_file(tmp_path: Path) -> None:
    personal().write(tmp_path)
    assert Ranker.read(tmp_path) == personal()
    ranker(LIFT).write(tmp_path)
    assert "personal" not in (tmp_path / RANKER).read_text()


def test_a_version_without_the_file_has_no_ranker(tmp_path: Path) -> None:
    assert Ranker.read(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}', '{"format": 1, "unit": 1}'])
def test_a_broken_file_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / RANKER).write_text(content)
    with pytest.raises(RankingError, match="immr rank"):
        Ranker.read(tmp_path)
