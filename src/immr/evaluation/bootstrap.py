"""Bootstrap intervals of a mean and of a paired difference. Pure, seeded, vectorised.

Shapes: Q queries (or other units), M metrics, R bootstrap rounds.
The percentile bootstrap of Efron (1979); the unit that is drawn again is the query, because one query's
answers are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_CELLS_AT_ONCE = 4_000_000  # rounds × queries held in memory at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds of its interval."""

    mean: float
    low: float
    high: float


def mean_intervals(values_QM: Values, rounds: int, confidence: float, seed: int) -> list[Interval]:
    """The interval of each column's mean; all columns see the same draws.

    Args:
        values_QM: (Q, M), one row per query; Q ≥ 1.
        rounds: bootstrap rounds, R.
        confidence: the share of draws inside the interval, between 0 and 1.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: no query, or `rounds`/`confidence` out of range.
    """
    if values_QM.ndim != 2 or not len(values_QM):
        raise ValueError(f"bootstrap needs a (Q, M) array with Q ≥ 1, not {values_QM.shape}")
    if rounds < 1 or not 0 < confidence < 1:
        raise ValueError(f"bootstrap needs rounds ≥ 1 and 0 < confidence < 1, not {rounds} and {confidence}")
    count = len(values_QM)
    means_RM = np.concatenate([draws @ values_QM for draws in _draw_counts(count, rounds, seed)]) / count
    tail = (1 - confidence) / 2
    low_M, high_M = np.quantile(means_RM, [tail, 1 - tail], axis=0)
    return [
        Interval(float(mean), float(low), float(high))
        for mean, low, high in zip(values_QM.mean(axis=0), low_M, high_M, strict=True)
    ]


def mean_interval(values_Q: Values, rounds: int, confidence: float, seed: int) -> Interval:
    """The interval of the mean of (Q,) values; see `mean_intervals`."""
    return mean_intervals(values_Q[:, None], rounds, confidence, seed)[0]


def difference_interval(
    candidate_Q: Values, champion_Q: Values, rounds: int, confidence: float, seed: int
) -> Interval:
    """The interval of mean(candidate − champion), both (Q,) over the same queries in the same order.

    Pairing takes out how hard each query is, so a difference shows with far fewer queries than two separate
    intervals would need.

    Raises:
        ValueError: shapes differ.
    """
    if candidate_Q.shape != champion_Q.shape:
        raise ValueError(
            f"a paired difference needs equal shapes, not {candidate_Q.shape}, {champion_Q.shape}"
        )
    return mean_interval(candidate_Q - champion_Q, rounds, confidence, seed)


def _draw_counts(count: int, rounds: int, seed: int) -> Iterator[Values]:
    """(r, Q) arrays, together R rows: how often each query is drawn in each round."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // count)
    for start in range(0, rounds, at_once):
        size = min(at_once, rounds - start)
        drawn = generator.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
