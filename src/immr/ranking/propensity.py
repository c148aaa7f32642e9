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


@dataclass(frozen=True)
class Propensities:
    """The propensity of each place; NaN where no item links the place to the first."""

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
    """Propensities of all places that strata connect to the first.

    Args:
        stratum_R: see `strata`.
        position_R: from 1.
        clicked_R: of the same impressions.
    """
    shown_SK, clicked_SK = _counts(stratum_R, places_of(position_R), clicked_R)
    connected_K = _connected(shown_SK)
    shown_SK = shown_SK * connected_K
    clicked_SK = clicked_SK * connected_K
    # a place without any click has no finite estimate
    used = np.flatnonzero(connected_K & (clicked_SK.sum(axis=0) > 0))
    log_K = np.full(len(PLACES), np.nan)
    covariance_KK = np.full((len(PLACES), len(PLACES)), np.nan)
    log_K[0] = 0.0
    if len(used) > 1 and used[0] == 0:
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


def _connected(shown_SK: Values) -> Bools:
    """(K,) places that strata connect to the first, directly or through others."""
    beside_KK = (shown_SK > 0).astype(np.float64).T @ (shown_SK > 0) > 0
    reached_K = np.zeros(len(PLACES), dtype=np.bool_)
    reached_K[0] = True
    for _ in PLACES:
        reached_K |= beside_KK[reached_K].any(axis=0)
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
    covariance_UU[1:, 1:] = bread_VV @ (residual_SV.T @ residual_SV) @ bread_VV
    return log_U, covariance_UU


def _moments(shown_SU: Values, clicks_S1: Values, log_U: Values) -> tuple[Values, Values]:
    """Expected clicks of each cell, and the Hessian without the first coefficient."""
    weight_SU = shown_SU * np.exp(log_U)
    share_SU = weight_SU / weight_SU.sum(axis=1, keepdims=True).clip(1e-300)
    expected_SU = clicks_S1 * share_SU
    hessian_UU = np.diag(expected_SU.sum(axis=0)) - share_SU.T @ expected_SU
    ridge = 1e-9 * np.eye(len(log_U) - 1)
    return expected_SU, hessian_UU[1:, 1:] + ridge
