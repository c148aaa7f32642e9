"""Assignment: uniform, sticky, independent between salts, and steady while the challenger is ramped up."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from immr.experiment.assignment import BUCKETS, assign, bucket
from immr.experiment.definition import Experiment, Variant

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


def test_salt_and_user_are_hashed_separately() -> None:
    assert bucket("a", "bc") != bucket("ab", "c")


@settings(deadline=None)
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
