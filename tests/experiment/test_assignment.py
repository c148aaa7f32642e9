"""Assignment: uniform, sticky, independent between salts, and steady while the challenger is ramped up."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from immr.experiment import assignment
from immr.experiment.assignment import BUCKETS, assign, bucket, exact_shares, group
from immr.experiment.definition import ENDED, HOLDOUT, Experiment, Holdout, Variant

USERS = [f"user-{number}" for number in range(5_000)]


def experiment(challenger_weight: float, **more) -> Experiment:
    return Experiment(
        name="test",
        variants=(
            Variant("champion", "http://a:1", "immr-1", 1 - challenger_weight),
            Variant("challenger", "http://b:1", "immr-2", challenger_weight),
        ),
        **({"salt": "salt"} | more),
    )


def challenged(weight: float) -> set[str]:
    return {user for user in USERS if assign(experiment(weight), user).name == "challenger"}


@pytest.mark.parametrize("salt", ["", "salt", "2024-05 concept against image"])
def test_buckets_are_uniform(salt: str) -> None:
    counts = np.bincount([bucket(salt, user) // 100 for user in USERS], minlength=BUCKETS // 100)
    assert len(counts) == 100
    assert chisquare(counts).pvalue > 0.001


def test_buckets_under_two_salts_are_independent() -> None:
    table = np.zeros((10, 10))
    for user in USERS:
        table[bucket("one", user) // 1000, bucket("two", user) // 1000] += 1
    assert chi2_contingency(table).pvalue > 0.001


@pytest.mark.parametrize("weights", [(0.00125,), (0.5,), (1 / 3, 1 / 3), (0.00035, 0.00085, 0.1), (0.0,)])
def test_exact_shares_are_those_of_the_buckets(
    weights: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight of 0.125 % is 12 of 10,000 buckets: with a million users, the sample ratio seemed wrong."""
    names = ("challenger", "challenger-2", "challenger-3")[: len(weights)]
    sides = [
        Variant(name, "http://b:1", "immr-2", weight) for name, weight in zip(names, weights, strict=True)
    ]
    champion = Variant("champion", "http://a:1", "immr-1", 1 - sum(weights))
    test = Experiment("test", "salt", (champion, *sides))
    monkeypatch.setattr(assignment, "bucket", lambda salt, user: int(user.split()["/" in salt]))
    firsts, seconds = range(BUCKETS), range(0, BUCKETS, 1 if len(weights) > 1 else BUCKETS)
    tested = [first for first in firsts if assign(test, f"{first} 0").name != "champion"]
    counts = Counter(assign(test, f"0 {second}").name for second in seconds) if tested else Counter()
    found = exact_shares(test)
    assert sum(found.values()) == pytest.approx(1)
    assert found["champion"] == pytest.approx(1 - len(tested) / BUCKETS)
    for name in names:
        assert found[name] == pytest.approx(len(tested) / BUCKETS * counts[name] / len(seconds))


def test_salt_and_user_are_hashed_separately() -> None:
    assert bucket("a", "bc") != bucket("ab", "c")


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_user_has_a_bucket(salt: str, user: str) -> None:
    assert 0 <= bucket(salt, user) < BUCKETS


def test_assignment_is_the_same_in_another_process() -> None:
    code = "from immr.experiment.assignment import bucket; print([bucket('s', str(i)) for i in range(50)])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str([bucket("s", str(number)) for number in range(50)])


def test_shares_follow_the_weights() -> None:
    assert len(challenged(0.5)) == pytest.approx(2_500, abs=150)
    assert len(challenged(0.01)) == pytest.approx(50, abs=30)
    assert (len(challenged(0)), len(challenged(1))) == (0, len(USERS))


def test_ramping_up_keeps_the_challengers_users() -> None:
    ramp = [challenged(weight) for weight in (0.01, 0.05, 0.2, 0.5, 0.9, 1)]
    assert all(before < after for before, after in pairwise(ramp))


def test_the_champion_serves_all_if_stopped_or_alone() -> None:
    stopped = experiment(1.0, state="stopped")
    alone = Experiment("test", "salt", (Variant("champion", "http://a:1", "immr-1", 1.0),))
    assert {assign(stopped, user).name for user in USERS[:100]} == {"champion"}
    assert {assign(alone, user).name for user in USERS[:100]} == {"champion"}


def several(weight: float, *ended: str, **more: Any) -> Experiment:
    """Three challengers with this weight each."""
    names = ("challenger", "challenger-2", "challenger-3")
    challengers = [
        Variant(name, "http://b:1", f"immr-{number}", weight, name in ended)
        for number, name in enumerate(names, start=2)
    ]
    champion = Variant("champion", "http://a:1", "immr-1", 1 - 3 * weight)
    return Experiment(name="test", variants=(champion, *challengers), **({"salt": "salt"} | more))


def groups(experiment: Experiment) -> dict[str, str]:
    return {user: group(experiment, user) for user in USERS}


def test_users_are_shared_by_the_weights_of_several_challengers() -> None:
    counts = Counter(groups(several(0.2)).values())
    names = ("champion", "challenger", "challenger-2", "challenger-3")
    assert chisquare([counts[name] for name in names], [2000, 1000, 1000, 1000]).pvalue > 0.001
    unequal = replace(
        several(0.2),
        variants=tuple(
            replace(each, weight=share)
            for each, share in zip(several(0.2).variants, (0.5, 0.05, 0.15, 0.3), strict=True)
        ),
    )
    counts = Counter(groups(unequal).values())
    assert chisquare([counts[name] for name in names], [2500, 250, 750, 1500]).pvalue > 0.001


def test_ramping_several_challengers_moves_nobody_between_them() -> None:
    for less, more in pairwise((0.01, 0.05, 0.1, 0.2, 0.25, 0.33)):
        before, after = groups(several(less)), groups(several(more))
        assert all(after[user] == name for user, name in before.items() if name != "champion")


def test_users_of_a_challenger_that_left_get_the_champion_and_all_others_keep_theirs() -> None:
    before, ended = groups(several(0.2)), several(0.2, "challenger-2")
    for user, name in before.items():
        if name == "challenger-2":
            assert (group(ended, user), assign(ended, user).name) == (ENDED, "champion")
        else:
            assert group(ended, user) == assign(ended, user).name == name


def test_the_holdout_gets_the_champion_in_every_test() -> None:
    held = Holdout(0.05, "years", datetime(2026, 5, 1, tzinfo=UTC))
    first, second = several(0.2, salt="one", holdout=held), several(0.3, salt="two", holdout=held)
    out = {user for user, name in groups(first).items() if name == HOLDOUT}
    assert len(out) == pytest.approx(250, abs=60)
    assert {user for user, name in groups(second).items() if name == HOLDOUT} == out
    assert {assign(second, user).name for user in out} == {"champion"}
    stopped = replace(second, state="stopped")
    assert {user for user, name in groups(stopped).items() if name == HOLDOUT} == out
    larger = several(0.2, salt="one", holdout=replace(held, share=0.1))
    assert out < {user for user, name in groups(larger).items() if name == HOLDOUT}
    without = groups(several(0.2, salt="one"))
    assert all(name in (HOLDOUT, without[user]) for user, name in groups(first).items())
