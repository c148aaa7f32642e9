"""Position bias from a click log: how often each position is examined, relative to the first.

The same item is shown at different positions to different queries. If its cosine
and its rank by cosine are similar, its relevance is assumed to be the same, and a difference in clicks is due to
the position (intervention harvesting across queries; Agarwal et al., "Estimating Position Bias without
Intrusive Interventions", WSDM 2019). With clicks ∝ propensity of the position × relevance of the stratum, the
propensities are those of a Poisson regression with one constant per stratum. Conditional
on each stratum's clicks this is a multinomial logit without these constants, so it is consistent however few
impressions a stratum has.

Shapes: R impressions, S strata, K places (groups of positions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from immr.ranking.click_log import Bools, Ints

Values = npt.NDArray[np.float64]

PLACES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 21, 31])
"""First position of each place."""
_COSINE_GROUPS = 8
_RANK_GROUPS = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55])
_STEPS, _TOLERANCE = 50, 1e-8
_FEW_STRATA = 10  # with fewer, errors are at least those of independent clicks


@dataclass(frozen=True)
class Propensities:
    """The propensity of each place; NaN where no clicks compare the place with the first."""

    log_K: Values  # natural logarithm, 0 for the first place
    covariance_KK: Values  # of `log_K`, cluster-robust by stratum; NaN where `log_K` is

    @property
    def relative_K(self) -> Values:
        """Examination relative to the first position."""
        return np.exp(self.log_K)

    @property
    def error_K(self) -> Values:
        """(K,) standard errors of `log_K`."""
        return np.sqrt(np.diag(self.covariance_KK))

    def of(self, position_R: Ints) -> Values:
        """(R,) the propensity of each impression."""
        relative: Values = self.relative_K[places_of(position_R)]
        return relative


def places_of(position_R: Ints) -> Ints:
    """(R,) the place, from 0, of each position, from 1."""
    return np.searchsorted(PLACES, position_R, side="right") - 1


def strata(item_R: Ints, cosine_R: npt.NDArray[np.floating], first_rank_R: Ints) -> Ints:
    """(R,) impressions of one item with a similar cosine and rank by cosine share a stratum."""
    edges = np.quantile(cosine_R, np.linspace(0, 1, _COSINE_GROUPS + 1)[1:-1])
    keys = np.stack(
        [
            item_R,
            np.searchsorted(edges, cosine_R, side="right"),
            np.searchsorted(_RANK_GROUPS, first_rank_R, side="right"),
        ],
        axis=1,
    )
    _, stratum_R = np.unique(keys, axis=0, return_inverse=True)
    return stratum_R.astype(np.int64).ravel()


def estimate(stratum_R: Ints, position_R: Ints, clicked_R: Bools) -> Propensities:
    """Propensities of all places that clicks compare with the first.

    A finite estimate exists where clicks lead from the first place to a place and back: place k leads to place m if
    a stratum that showed k was clicked at m (L. R. Ford, "Solution of a Ranking Problem from Binary Comparisons",
    1957).

    Args:
        stratum_R: see `strata`.
        position_R: from 1.
        clicked_R: of the same impressions.
    """
    shown_SK, clicked_SK = _counts(stratum_R, places_of(position_R), clicked_R)
    used = np.flatnonzero(_comparable(shown_SK, clicked_SK))
    log_K = np.full(len(PLACES), np.nan)
    covariance_KK = np.full((len(PLACES), len(PLACES)), np.nan)
    log_K[0] = 0.0
    if len(used) > 1:
        log_U, covariance_UU = _fit(shown_SK[:, used], clicked_SK[:, used])
        log_K[used] = log_U
        covariance_KK[np.ix_(used, used)] = covariance_UU
    covariance_KK[0, 0] = 0.0
    return Propensities(log_K, covariance_KK)


def _counts(stratum_R: Ints, place_R: Ints, clicked_R: Bools) -> tuple[Values, Values]:
    """(S, K) impressions and clicks of the informative strata: with a click, and shown at two places or more."""
    count, width = int(stratum_R.max()) + 1, len(PLACES)
    clicks_S = np.bincount(stratum_R, clicked_R, count)
    clicked_rows = clicks_S[stratum_R] > 0
    kept_S, stratum_R = np.unique(stratum_R[clicked_rows], return_inverse=True)
    cell_R = stratum_R * width + place_R[clicked_rows]
    shape = (len(kept_S), width)
    shown_SK = np.bincount(cell_R, minlength=shape[0] * width).reshape(shape).astype(np.float64)
    clicked_SK = np.bincount(cell_R, clicked_R[clicked_rows], shape[0] * width).reshape(shape)
    compares_S = (shown_SK > 0).sum(axis=1) > 1
    return shown_SK[compares_S], clicked_SK[compares_S]


def _comparable(shown_SK: Values, clicked_SK: Values) -> Bools:
    """(K,) places to which clicks lead from the first, and from which they lead back, directly or through others."""
    leads_KK = (shown_SK > 0).astype(np.float64).T @ (clicked_SK > 0) > 0
    return _reached(leads_KK) & _reached(leads_KK.T)


def _reached(leads_KK: Bools) -> Bools:
    """(K,) places that the first leads to."""
    reached_K = np.zeros(len(PLACES), dtype=np.bool_)
    reached_K[0] = True
    for _ in PLACES:
        reached_K |= leads_KK[reached_K].any(axis=0)
    return reached_K


def _fit(shown_SU: Values, clicked_SU: Values) -> tuple[Values, Values]:
    """Newton's method for the multinomial logit; the first coefficient is 0."""
    clicks_S1 = clicked_SU.sum(axis=1, keepdims=True)
    log_U = np.zeros(shown_SU.shape[1])
    for _ in range(_STEPS):
        expected_SU, hessian_VV = _moments(shown_SU, clicks_S1, log_U)
        gradient_V = (clicked_SU - expected_SU).sum(axis=0)[1:]
        step_V = np.linalg.solve(hessian_VV, gradient_V)
        log_U[1:] += np.clip(step_V, -1, 1)
        if np.abs(step_V).max() < _TOLERANCE:
            break
    expected_SU, hessian_VV = _moments(shown_SU, clicks_S1, log_U)
    residual_SV = (clicked_SU - expected_SU)[:, 1:]
    bread_VV = np.linalg.inv(hessian_VV)
    covariance_UU = np.zeros((len(log_U), len(log_U)))
    robust_VV = bread_VV @ (residual_SV.T @ residual_SV) @ bread_VV
    # a place's residuals sum to zero, so with few strata the robust variance is too small, and with one it is zero
    missing_V = np.maximum(np.diag(bread_VV) - np.diag(robust_VV), 0)
    few_V = _effective_strata(expected_SU, clicks_S1)[1:] < _FEW_STRATA
    covariance_UU[1:, 1:] = robust_VV + np.diag(missing_V * few_V)
    return log_U, covariance_UU


def _effective_strata(expected_SU: Values, clicks_S1: Values) -> Values:
    """(U,) effective number of strata for each place: a few large ones count as few, beside many small ones."""
    information_SU = expected_SU * (1 - expected_SU / clicks_S1.clip(1))
    squares_U = np.square(information_SU).sum(axis=0)
    effective_U: Values = np.square(information_SU.sum(axis=0)) / squares_U.clip(1e-300)
    return effective_U


def _moments(shown_SU: Values, clicks_S1: Values, log_U: Values) -> tuple[Values, Values]:
    """Expected clicks of each cell, and the Hessian without the first coefficient."""
    weight_SU = shown_SU * np.exp(log_U)
    share_SU = weight_SU / weight_SU.sum(axis=1, keepdims=True).clip(1e-300)
    expected_SU = clicks_S1 * share_SU
    hessian_UU = np.diag(expected_SU.sum(axis=0)) - share_SU.T @ expected_SU
    ridge = 1e-9 * np.eye(len(log_U) - 1)
    return expected_SU, hessian_UU[1:, 1:] + ridge
