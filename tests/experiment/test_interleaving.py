"""Team draft: its fairness by counting, its test by hand and over simulated users."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immr.experiment.interleaving import Drafted, credit, draft, preference

rankings = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)


@given(rankings, rankings, st.integers(0, 12), st.text(max_size=5))
def test_each_item_is_there_once_and_teams_differ_by_one_at_most(
    champion: list[str], challenger: list[str], length: int, seed: str
) -> None:
    found = draft(champion, challenger, length, seed)
    items = [one.item_id for one in found]
    assert len(items) == len(set(items)) == min(length, len({*champion, *challenger}))
    assert found == draft(champion, challenger, length, seed)
    for one in found:
        assert one.item_id in (champion if one.team == "champion" else challenger)
    teams = Counter(one.team for one in found)
    if len(champion) == len(challenger) == len({*champion, *challenger}):  # the same items on both sides
        assert abs(teams["champion"] - teams["challenger"]) <= 1


@given(rankings, st.text(max_size=5))
def test_equal_rankings_stay_as_they_are(ranking: list[str], seed: str) -> None:
    assert [one.item_id for one in draft(ranking, ranking, 10, seed)] == ranking


def test_a_team_picks_the_best_that_is_left() -> None:
    starts = Counter(draft("abc", "bda", 4, str(seed)) for seed in range(2000))
    orders = {"".join(one.item_id for one in found) for found in starts}
    assert orders == {"abcd", "abdc", "badc", "bacd"} & orders
    first = Counter(found[0].team for found in starts.elements())
    assert abs(first["champion"] - 1000) < 150  # a fair coin: 6.7 standard deviations
    assert all(found[0].item_id == ("a" if found[0].team == "champion" else "b") for found in starts)


def test_who_has_more_clicks_wins_the_query() -> None:
    drafted = (Drafted("a", "champion"), Drafted("b", "challenger"), Drafted("c", "challenger"))
    assert credit(drafted, {"a"}) == -1
    assert credit(drafted, {"b", "c", "z"}) == 1
    assert credit(drafted, {"a", "b"}) == 0
    assert credit(drafted, set()) == 0


def test_preference_is_the_delta_method_by_hand() -> None:
    won, decided = np.array([1, -1, 2, 3, 0]), np.array([1, 1, 2, 3, 0])
    ratio = 5 / 7
    linearized = (won[:4] - ratio * decided[:4]) / (7 / 4)
    error = float(np.sqrt(linearized.var(ddof=1) / 4))
    found = preference(won, decided)
    assert found is not None
    assert (found.users, found.decided, found.value) == (4, 7, pytest.approx(ratio))
    assert found.interval.low == pytest.approx(max(ratio - 1.959964 * error, -1))
    assert found.always_valid.low <= found.interval.low


def test_nothing_to_say() -> None:
    assert preference(np.array([0, 0]), np.array([0, 0])) is None
    assert preference(np.array([1]), np.array([1])) is None
    assert preference(np.array([1, 1]), np.array([1, 1])) is None


def test_equal_versions_are_preferred_at_the_nominal_rate() -> None:
    """400 tests of users whose queries are decided by a coin: clumps of queries do no harm."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        decided = rng.geometric(0.3, 200)
        won = 2 * rng.binomial(decided, 0.5) - decided
        found = preference(won, decided)
        assert found is not None
        wrong += found.p_value < 0.05
    assert 8 <= wrong <= 34  # 20 expected, 3.2 standard deviations around
