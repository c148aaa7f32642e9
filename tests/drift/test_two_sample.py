"""The two-sample tests: false alarms at the nominal rate, real differences found, values checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from immr.drift.two_sample import mmd, numbers, shares
from immr.types import FloatArray


def photos(rng: np.random.Generator, rows: int, spread: float = 0.3, shift: float = 0.0) -> FloatArray:
    """(N, 16) unit rows in eight clusters; `shift` moves them all in one direction."""
    centres = np.random.default_rng(0).normal(size=(8, 16))
    found = centres[rng.integers(0, 8, rows)] + spread * rng.normal(size=(rows, 16))
    found[:, 0] += shift
    unit: FloatArray = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def by_definition(x: FloatArray, y: FloatArray) -> float:
    both = np.concatenate([x, y]).astype(np.float64)
    far = ((both[:, None] - both[None]) ** 2).sum(axis=2)
    width = np.median(far[np.triu_indices(len(both), 1)])
    kernel = np.mean([np.exp(-far / (width * share)) for share in (1, 1 / 4, 1 / 16)], axis=0)
    n = len(x)
    xx, yy, xy = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    return float(
        (xx.sum() - np.trace(xx)) / (n * (n - 1))
        + (yy.sum() - np.trace(yy)) / (len(y) * (len(y) - 1))
        - 2 * xy.mean()
    )


def test_mmd_follows_its_definition() -> None:
    rng = np.random.default_rng(1)
    x, y = photos(rng, 12), photos(rng, 9, shift=0.5)
    assert mmd(x, y, permutations=10).distance == pytest.approx(by_definition(x, y))


def test_mmd_gives_false_alarms_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(2)
    p_values = [mmd(photos(rng, 60), photos(rng, 50), permutations=99).p_value for _ in range(300)]
    assert 4 <= sum(p <= 0.05 for p in p_values) <= 27  # 15 expected, 3.2 standard deviations around


@pytest.mark.parametrize("new", [{"shift": 1.0}, {"spread": 0.6}])
def test_mmd_finds_shifted_and_wider_distributions(new: dict[str, float]) -> None:
    rng = np.random.default_rng(3)
    assert mmd(photos(rng, 200), photos(rng, 200, **new)).p_value < 0.001


def test_identical_rows_show_no_difference() -> None:
    same = np.ones((30, 4), dtype=np.float32)
    assert mmd(same, same, permutations=50).p_value == 1.0


def test_tests_of_numbers_and_shares_agree_with_scipy() -> None:
    assert numbers(np.arange(100.0), np.arange(100.0)).p_value == 1.0
    assert numbers(np.arange(100.0), np.arange(100.0) + 50).distance == 0.5
    found = shares({"milk": 60, "juice": 40}, {"milk": 30, "juice": 70})
    assert found.p_value == pytest.approx(1 / 2001)
    near = shares({"milk": 600, "juice": 400}, {"milk": 570, "juice": 430}, permutations=20_000)
    exact = chi2_contingency([[600, 400], [570, 430]]).pvalue
    assert near.p_value == pytest.approx(exact, abs=0.015)
    assert {name: (before, now) for name, before, now in found.moved} == {
        "juice": (0.4, 0.7),
        "milk": (0.6, 0.3),
    }
    before, now = np.array([40.5, 60.5]) / 101, np.array([70.5, 30.5]) / 101
    by_chance = 1 / 100 + 1 / 100
    assert found.distance == pytest.approx(
        ((now - before) * np.log(now / before)).sum() - by_chance, abs=0.002
    )


def test_rare_categories() -> None:
    before = {"milk": 500} | {f"rare-{number}": 1 for number in range(40)}
    now = {"milk": 500} | {f"new-{number}": 1 for number in range(40)}
    assert shares(before, now).p_value > 0.9  # one user each tells nothing
    assert shares({"milk": 10}, {"milk": 20}).p_value == 1.0
    others = shares({f"c{n}": 4 for n in range(80)}, {f"d{n}": 4 for n in range(80)})
    assert others.p_value < 0.001 and others.distance > 1


def test_rare_categories_give_false_alarms_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 401)
    found = []
    for _ in range(100):
        sides = rng.multinomial(300, popularity / popularity.sum(), size=2)
        samples = ({str(at): int(count) for at, count in enumerate(side)} for side in sides)
        found.append(shares(*samples, permutations=200))
    assert sum(each.p_value <= 0.05 for each in found) <= 12  # 5 expected; more than 12 in 0.1 % of such runs
    assert np.mean([each.distance for each in found]) < 0.1  # 0.65 without the correction
