"""Are two samples from one distribution? Embeddings by MMD, numbers by Kolmogorov-Smirnov, shares by χ².

Pure functions. Rows have to be independent of each other: one photo, one click per user.
Shapes: N rows of the reference, M of what came in, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.types import FloatArray

_WIDTHS = (1.0, 0.25, 0.0625)  # of the median squared distance
_LEAST_EXPECTED = 5.0  # of a category, for chi-square to hold


@dataclass(frozen=True, slots=True)
class Difference:
    """How far apart two samples are, and how often chance alone puts them as far."""

    distance: float
    p_value: float


@dataclass(frozen=True, slots=True)
class ShareDifference:
    """The same for shares of categories, and which of them moved most: category, share before, share now."""

    distance: float  # population stability index: below 0.1 little, above 0.25 much
    p_value: float
    moved: tuple[tuple[str, float, float], ...]


def mmd(reference_ND: FloatArray, new_MD: FloatArray, permutations: int = 2000, seed: int = 0) -> Difference:
    """Squared maximum mean discrepancy under Gaussian kernels, with a permutation test.

    A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola, *A Kernel Two-Sample Test*, JMLR 13 (2012);
    the unbiased estimate. The mean of a kernel as wide as the median distance and of narrower ones, because
    photos come in clumps and the wide one does not see inside (ours). O((N+M)²) memory: some hundred rows.

    Args:
        reference_ND: Embeddings to compare with.
        new_MD: Embeddings that came in.
        permutations: Shuffles of who is in which sample; the least p is 1 / (permutations + 1).
        seed: Of the shuffles.
    """
    rows_TD = np.concatenate([reference_ND, new_MD]).astype(np.float64)
    n, m = len(reference_ND), len(new_MD)
    kernel_TT = _gaussian(rows_TD)
    rng = np.random.default_rng(seed)
    in_new_PT = np.zeros((permutations + 1, n + m))
    in_new_PT[0, n:] = 1
    for row in in_new_PT[1:]:
        row[rng.permutation(n + m)[:m]] = 1
    # Sums of the kernel within and between the samples, for all shuffles in two products.
    by_new_PT = in_new_PT @ kernel_TT
    within_new_P = (by_new_PT * in_new_PT).sum(axis=1)
    across_P = (by_new_PT * (1 - in_new_PT)).sum(axis=1)
    within_old_P = kernel_TT.sum() - within_new_P - 2 * across_P
    found_P = within_old_P / (n * (n - 1)) + within_new_P / (m * (m - 1)) - 2 * across_P / (n * m)
    as_far = int((found_P[1:] >= found_P[0] - 1e-12).sum())
    return Difference(float(found_P[0]), (as_far + 1) / (permutations + 1))


def _gaussian(rows_TD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Kernel values without the diagonal, which the unbiased estimate leaves out."""
    squares_T = (rows_TD**2).sum(axis=1)
    far_TT = np.maximum(squares_T[:, None] + squares_T[None, :] - 2 * rows_TD @ rows_TD.T, 0)
    off = far_TT[np.triu_indices(len(rows_TD), 1)]
    width = float(np.median(off)) or 1.0
    kernel_TT = np.mean([np.exp(-far_TT / (width * share)) for share in _WIDTHS], axis=0)
    np.fill_diagonal(kernel_TT, 0)
    return np.asarray(kernel_TT)


def numbers(reference_N: npt.NDArray[Any], new_M: npt.NDArray[Any]) -> Difference:
    """The largest distance between both distribution functions (two-sample Kolmogorov-Smirnov)."""
    from scipy.stats import ks_2samp

    found = ks_2samp(reference_N, new_M)
    return Difference(float(found.statistic), float(found.pvalue))


def shares(reference: Mapping[str, int], new: Mapping[str, int]) -> ShareDifference:
    """Chi-square of both samples' categories, the rare ones as one, and the population stability index."""
    from scipy.stats import chi2_contingency

    names = sorted({*reference, *new})
    counts_2C = np.array(
        [[side.get(name, 0) for name in names] for side in (reference, new)], dtype=np.float64
    )
    sums_2, total = counts_2C.sum(axis=1), counts_2C.sum()
    expected_2C = np.outer(sums_2, counts_2C.sum(axis=0)) / total
    rare_C = expected_2C.min(axis=0) < _LEAST_EXPECTED
    tested_2K = np.column_stack([counts_2C[:, ~rare_C], counts_2C[:, rare_C].sum(axis=1)])
    tested_2K = tested_2K[:, tested_2K.sum(axis=0) > 0]
    p_value = float(chi2_contingency(tested_2K).pvalue) if tested_2K.shape[1] > 1 else 1.0
    # Half a count each, so that a category that one side never had does not make it infinite.
    before_K, now_K = ((row + 0.5) / (row + 0.5).sum() for row in tested_2K)
    share_2C = counts_2C / sums_2[:, None]
    order = np.argsort(-np.abs(share_2C[1] - share_2C[0]), kind="stable")[:3]
    return ShareDifference(
        distance=float(((now_K - before_K) * np.log(now_K / before_K)).sum()),
        p_value=p_value,
        moved=tuple((names[at], float(share_2C[0, at]), float(share_2C[1, at])) for at in order),
    )
