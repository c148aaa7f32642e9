"""Two-sample tests: MMD for embeddings, Kolmogorov-Smirnov for numbers, chi-square for shares.

Pure functions. Rows have to be independent: one photo or click per user (see `immr.drift.thinning`).
Shapes: N reference rows, M new rows, T = N + M, P permutations, C categories, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.types import FloatArray

_WIDTHS = (1.0, 0.25, 0.0625)  # of the median squared distance
_CELLS_AT_ONCE = 1_000_000  # permutations × categories


@dataclass(frozen=True, slots=True)
class Difference:
    """Distance of two samples, and the probability of one as large by chance."""

    distance: float
    p_value: float


@dataclass(frozen=True, slots=True)
class ShareDifference:
    """The same for shares of categories, with the categories that moved most as (name, before, now)."""

    distance: float  # population stability index beyond chance: below 0.1 is small, above 0.25 is large
    p_value: float
    moved: tuple[tuple[str, float, float], ...]


def mmd(reference_ND: FloatArray, new_MD: FloatArray, permutations: int = 2000, seed: int = 0) -> Difference:
    """Squared maximum mean discrepancy under Gaussian kernels, with a permutation test.

    A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola, *A Kernel Two-Sample Test*, JMLR 13 (2012);
    the unbiased estimate. The kernel is the mean of one as wide as the median distance and of narrower ones,
    because photos form clusters and a wide kernel cannot see inside them (ours). Memory grows with T².

    Args:
        reference_ND: Reference embeddings.
        new_MD: New embeddings.
        permutations: Number of permutations P; the smallest p-value is 1 / (P + 1).
        seed: Seed of the permutations.
    """
    rows_TD = np.concatenate([reference_ND, new_MD]).astype(np.float64)
    n, m = len(reference_ND), len(new_MD)
    kernel_TT = _gaussian(rows_TD)
    rng = np.random.default_rng(seed)
    in_new_PT = np.zeros((permutations + 1, n + m))
    in_new_PT[0, n:] = 1
    for row in in_new_PT[1:]:
        row[rng.permutation(n + m)[:m]] = 1
    # Sums of the kernel within and between the samples, for all permutations at once.
    by_new_PT = in_new_PT @ kernel_TT
    within_new_P = (by_new_PT * in_new_PT).sum(axis=1)
    across_P = (by_new_PT * (1 - in_new_PT)).sum(axis=1)
    within_old_P = kernel_TT.sum() - within_new_P - 2 * across_P
    found_P = within_old_P / (n * (n - 1)) + within_new_P / (m * (m - 1)) - 2 * across_P / (n * m)
    as_far = int((found_P[1:] >= found_P[0] - 1e-12).sum())
    return Difference(float(found_P[0]), (as_far + 1) / (permutations + 1))


def _gaussian(rows_TD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Kernel matrix with a zero diagonal, which the unbiased estimate leaves out."""
    squares_T = (rows_TD**2).sum(axis=1)
    far_TT = np.maximum(squares_T[:, None] + squares_T[None, :] - 2 * rows_TD @ rows_TD.T, 0)
    off = far_TT[np.triu_indices(len(rows_TD), 1)]
    width = float(np.median(off)) or 1.0
    kernel_TT = np.mean([np.exp(-far_TT / (width * share)) for share in _WIDTHS], axis=0)
    np.fill_diagonal(kernel_TT, 0)
    return np.asarray(kernel_TT)


def numbers(reference_N: npt.NDArray[Any], new_M: npt.NDArray[Any]) -> Difference:
    """Two-sample Kolmogorov-Smirnov: the largest distance between both distribution functions."""
    from scipy.stats import ks_2samp

    found = ks_2samp(reference_N, new_M)
    return Difference(float(found.statistic), float(found.pvalue))


def shares(
    reference: Mapping[str, int], new: Mapping[str, int], permutations: int = 2000, seed: int = 0
) -> ShareDifference:
    """Chi-square of categories with a permutation test, which also holds if all categories are rare.

    The stability index is what exceeds its mean over the permutations: with many rare categories, even equal
    samples have a large one.

    Args:
        reference: Reference rows of each category.
        new: New rows of each category.
        permutations: Number of permutations P; the smallest p-value is 1 / (P + 1).
        seed: Seed of the permutations.
    """
    names = sorted(name for name in {*reference, *new} if reference.get(name, 0) + new.get(name, 0))
    counts_2C = np.array([[side.get(name, 0) for name in names] for side in (reference, new)])
    totals_C, sums_2 = counts_2C.sum(axis=0), counts_2C.sum(axis=1)
    found, index = (float(each[0]) for each in _share_distances(counts_2C[1:], totals_C, sums_2))
    rng = np.random.default_rng(seed)
    as_far, by_chance = 0, 0.0
    for drawn in _chunks(permutations, _CELLS_AT_ONCE // len(names)):
        new_PC = rng.multivariate_hypergeometric(totals_C, sums_2[1], size=drawn, method="marginals")
        found_P, index_P = _share_distances(new_PC, totals_C, sums_2)
        as_far += int((found_P >= found * (1 - 1e-9)).sum())
        by_chance += float(index_P.sum())
    share_2C = counts_2C / sums_2[:, None]
    order = np.argsort(-np.abs(share_2C[1] - share_2C[0]), kind="stable")[:3]
    return ShareDifference(
        distance=max(0.0, index - by_chance / permutations),
        p_value=(as_far + 1) / (permutations + 1),
        moved=tuple((names[at], float(share_2C[0, at]), float(share_2C[1, at])) for at in order),
    )


def _share_distances(
    new_PC: npt.NDArray[np.int64], totals_C: npt.NDArray[np.int64], sums_2: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Chi-square statistic (P,) and population stability index (P,) for new rows of each category."""
    expected_C = totals_C * (sums_2[1] / sums_2.sum())
    # both rows differ from what is expected by the same, so one squared difference serves for both
    weights_C = 1 / expected_C + 1 / (totals_C - expected_C)
    chi_square_P = (new_PC - expected_C) ** 2 @ weights_C
    # Add half a count, so that a category missing from one sample does not make the index infinite.
    halves = len(totals_C) / 2
    now_PC = (new_PC + 0.5) / (sums_2[1] + halves)
    before_PC = (totals_C - new_PC + 0.5) / (sums_2[0] + halves)
    index_P = ((now_PC - before_PC) * np.log(now_PC / before_PC)).sum(axis=1)
    return chi_square_P, index_P


def _chunks(total: int, most: int) -> Iterator[int]:
    """Sizes of at most `most`, at least 1, that add up to the total."""
    most = max(1, most)
    for start in range(0, total, most):
        yield min(most, total - start)
